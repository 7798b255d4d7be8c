"""Counters of the past of an entity that has too many events to keep: running totals at points of a time grid.

The number of events between two times is the difference of two totals, so joining two buckets is just to forget
the total between them. The grid gets coarser with age, as coarse as the declared windows allow: the buckets at the
edges of a window are at most a sixteenth of its length wide, and events are taken as spread evenly over a bucket.
So a count is off by no more than the events in the two buckets at the window's edges.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

PARTS = 16
"""A window's edges are known to this part of its length."""

_SPARE = 32


class Ladder:
    """How wide a bucket may be by its age.

    Args:
      windows: (delay, length) of each window in milliseconds.
      keep_ms: age at which a bucket is dropped.
    """

    def __init__(self, windows: Iterable[tuple[int, int]], keep_ms: int) -> None:
        edges = sorted({(delay + length, length) for delay, length in windows})
        self.ages: list[int] = []
        self.widths: list[int] = []
        for age, _ in edges:
            finest = min(length for end, length in edges if end >= age)
            self.ages.append(age)
            self.widths.append(1 << max(0, (finest // PARTS).bit_length() - 1))
        self.keep_ms = keep_ms
        spans = zip([0, *self.ages], self.ages, self.widths, strict=False)
        late = -(-(keep_ms - self.ages[-1]) // self.widths[-1]) if self.ages else 0
        self.limit = sum(-(-(end - start) // width) + 1 for start, end, width in spans) + late + _SPARE

    def width(self, age_ms: int) -> int:
        """The width of a bucket of that age, a power of two, in milliseconds."""
        if not self.ages:
            return 1
        return self.widths[min(bisect_left(self.ages, age_ms), len(self.widths) - 1)]


class Checkpoints:
    """Running totals of some columns at the ends of buckets, in order of time.

    Attributes:
      ends: ends of the buckets, epoch ms, inclusive; the first is where the first bucket starts.
      totals: of each column the total up to each end, at the first that of all before.
    """

    __slots__ = ("ends", "totals")

    def __init__(self, ends: array[int], totals: list[array[int]]) -> None:
        self.ends = ends
        self.totals = totals

    def add(self, time_ms: int, increments: Sequence[tuple[int, int]], newest_ms: int, ladder: Ladder) -> None:
        """Adds to columns, given as (column, increment), at a time."""
        width = ladder.width(newest_ms - time_ms)
        end = (time_ms + width - 1) & -width
        while (narrower := ladder.width(newest_ms - end)) < width:  # no bucket is wider than the age of its end allows
            width = narrower
            end = (time_ms + width - 1) & -width
        if not self.ends or end - width < self.ends[0]:
            self._insert(0, end - width)
        i = bisect_left(self.ends, time_ms)
        if i == len(self.ends) or self.ends[i] - max(width, ladder.width(newest_ms - self.ends[i])) >= end:
            self._insert(i, end)
        for column_index, increment in increments:
            column = self.totals[column_index]
            for j in range(i, len(column)):
                column[j] += increment
        if len(self.ends) > ladder.limit:
            self._thin(newest_ms, ladder)

    def locate(self, time_ms: int, newest_ms: int, ladder: Ladder, cap_ms: int) -> tuple[int, float]:
        """Where a time lies: the index of an end, and how far from there to the next one, 0 to 1.

        Args:
          cap_ms: where the last bucket really ends.
        """
        ends = self.ends
        i = bisect_right(ends, time_ms)
        if i == 0 or i == len(ends):
            return max(0, i - 1), 0.0
        end = min(ends[i], cap_ms)
        if time_ms >= end:
            return i, 0.0
        start = max(ends[i - 1], ends[i] - ladder.width(newest_ms - ends[i]))
        return i - 1, (time_ms - start) / (end - start) if time_ms > start else 0.0

    def _insert(self, i: int, end: int) -> None:
        self.ends.insert(i, end)
        for column in self.totals:
            column.insert(i, column[max(0, i - 1)] if column else 0)

    def _thin(self, newest_ms: int, ladder: Ladder) -> None:
        """Forgets totals that the grid of their age doesn't have, and those that are too old for any window."""
        ends = self.ends
        first = max(0, bisect_right(ends, newest_ms - ladder.keep_ms) - 1)
        last = len(ends) - 1
        kept = [
            i
            for i in range(first, len(ends))
            if i in (first, last) or not ends[i] & (ladder.width(newest_ms - ends[i]) - 1)
        ]
        self.ends = array("q", [ends[i] for i in kept])
        self.totals = [array("Q", [column[i] for i in kept]) for column in self.totals]


def total(column: array[int], where: tuple[int, float]) -> float:
    """The total of a column at a place that `Checkpoints.locate` has found."""
    i, weight = where
    return column[i] + weight * (column[i + 1] - column[i]) if weight else column[i]
