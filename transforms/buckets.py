"""Sums of windows by fixed buckets of time: the coarse memory a user falls back to past the bound on points.

Sums are commutative and the buckets are aligned to the epoch, so what a bucket holds is a function of the set of
events, whatever their order. A window is answered with the last `PER_WINDOW` buckets, the current one included: it
is at most one bucket, a thirtieth, shorter than asked for, and never counts an event twice.
"""

from __future__ import annotations

from array import array

from transforms.features import WINDOW_SECONDS
from transforms.points import LOGIN_FAILURE, PAYMENT

PER_WINDOW = 30
WIDTHS_MS = tuple(seconds * 1_000 // PER_WINDOW for seconds in WINDOW_SECONDS.values())

LOGINS, FAILURES, PAYMENTS, AMOUNT_MINOR, LARGEST_MINOR = range(5)
"""What is summed, and of amounts the largest, in the order of a cell."""
FIELDS = 5

_EMPTY_CELL = array("q", bytes(8 * FIELDS))
_EMPTY_RING = array("q", bytes(8 * FIELDS * PER_WINDOW))


class Buckets:
    """For each sliding window a ring of `PER_WINDOW` cells.

    Attributes:
      newest: number (time over width) of each window's newest bucket.
      totals: each window's sums over its ring, flat.
      cells: all rings, flat; bucket `n` of a window stands at `n % PER_WINDOW`.
    """

    __slots__ = ("cells", "newest", "totals")

    def __init__(self) -> None:
        self.newest = [-PER_WINDOW] * len(WIDTHS_MS)
        self.totals = [0] * (len(WIDTHS_MS) * FIELDS)
        self.cells = array("q", bytes(8 * len(WIDTHS_MS) * PER_WINDOW * FIELDS))

    def add(self, time_ms: int, kind: int, amount_minor: int) -> None:
        """Counts an event in the bucket of each window."""
        cells, totals = self.cells, self.totals
        for window, width in enumerate(WIDTHS_MS):
            number = time_ms // width
            if number > self.newest[window]:
                self._advance(window, number)
            elif number <= self.newest[window] - PER_WINDOW:
                continue
            total = window * FIELDS
            cell = (window * PER_WINDOW + number % PER_WINDOW) * FIELDS
            if kind == PAYMENT:
                cells[cell + PAYMENTS] += 1
                totals[total + PAYMENTS] += 1
                cells[cell + AMOUNT_MINOR] += amount_minor
                totals[total + AMOUNT_MINOR] += amount_minor
                if amount_minor > cells[cell + LARGEST_MINOR]:
                    cells[cell + LARGEST_MINOR] = amount_minor
                    totals[total + LARGEST_MINOR] = max(totals[total + LARGEST_MINOR], amount_minor)
            else:
                cells[cell + LOGINS] += 1
                totals[total + LOGINS] += 1
                if kind == LOGIN_FAILURE:
                    cells[cell + FAILURES] += 1
                    totals[total + FAILURES] += 1

    def sums(self, window: int, time_ms: int) -> list[int]:
        """The sums of a window (by its position in `WINDOW_SECONDS`) as of a time."""
        newest, number = self.newest[window], time_ms // WIDTHS_MS[window]
        if number == newest:
            return self.totals[window * FIELDS : window * FIELDS + FIELDS]
        return self._sum(window, range(max(number, newest) - PER_WINDOW + 1, min(number, newest) + 1))

    def _sum(self, window: int, numbers: range) -> list[int]:
        sums = [0] * FIELDS
        for number in numbers:
            cell = (window * PER_WINDOW + number % PER_WINDOW) * FIELDS
            for field in range(LARGEST_MINOR):
                sums[field] += self.cells[cell + field]
            sums[LARGEST_MINOR] = max(sums[LARGEST_MINOR], self.cells[cell + LARGEST_MINOR])
        return sums

    def _advance(self, window: int, number: int) -> None:
        """Makes room for a newer bucket: those that leave the ring leave the totals."""
        cells, totals, total = self.cells, self.totals, window * FIELDS
        ring = window * PER_WINDOW * FIELDS
        if number - self.newest[window] >= PER_WINDOW:
            cells[ring : ring + PER_WINDOW * FIELDS] = _EMPTY_RING
            totals[total : total + FIELDS] = [0] * FIELDS
        else:
            for n in range(self.newest[window] + 1, number + 1):
                cell = ring + n % PER_WINDOW * FIELDS
                leaving = cells[cell : cell + FIELDS]
                if any(leaving):
                    cells[cell : cell + FIELDS] = _EMPTY_CELL
                    for field in range(LARGEST_MINOR):
                        totals[total + field] -= leaving[field]
                    if leaving[LARGEST_MINOR] == totals[total + LARGEST_MINOR]:
                        largest = cells[ring + LARGEST_MINOR : ring + PER_WINDOW * FIELDS : FIELDS]
                        totals[total + LARGEST_MINOR] = max(largest)
        self.newest[window] = number
