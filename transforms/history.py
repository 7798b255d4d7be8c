"""The features of an event, computed one by one in order of event time in constant amortized time.

`History.observe` takes the newest event; `History.insert` one that belongs among the earlier ones, by taking the
later points off and observing them again. Both give what a fold over the sorted set of events would give.
"""

from __future__ import annotations

from bisect import bisect_right
from math import asin, cos, radians, sin, sqrt
from typing import Any

from transforms.buckets import Buckets
from transforms.features import ALL_WINDOWS, DISTINCT_WINDOWS, LONG_WINDOWS, WINDOW_SECONDS
from transforms.points import (
    COUNTRY,
    DEVICE,
    DIMENSIONS,
    LOGIN_FAILURE,
    LOGIN_SUCCESS,
    NEW_COUNTRY_LOGIN,
    NEW_DEVICE_LOGIN,
    PAYMENT,
    Point,
    Points,
)

WINDOWS_MS = tuple(seconds * 1_000 for seconds in WINDOW_SECONDS.values())
LONGEST = len(WINDOWS_MS) - 1
LONGEST_MS = WINDOWS_MS[LONGEST]
LONG = tuple(ALL_WINDOWS.index(w) for w in LONG_WINDOWS)
DISTINCT = tuple(ALL_WINDOWS.index(w) for w in DISTINCT_WINDOWS)

EARTH_RADIUS_KM = 6371.0088
"""Mean radius R1 of the Earth (IUGG, Moritz 1980)."""

