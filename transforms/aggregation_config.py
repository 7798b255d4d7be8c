"""What the aggregation of a user goes by."""

from __future__ import annotations

import msgspec

from transforms.points import MAX_POINTS_LIMIT


class AggregationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the aggregation goes by.

    Attributes:
      gap_seconds: silence, in event time, that ends a session.
      grace_seconds: how long after its end, by the watermark, a session can still be corrected.
      inactivity_seconds: silence, in processing time, after which open sessions are finalized provisionally.
      retention_seconds: how long after the newest event, in event time, a user is remembered.
      max_points: most events a user's features are exact over (at most 254).
      max_log_events: most events kept for correction while their sessions are open.
      max_open_sessions: most sessions of a user that can be open at a time.

    Raises:
      ValueError: a value is out of range; the message gives the range.
    """

    gap_seconds: float = 300
    grace_seconds: float = 300
    inactivity_seconds: float = 300
    retention_seconds: float = 30 * 86_400
    max_points: int = 240
    max_log_events: int = 1_024
    max_open_sessions: int = 64

    @property
    def correctable_seconds(self) -> float:
        """How long after an event's time, by the watermark, what was said of it can still be corrected.

        Sessions are corrected while all of their events are held: `max_points` at most, each less than a gap after the
        one before. After the last one come another gap and the grace period.
        """
        return self.max_points * self.gap_seconds + self.grace_seconds

    def __post_init__(self) -> None:
        for name in ("gap_seconds", "inactivity_seconds", "retention_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number of seconds above 0")
        if not self.grace_seconds >= 0:
            raise ValueError(f"grace_seconds is {self.grace_seconds}: give a number of seconds, 0 or more")
        if not 2 <= self.max_points <= MAX_POINTS_LIMIT:
            raise ValueError(f"max_points is {self.max_points}: give a number from 2 to {MAX_POINTS_LIMIT}")
        for name in ("max_log_events", "max_open_sessions"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number of 1 or more")
