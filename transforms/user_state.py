"""What the aggregation remembers of one user."""

from __future__ import annotations

from transforms.history import History
from transforms.session_so_far import NEVER_MS
from transforms.sessions import Session


class UserState:
    """All that is kept of a user, but the log. `transforms.state_codec` gives its bytes.

    Attributes:
      closed_through_ms: end of the latest session closed for good; what lies before is too late.
      newest_ms: time of the newest event.
      log_count: entries in the log; events past its bound aren't in it.
      disorder_ms: time of the earliest event since the last repair that arrived after a later one.
      timer_ms: when the pending event-time timer fires; the DoFn's, to set no timer that is set already.
      inactivity_ms: when the pending processing-time timer fires, in the runner's processing time; the DoFn's too.
    """

    __slots__ = (
        "closed_through_ms",
        "disorder_ms",
        "history",
        "inactivity_ms",
        "log_count",
        "log_overflow",
        "newest_ms",
        "sessions",
        "timer_ms",
        "user_id",
        "version",
    )

    def __init__(self, user_id: str, version: int, history: History) -> None:
        self.user_id = user_id
        self.version = version
        self.history = history
        self.sessions: list[Session] = []
        self.closed_through_ms = NEVER_MS
        self.newest_ms = NEVER_MS
        self.log_count = 0
        self.log_overflow = False
        self.disorder_ms: int | None = None
        self.timer_ms: int | None = None
        self.inactivity_ms: int | None = None