NEVER_MS = -(1 << 62)
"""Before any event."""


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance between two places in degrees, by the haversine formula (Sinnott 1984)."""
    lat_a, lat_b = radians(a[0]), radians(b[0])
    half_lat, half_lon = (lat_b - lat_a) / 2, radians(b[1] - a[1]) / 2
    h = sin(half_lat) ** 2 + cos(lat_a) * cos(lat_b) * sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(h)))


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
        else:
            self.login_count += 1
            self.failure_count += point.kind == LOGIN_FAILURE


class History:
    """A user's points with the running sums of every sliding window as of the newest point.

    Attributes:
      lost_ms: time of the newest point given up for the bound; windows that reach back to it are approximate.
      buckets: coarse sums, only while a point within the longest window has been given up.
    """

    __slots__ = (
        "amounts",
        "buckets",
        "distinct",
        "failures",
        "gap_ms",
        "logins",
        "lost_ms",
        "max_points",
        "maxima",
        "payments",
        "points",
        "session",
        "starts",
    )

    def __init__(self, gap_ms: int, max_points: int) -> None:
        self.gap_ms = gap_ms
        self.max_points = max_points
        self.points = Points()
        self.starts = [0] * len(WINDOWS_MS)
        self.logins = [0] * len(WINDOWS_MS)
        self.failures = [0] * len(WINDOWS_MS)
        self.payments = [0] * len(WINDOWS_MS)
        self.amounts = [0] * len(WINDOWS_MS)
        self.maxima = [0] * len(LONG)
        self.distinct = [0] * (len(DIMENSIONS) * len(DISTINCT))
        self.session = SessionSoFar()
        self.lost_ms = NEVER_MS
        self.buckets: Buckets | None = None

    def is_approximate(self, time_ms: int) -> bool:
        """Whether features as of a time lack points that were given up."""
        return self.lost_ms > time_ms - LONGEST_MS

    def insert(self, point: Point) -> list[Any]:
        """The features of an event wherever it belongs among the open points.

        Returns:
          The values in the order of `transforms.features.FEATURES`.
        """
        position = self.points.position(point.time_ms, point.id_hash)
        if self.buckets is not None:
            self.buckets.add(point.time_ms, point.kind, point.amount_minor)
        if position == len(self.points):
            features = self.observe(point)
        else:
            session, lost_in_session = self.session, self.session.start_ms <= self.lost_ms
            later = self.rewind(position)
            features = self.observe(point)
            for p in later:
                self.observe(p)
            if lost_in_session:
                session.add(point)
                self.session = session
        if len(self.points) > self.max_points:
            self._give_up_oldest()
        return features

    def rewind(self, position: int) -> list[Point]:
        """Goes back to before the point at a position, which must be open, and returns it and the later ones."""
        later = self.points.truncate(position)
        self._recount()
        return later

    def observe(self, point: Point) -> list[Any]:
        """The features of the newest event, in the order of `transforms.features.FEATURES`."""
        points, time_ms = self.points, point.time_ms
        times, i = points.times, len(points.times)
        self.advance(time_ms)
        start = self.starts[LONGEST]
        last_payments, last_amount, last_max = self.payments[LONGEST], self.amounts[LONGEST], self.maxima[-1]

        session = self.session
        if i == 0 or time_ms - times[i - 1] >= self.gap_ms:
            session = self.session = SessionSoFar(time_ms)
        session.add(point)

        codes = points.append(point)
        is_new = self._count_values(codes, i)
        kind, amount = point.kind, point.amount_minor
        if kind == PAYMENT:
            self.payments = [n + 1 for n in self.payments]
            self.amounts = [n + amount for n in self.amounts]
            self.maxima = [n if n > amount else amount for n in self.maxima]
        else:
            self.logins = [n + 1 for n in self.logins]
            if kind == LOGIN_FAILURE:
                self.failures = [n + 1 for n in self.failures]

        kinds, flags = points.kinds, points.flags
        if kind == LOGIN_SUCCESS:
            flags[i] = self._login_flags(codes, is_new, i, start)
        login = kinds.rfind(LOGIN_SUCCESS, start, i + 1)
        earlier_login = login if login < i else kinds.rfind(LOGIN_SUCCESS, start, i)
        before_login = kinds.rfind(LOGIN_SUCCESS, start, login) if login >= 0 else -1
        login_flags = flags[login] if login >= 0 else 0
        travel_km, travel_kmh = self._travel(point, i, start)
        payment_with_past = kind == PAYMENT and last_payments > 0 and last_amount > 0

        values = [
            *self.logins,
            *self.failures,
            *self.payments,
            *self.amounts,
            *self.maxima,
            *[self.amounts[k] / self.payments[k] if self.payments[k] else None for k in LONG],
            *self.distinct,
            i == start and self.lost_ms <= time_ms - LONGEST_MS,
            (time_ms - times[i - 1]) / 1_000 if i > start else None,
            travel_km,
            travel_kmh,
            is_new[0],
            is_new[DEVICE],
            is_new[COUNTRY],
            is_new[4],
            kinds.count(LOGIN_FAILURE, max(login + 1, start), i + 1),
            kinds.count(LOGIN_FAILURE, max(before_login + 1, start), login) if login >= 0 else 0,
            (time_ms - times[earlier_login]) / 1_000 if earlier_login >= 0 else None,
            bool(login_flags & NEW_DEVICE_LOGIN),
            bool(login_flags & NEW_COUNTRY_LOGIN),
            kind == PAYMENT and login >= 0 and kinds.find(PAYMENT, login + 1, i) < 0,
            amount * last_payments / last_amount if payment_with_past else None,
            amount / last_max if payment_with_past else None,
            session.event_count,
            session.login_count,
            session.failure_count,
            session.payment_count,
            session.amount_minor,
            (time_ms - session.start_ms) / 1_000,
        ]
        if self.buckets is not None:
            self._read_buckets(values, time_ms)
        return values

    def close_before(self, time_ms: int) -> None:
        """Lets go of what only events before `time_ms` need, as none will be accepted any more."""
        self.points.close_before(time_ms)
        self.advance(time_ms)
        if expired := bisect_right(self.points.times, time_ms - LONGEST_MS):
            self._drop_front(expired)
            self.points.collect_values()
        if not self.is_approximate(time_ms):
            self.lost_ms, self.buckets = NEVER_MS, None

    def advance(self, time_ms: int) -> None:
        """Slides every window to end at a time."""
        times, starts = self.points.times, self.starts
        n = len(times)
        if not n:
            return
        newest = times[-1]
        for k, width in enumerate(WINDOWS_MS):
            start, cutoff = starts[k], time_ms - width
            if start < n and times[start] <= cutoff:
                if newest <= cutoff:
                    self._empty(k)
                    start = n
                while start < n and times[start] <= cutoff:
                    self._leave(k, start)
                    start += 1
                starts[k] = start

    def _count_values(self, codes: list[int], i: int) -> list[bool]:
        """Counts the newest point's values in the distinct counts; says which are new in the longest window."""
        is_new = [False] * len(codes)
        distinct, columns, trusted = self.distinct, self.points.codes, self.points.trusted
        hour, day, month = (self.starts[k] for k in DISTINCT)
        at = 0
        for d, code in enumerate(codes):
            if code:
                previous = columns[d].rfind(code, 0, i)
                if previous < hour:
                    distinct[at] += 1
                    if previous < day:
                        distinct[at + 1] += 1
                        if previous < month:
                            distinct[at + 2] += 1
                if d < len(trusted):
                    previous = trusted[d].rfind(code, 0, i)
                is_new[d] = previous < month
            at += 3
        return is_new

    def _login_flags(self, codes: list[int], is_new: list[bool], i: int, start: int) -> int:
        """Whether a login comes from a new device or country of a user who had others."""
        flags = 0
        for d, flag in ((DEVICE, NEW_DEVICE_LOGIN), (COUNTRY, NEW_COUNTRY_LOGIN)):
            if is_new[d] and self.points.trusted[d].count(0, start, i) < i - start:
                flags |= flag
        return flags

    def _travel(self, point: Point, i: int, start: int) -> tuple[float | None, float | None]:
        previous = start + len(self.points.places[start:i].rstrip(b"\0")) - 1
        if point.place is None or previous < start:
            return None, None
        km = distance_km(self.points.place(previous), point.place)  # type: ignore[arg-type]
        return km, km * 3_600_000 / max(point.time_ms - self.points.times[previous], 60_000)

    def _empty(self, k: int) -> None:
        """Takes all points out of the sums of window `k`."""
        self.logins[k] = self.failures[k] = self.payments[k] = self.amounts[k] = 0
        if k in LONG:
            self.maxima[k - LONG[0]] = 0
        if k in DISTINCT:
            for at in range(DISTINCT.index(k), len(self.distinct), len(DISTINCT)):
                self.distinct[at] = 0

    def _leave(self, k: int, i: int) -> None:
        """Takes point `i`, the oldest of window `k`, out of its sums."""
        points = self.points
        kind = points.kinds[i]
        if kind == PAYMENT:
            amount = points.amounts[i]
            self.payments[k] -= 1
            self.amounts[k] -= amount
            if k in LONG and amount == self.maxima[k - LONG[0]]:
                self.maxima[k - LONG[0]] = max(points.amounts[i + 1 :], default=0)
        else:
            self.logins[k] -= 1
            self.failures[k] -= kind == LOGIN_FAILURE
        if k in DISTINCT:
            j = DISTINCT.index(k)
            for d, column in enumerate(points.codes):
                if column[i] and column.find(column[i], i + 1) < 0:
                    self.distinct[d * len(DISTINCT) + j] -= 1

    def _leave_all(self) -> None:
        """Takes the oldest point out of every window that it is in."""
        points, starts = self.points, self.starts
        kind, amount = points.kinds[0], points.amounts[0]
        for k, start in enumerate(starts):
            if start == 0:
                if kind == PAYMENT:
                    self.payments[k] -= 1
                    self.amounts[k] -= amount
                    if k in LONG and amount == self.maxima[k - LONG[0]]:
                        self.maxima[k - LONG[0]] = max(points.amounts[1:], default=0)
                else:
                    self.logins[k] -= 1
                    self.failures[k] -= kind == LOGIN_FAILURE
        for d, column in enumerate(points.codes):
            if column[0] and column.find(column[0], 1) < 0:
                for j, k in enumerate(DISTINCT):
                    self.distinct[d * len(DISTINCT) + j] -= starts[k] == 0

    def _drop_front(self, n: int) -> None:
        self.points.drop_front(n)
        self.starts = [max(0, start - n) for start in self.starts]

    def _give_up_oldest(self) -> None:
        """Holds the bound on points: the oldest goes, and buckets take over for the windows that reach it."""
        points = self.points
        time_ms = points.times[0]
        if self.buckets is None and time_ms > points.times[-1] - LONGEST_MS:
            self.buckets = Buckets()
            for t, kind, amount in zip(points.times, points.kinds, points.amounts, strict=True):
                self.buckets.add(t, kind, amount)
        self._leave_all()
        self._drop_front(1)
        self.lost_ms = max(self.lost_ms, time_ms)

    def _read_buckets(self, values: list[Any], time_ms: int) -> None:
        """Replaces the sums of the windows that reach back to points given up."""
        assert self.buckets is not None
        n = len(WINDOWS_MS)
        for k, width in enumerate(WINDOWS_MS):
            if self.lost_ms > time_ms - width:
                logins, failures, payments, amount, largest = self.buckets.sums(k, time_ms)
                values[k], values[n + k], values[2 * n + k], values[3 * n + k] = (
                    logins,
                    failures,
                    payments,
                    amount,
                )
                if k in LONG:
                    values[4 * n + k - LONG[0]] = largest
                    values[4 * n + len(LONG) + k - LONG[0]] = amount / payments if payments else None

    def _recount(self) -> None:
        """The running sums as of the newest point, from the points."""
        points = self.points
        n = len(points)
        newest = points.times[-1] if n else NEVER_MS
        for k, width in enumerate(WINDOWS_MS):
            start = self.starts[k] = bisect_right(points.times, newest - width)
            self.failures[k] = points.kinds.count(LOGIN_FAILURE, start)
            self.payments[k] = points.kinds.count(PAYMENT, start)
            self.logins[k] = n - start - self.payments[k]
            self.amounts[k] = sum(points.amounts[start:])
        self.maxima = [max(points.amounts[self.starts[k] :], default=0) for k in LONG]
        self.distinct = [len(set(column[self.starts[k] :]) - {0}) for column in points.codes for k in DISTINCT]
        first = n
        while first and (first == n or points.times[first] - points.times[first - 1] < self.gap_ms):
            first -= 1
        kinds = points.kinds
        self.session = SessionSoFar(
            points.times[first] if n else NEVER_MS,
            n - first,
            n - first - kinds.count(PAYMENT, first),
            kinds.count(LOGIN_FAILURE, first),
            kinds.count(PAYMENT, first),
            sum(points.amounts[first:]),
        )
