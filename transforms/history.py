"""The features of an event, computed one by one in order of event time, without a loop over earlier events.

`History.observe` takes the newest event; `History.insert` one that belongs among the earlier ones, by taking the
later points off and observing them again. Both give what a fold over the sorted set of events would give.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import chain
from typing import Any

import mmh3
import msgspec

from transforms import window_buckets
from transforms.geography import distance_km
from transforms.points import (
    CLAIM,
    COUNTRY,
    DEVICE,
    LOGIN_FAILURE,
    LOGIN_SUCCESS,
    MERCHANT,
    NEW_COUNTRY_LOGIN,
    NEW_DEVICE_LOGIN,
    PAYEE,
    PAYMENT,
    SIGNUP,
    UNSURE_LOGIN,
    Point,
    Points,
)
from transforms.recency import Recency, shift_down
from transforms.session_so_far import NEVER_MS, SessionSoFar, newest_session
from transforms.window_buckets import CLAIMS, DISTINCT, LONG, LONGEST_MS, WINDOWS_MS, WindowBuckets

_encode = msgspec.msgpack.Encoder().encode


class History:
    """A user's points, and what can't be read off them at once.

    Attributes:
      recency: the values shown by the points.
      peaks: positions of the payments that no later payment reaches, so that the largest amount of a window is that
        of the first peak in it; `peak_amounts` has theirs.
      session: of the newest point.
      lost_ms: time of the newest point given up for the bound; windows that reach back to it are approximate.
      approximate: whether the features given last lack points that were given up.
      buckets: coarse sums by window, only while a point within the window has been given up.
      said: digests, by id, of what was last said of points that are marked as changed.
    """

    __slots__ = (
        "approximate",
        "buckets",
        "gap_ms",
        "lost_ms",
        "max_points",
        "peak_amounts",
        "peaks",
        "points",
        "recency",
        "said",
        "session",
    )

    def __init__(self, gap_ms: int, max_points: int) -> None:
        self.gap_ms = gap_ms
        self.max_points = max_points
        self.points = Points()
        self.recency = Recency()
        self.peaks = bytearray()
        self.peak_amounts = array("q")
        self.session = SessionSoFar()
        self.approximate = False
        self.lost_ms = NEVER_MS
        self.buckets: WindowBuckets = []
        self.said: dict[bytes, bytes] = {}

    def insert(self, point: Point) -> list[Any]:
        """The features of an event wherever it belongs among the open points; later ones it changes are marked.

        Returns:
          The values in the order of `transforms.features.FEATURES`.
        """
        time_ms, points = point.time_ms, self.points
        position = points.position(time_ms, point.id_key)
        if position == len(points.times):
            window_buckets.count(self.buckets, point)
            features = self.observe(point)
        else:
            session, lost_in_session = self.session, self.session.start_ms <= self.lost_ms
            later = self.rewind(position)
            said = self._said_of(later)
            window_buckets.count(self.buckets, point)
            features = self.observe(point)
            approximate = self.approximate
            # What was new at a login is judged at its own time, so an event can change what is said of one that lies
            # up to two longest windows later.
            login_changed_ms = NEVER_MS
            for p in later:
                self.observe(p)
                if p.kind == LOGIN_SUCCESS:
                    login_changed_ms = p.time_ms if points.flags[-1] != p.flags else NEVER_MS
                if max(time_ms, login_changed_ms) > p.time_ms - LONGEST_MS or self.session.start_ms <= time_ms:
                    points.mark_changed()
                    if not p.changed:
                        self.said[p.id_key] = said[p.id_key]
            self.approximate = approximate
            if lost_in_session:
                session.add(point)
                self.session = session
        if len(points.times) > self.max_points:
            self._give_up_oldest()
        return features

    def _said_of(self, later: list[Point]) -> dict[bytes, bytes]:
        """Digests of what was said of those among the points from here on that aren't marked as changed."""
        said: dict[bytes, bytes] = {}
        unmarked = [i for i, p in enumerate(later) if not p.changed]
        if unmarked:
            position = len(self.points)
            for p in later[: unmarked[-1] + 1]:
                features = self.observe(p)
                if not p.changed:
                    said[p.id_key] = self.digest(features)
            self.rewind(position)
        return said

    def digest(self, features: list[Any]) -> bytes:
        """A digest, 8 bytes, of what is said of the newest point: its features, its session's start, how exact."""
        said: bytes = _encode((features, self.session.start_ms, self.approximate))
        return int(mmh3.hash64(said, signed=False)[0]).to_bytes(8, "big")

    def rewind(self, position: int) -> list[Point]:
        """Goes back to before the point at a position, which must be open, and returns it and the later ones."""
        points = self.points
        later = points.truncate(position)
        if later:
            self.recency.rewind(position, points)
            self._rewind_peaks(position)
            self.session = newest_session(points, self.gap_ms)
        return later

    def observe(self, point: Point) -> list[Any]:
        """The features of the newest event, in the order of `transforms.features.FEATURES`."""
        points, recency, time_ms = self.points, self.recency, point.time_ms
        times, kinds, i = points.times, points.kinds, len(points.times)
        kind, amount = point.kind, point.amount_minor

        starts = []
        start = i
        for width in WINDOWS_MS:
            if start and times[start - 1] > time_ms - width:
                start = bisect_right(times, time_ms - width, 0, start - 1)
            starts.append(start)

        session = self.session
        if not i or time_ms - times[-1] >= self.gap_ms:
            session = self.session = SessionSoFar(time_ms)
        session.add(point)

        is_approximate = self.lost_ms > time_ms - LONGEST_MS
        place = point.place
        previous_place = None if place is None else points.last_place(time_ms - LONGEST_MS)
        had_devices = had_countries = False
        if kind == LOGIN_SUCCESS:
            had_devices, had_countries = recency.has_own(DEVICE, start), recency.has_own(COUNTRY, start)
        seen = recency.touch(point.values, i, kind != LOGIN_FAILURE)
        is_new_device, is_new_country = 0 <= seen[DEVICE] <= start, 0 <= seen[COUNTRY] <= start
        flags = 0
        if kind == LOGIN_SUCCESS:
            flags = NEW_DEVICE_LOGIN * (is_new_device and had_devices)
            flags |= NEW_COUNTRY_LOGIN * (is_new_country and had_countries)
            flags |= UNSURE_LOGIN * is_approximate
        points.append(point, flags)

        count, spent, total = kinds.count, points.spent, points.total
        logins, failures, payments, amounts = [], [], [], []
        until = i + 1
        login_count = failure_count = payment_count = 0
        for s in starts:
            if s != until:
                failed = count(LOGIN_FAILURE, s, until)
                failure_count += failed
                login_count += failed + count(LOGIN_SUCCESS, s, until)
                payment_count += count(PAYMENT, s, until)
                until = s
            logins.append(login_count)
            failures.append(failure_count)
            payments.append(payment_count)
            amounts.append(total - spent[s])
        peaks, peak_amounts = self.peaks, self.peak_amounts
        to_mean = to_largest = None
        if kind == PAYMENT:
            if payments[-1] > 1 and amounts[-1] > amount:
                to_mean = amount * (payments[-1] - 1) / (amounts[-1] - amount)
                to_largest = amount / peak_amounts[bisect_left(peaks, start)]
            while peaks and peak_amounts[-1] <= amount:
                del peaks[-1], peak_amounts[-1]
            peaks.append(i)
            peak_amounts.append(amount)
        largest = [peak_amounts[bisect_left(peaks, starts[k])] if payments[k] else 0 for k in LONG]

        login = kinds.rfind(LOGIN_SUCCESS, start)
        if login == i:
            earlier_login = before_login = kinds.rfind(LOGIN_SUCCESS, start, i)
        else:
            earlier_login = login
            before_login = kinds.rfind(LOGIN_SUCCESS, start, login) if login >= 0 else -1
        login_flags = points.flags[login] if login >= 0 else 0
        self.approximate = is_approximate or login_flags & UNSURE_LOGIN != 0
        signup = kinds.rfind(SIGNUP, start)
        travel_km = travel_kmh = None
        if previous_place is not None:
            travel_km = distance_km(previous_place, place)  # type: ignore[arg-type]
            travel_kmh = travel_km * 3_600_000 / max(time_ms - previous_place[2], 60_000)

        values = [
            *logins,
            *failures,
            *payments,
            *amounts,
            *largest,
            *[amounts[k] / payments[k] if payments[k] else None for k in LONG],
            *chain.from_iterable(zip(*recency.counts([starts[k] for k in DISTINCT]), strict=True)),
            *[count(CLAIM, starts[k]) for k in CLAIMS],
            i + 1 - start,
            i == start and not is_approximate,
            (time_ms - times[i - 1]) / 1_000 if i > start else None,
            travel_km,
            travel_kmh,
            0 <= seen[0] <= start,
            is_new_device,
            is_new_country,
            0 <= seen[PAYEE] <= start,
            0 <= seen[MERCHANT] <= start,
            count(LOGIN_FAILURE, login + 1 if login >= 0 else start),
            count(LOGIN_FAILURE, before_login + 1 if before_login >= 0 else start, login) if login >= 0 else 0,
            (time_ms - times[earlier_login]) / 1_000 if earlier_login >= 0 else None,
            login_flags & NEW_DEVICE_LOGIN != 0,
            login_flags & NEW_COUNTRY_LOGIN != 0,
            kind == PAYMENT and login >= 0 and kinds.find(PAYMENT, login + 1) == i,
            (time_ms - times[signup]) / 1_000 if signup >= 0 else None,
            to_mean,
            to_largest,
            session.event_count,
            session.login_count,
            session.failure_count,
            session.payment_count,
            session.amount_minor,
            (time_ms - session.start_ms) / 1_000,
        ]
        if self.buckets:
            window_buckets.read(self.buckets, self.lost_ms, values, time_ms)
        return values

    def close_before(self, time_ms: int) -> None:
        """Lets go of what only events before `time_ms` need, as none will be accepted any more."""
        points = self.points
        closed = points.closed_count
        first = bisect_left(points.times, time_ms, closed)
        later = self.rewind(first) if first < len(points) else []
        points.close(first - closed)
        self.recency.close()
        if points.times and points.times[0] <= time_ms - LONGEST_MS:
            self._drop_front(bisect_right(points.times, time_ms - LONGEST_MS))
        for point in later:
            self.observe(point)
        if self.said:
            self.said = {p.id_key: self.said[p.id_key] for p in later if p.id_key in self.said}
        if self.lost_ms != NEVER_MS:
            self.buckets = window_buckets.let_go(self.buckets, self.lost_ms, time_ms)
            if self.lost_ms <= time_ms - LONGEST_MS:
                self.lost_ms, self.buckets = NEVER_MS, []

    def _drop_front(self, n: int) -> None:
        self.points.drop_front(n)
        self.recency.drop_front(n)
        gone = bisect_left(self.peaks, n)
        self.peaks = self.peaks[gone:].translate(shift_down(n))
        del self.peak_amounts[:gone]

    def _give_up_oldest(self) -> None:
        """Holds the bound on points: the oldest goes, and buckets take over for the windows that reach it."""
        points = self.points
        time_ms = points.times[0]
        self.buckets = window_buckets.take_over(self.buckets, points)
        if self.said and not points.closed_count:
            self.said.pop(points.point(0).id_key, None)
        self._drop_front(1)
        self.lost_ms = max(self.lost_ms, time_ms)

    def _rewind_peaks(self, end: int) -> None:
        """The peaks of the points before position `end`, after those from there on are gone."""
        peaks, points = self.peaks, self.points
        keep = bisect_left(peaks, end)
        del peaks[keep:], self.peak_amounts[keep:]
        back: list[tuple[int, int]] = []
        since = peaks[-1] + 1 if peaks else 0
        at = points.kinds.rfind(PAYMENT, since, end)
        while at >= 0:
            amount = points.amount(at)
            if not back or amount > back[-1][1]:
                back.append((at, amount))
            at = points.kinds.rfind(PAYMENT, since, at)
        for at, amount in reversed(back):
            peaks.append(at)
            self.peak_amounts.append(amount)
