"""A session that isn't closed yet: sums that merge, so that no event needs to be read again to finalize it."""

from __future__ import annotations

from typing import Final

from transforms import sketches
from transforms.points import KEY_BYTES, LOGIN_FAILURE, LOGIN_SUCCESS, NO_VALUE, PAYMENT, Point
from transforms.records import SessionRecord, Trigger

CHANGED: Final = 0
PROVISIONAL: Final = 1
FINAL: Final = 2
"""What the newest record about a session's present content is: none, one by inactivity, one by the watermark."""


_IP: Final = 0
_DEVICE: Final = 4
"""Where their keys stand among the values of a point."""


class Session:
    """Sums over a chain of events, each less than a gap after the one before.

    Attributes:
      status: CHANGED, PROVISIONAL or FINAL.
      was_final: whether it, or a session joined into it, has been finalized by the watermark before.
      emitted: start and end of the records that were emitted for it or its parts and not retracted.
    """

    __slots__ = (
        "amount_minor",
        "approximate",
        "devices",
        "emitted",
        "event_count",
        "failure_count",
        "ips",
        "last_ms",
        "login_count",
        "payment_count",
        "start_ms",
        "status",
        "was_final",
    )

    def __init__(self, time_ms: int) -> None:
        self.start_ms = self.last_ms = time_ms
        self.status = CHANGED
        self.was_final = False
        self.approximate = False
        self.emitted: list[tuple[int, int]] = []
        self.event_count = self.login_count = self.failure_count = self.payment_count = self.amount_minor = 0
        self.ips: set[bytes] = set()
        self.devices: set[bytes] = set()

    def add(self, point: Point) -> None:
        """Takes one more event in."""
        time_ms = point.time_ms
        if time_ms > self.last_ms:
            self.last_ms = time_ms
        elif time_ms < self.start_ms:
            self.start_ms = time_ms
        self.status = CHANGED
        self.event_count += 1
        if point.kind == PAYMENT:
            self.payment_count += 1
            self.amount_minor += point.amount_minor
        elif point.kind <= LOGIN_SUCCESS:
            self.login_count += 1
            self.failure_count += point.kind == LOGIN_FAILURE
        ip, device = point.values[_IP : _IP + KEY_BYTES], point.values[_DEVICE : _DEVICE + KEY_BYTES]
        if ip not in self.ips and ip != NO_VALUE:
            sketches.add(self.ips, ip)
        if device not in self.devices and device != NO_VALUE:
            sketches.add(self.devices, device)

    def join(self, other: Session) -> None:
        """Takes another session in whole."""
        self.start_ms = min(self.start_ms, other.start_ms)
        self.last_ms = max(self.last_ms, other.last_ms)
        self.status = CHANGED
        self.was_final |= other.was_final
        self.approximate |= other.approximate
        self.emitted += other.emitted
        self.event_count += other.event_count
        self.login_count += other.login_count
        self.failure_count += other.failure_count
        self.payment_count += other.payment_count
        self.amount_minor += other.amount_minor
        self.ips = sketches.merge(self.ips, other.ips)
        self.devices = sketches.merge(self.devices, other.devices)

    def record(self, user_id: str, gap_ms: int, version: int, trigger: Trigger) -> SessionRecord:
        """The session as it is now."""
        return SessionRecord(
            user_id=user_id,
            start_ms=self.start_ms,
            end_ms=self.last_ms + gap_ms,
            version=version,
            trigger=trigger,
            provisional=trigger == "INACTIVITY",
            approximate=self.approximate or not (sketches.is_exact(self.ips) and sketches.is_exact(self.devices)),
            event_count=self.event_count,
            login_count=self.login_count,
            login_failure_count=self.failure_count,
            payment_count=self.payment_count,
            amount_minor=self.amount_minor,
            distinct_ip_count=sketches.count(self.ips),
            distinct_device_count=sketches.count(self.devices),
        )


def place(sessions: list[Session], point: Point, gap_ms: int) -> Session:
    """Puts an event where it belongs among a user's sessions, joining those it bridges.

    Args:
      sessions: ordered by time, at least a gap apart; changed in place.

    Returns:
      The session that now holds the event.
    """
    time_ms = point.time_ms
    if sessions:
        newest = sessions[-1]
        if newest.start_ms <= time_ms < newest.last_ms + gap_ms:
            newest.add(point)
            return newest
    touched = [i for i, s in enumerate(sessions) if s.start_ms - gap_ms < time_ms < s.last_ms + gap_ms]
    if not touched:
        session = Session(time_ms)
        session.add(point)
        sessions.append(session)
        sessions.sort(key=lambda s: s.start_ms)
        return session
    session = sessions[touched[0]]
    session.add(point)
    for i in reversed(touched[1:]):
        session.join(sessions.pop(i))
    return session
