"""What the features say of the session that an event belongs to, up to the event."""

from __future__ import annotations

from typing import Final

from transforms.points import LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT, Point, Points

NEVER_MS: Final = -(1 << 62)
"""Before any event."""


class SessionSoFar:
    """Sums of the session that the newest event belongs to."""

    __slots__ = ("amount_minor", "event_count", "failure_count", "login_count", "payment_count", "start_ms")

    def __init__(self, start_ms: int = NEVER_MS, *counts: int) -> None:
        self.start_ms = start_ms
        (
            self.event_count,
            self.login_count,
            self.failure_count,
            self.payment_count,
            self.amount_minor,
        ) = counts or (0, 0, 0, 0, 0)

    def add(self, point: Point) -> None:
        """Counts one more event."""
        self.event_count += 1
        if point.kind == PAYMENT:
            self.payment_count += 1
            self.amount_minor += point.amount_minor
        elif point.kind <= LOGIN_SUCCESS:
            self.login_count += 1
            self.failure_count += point.kind == LOGIN_FAILURE


def newest_session(points: Points, gap_ms: int) -> SessionSoFar:
    """The sums of the session of the newest point, read off the points."""
    n, times, kinds = len(points), points.times, points.kinds
    first = n
    while first and (first == n or times[first] - times[first - 1] < gap_ms):
        first -= 1
    failures, payments = kinds.count(LOGIN_FAILURE, first), kinds.count(PAYMENT, first)
    return SessionSoFar(
        times[first] if n else NEVER_MS,
        n - first,
        failures + kinds.count(LOGIN_SUCCESS, first),
        failures,
        payments,
        points.total - points.spent[first] if n else 0,
    )
