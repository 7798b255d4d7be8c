"""Sums of windows by fixed buckets of time: the coarse memory a user falls back to past the bound on points.

Sums are commutative and the buckets are aligned to the epoch, so what a bucket holds is a function of the set of
events, whatever their order. A window is answered with the last `PER_WINDOW` buckets, the current one included: it
is at most one bucket, a thirtieth, shorter than asked for, and never counts an event twice.
"""

from __future__ import annotations

from transforms.features import WINDOW_SECONDS
from transforms.points import LOGIN_FAILURE, PAYMENT, Point

PER_WINDOW = 30
WIDTHS_MS = tuple(seconds * 1_000 // PER_WINDOW for seconds in WINDOW_SECONDS.values())

Sums = list[int]
"""Logins, failed logins, payments, amount in minor units, largest amount in minor units."""


class Buckets:
    """For each sliding window, the sums of its buckets by bucket number."""

    __slots__ = ("rings",)

    def __init__(self, rings: list[dict[int, Sums]] | None = None) -> None:
        self.rings = rings if rings is not None else [{} for _ in WIDTHS_MS]

    def add(self, point: Point) -> None:
        """Counts a point in the bucket of each window."""
        for ring, width in zip(self.rings, WIDTHS_MS, strict=True):
            number = point.time_ms // width
            sums = ring.get(number)
            if sums is None:
                newest = max(ring, default=number)
                if number <= newest - PER_WINDOW:
                    continue
                sums = ring[number] = [0, 0, 0, 0, 0]
                if number > newest:
                    for old in [n for n in ring if n <= number - PER_WINDOW]:
                        del ring[old]
            if point.kind == PAYMENT:
                sums[2] += 1
                sums[3] += point.amount_minor
                sums[4] = max(sums[4], point.amount_minor)
            else:
                sums[0] += 1
                sums[1] += point.kind == LOGIN_FAILURE

    def sums(self, window: int, time_ms: int) -> Sums:
        """The sums of a window (by its position in `WINDOW_SECONDS`) as of a time."""
        number = time_ms // WIDTHS_MS[window]
        total = [0, 0, 0, 0, 0]
        for n, sums in self.rings[window].items():
            if number - PER_WINDOW < n <= number:
                for i in range(4):
                    total[i] += sums[i]
                total[4] = max(total[4], sums[4])
        return total
