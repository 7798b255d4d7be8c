"""A user's windows, and the buckets that stand in for points given up: one set a window, None while it needs none."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from transforms.buckets import Buckets
from transforms.features import (
    ALL_WINDOWS,
    CLAIM_WINDOWS,
    DISTINCT_WINDOWS,
    FEATURE_INDEX,
    LONG_WINDOWS,
    WINDOW_SECONDS,
)
from transforms.points import Point, Points

WINDOWS_MS: Final = tuple(seconds * 1_000 for seconds in WINDOW_SECONDS.values())
LONGEST_MS: Final = WINDOWS_MS[-1]
LONG: Final = tuple(ALL_WINDOWS.index(w) for w in LONG_WINDOWS)
DISTINCT: Final = tuple(ALL_WINDOWS.index(w) for w in DISTINCT_WINDOWS)
CLAIMS: Final = tuple(ALL_WINDOWS.index(w) for w in CLAIM_WINDOWS)
_CLAIM_COUNTS, _EVENT_COUNT = FEATURE_INDEX[f"claim_count_{CLAIM_WINDOWS[0]}"], FEATURE_INDEX["event_count_30d"]

WindowBuckets: TypeAlias = list[Buckets | None]


def count(buckets: WindowBuckets, point: Point) -> None:
    """Counts an event."""
    for bucket in buckets:
        if bucket is not None:
            bucket.add(point.time_ms, point.kind, point.amount_minor)


def take_over(buckets: WindowBuckets, points: Points) -> WindowBuckets:
    """The buckets once the oldest point is given up: from now on of each window that reaches it."""
    oldest_ms, newest_ms = points.times[0], points.times[-1]
    taken: WindowBuckets = list(buckets) or [None] * len(WINDOWS_MS)
    for k, width in enumerate(WINDOWS_MS):
        if taken[k] is None and oldest_ms > newest_ms - width:
            bucket = taken[k] = Buckets(width)
            for i, (t, kind) in enumerate(zip(points.times, points.kinds, strict=True)):
                bucket.add(t, kind, points.amount(i))
    return taken


def let_go(buckets: WindowBuckets, lost_ms: int, time_ms: int) -> WindowBuckets:
    """The buckets without those of windows that reach no given-up point any more."""
    return [b if lost_ms > time_ms - width else None for b, width in zip(buckets, WINDOWS_MS, strict=True)]


def read(buckets: WindowBuckets, lost_ms: int, values: list[Any], time_ms: int) -> None:
    """Replaces, among the features of an event, the sums of the windows that reach back to points given up.

    Args:
      lost_ms: time of the newest of these, epoch ms.
      values: in the order of `transforms.features.FEATURES`.
      time_ms: of the event.
    """
    n = len(WINDOWS_MS)
    for k, bucket in enumerate(buckets):
        if bucket is not None and lost_ms > time_ms - WINDOWS_MS[k]:
            events, logins, failures, payments, claims, amount, largest = bucket.sums(time_ms)
            values[k], values[n + k] = logins, failures
            values[2 * n + k], values[3 * n + k] = payments, amount
            if k in LONG:
                values[4 * n + k - LONG[0]] = largest
                values[4 * n + len(LONG) + k - LONG[0]] = amount / payments if payments else None
            if k in CLAIMS:
                values[_CLAIM_COUNTS + CLAIMS.index(k)] = claims
            if WINDOWS_MS[k] == LONGEST_MS:
                values[_EVENT_COUNT] = events
