"""Sums of a window by fixed buckets of time: the coarse memory a user falls back to past the bound on points.

Sums are commutative and the buckets are aligned to the epoch, so what a bucket holds is a function of the set of
events, whatever their order. A window is answered with the last `PER_WINDOW` buckets, the current one included: it
is at most one bucket, a thirtieth, shorter than asked for, and never counts an event twice.
"""

from __future__ import annotations

from array import array
from typing import Final

from transforms.points import CLAIM, LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT

PER_WINDOW: Final = 30

EVENTS: Final = 0
LOGINS: Final = 1
FAILURES: Final = 2
PAYMENTS: Final = 3
CLAIMS: Final = 4
AMOUNT_MINOR: Final = 5
LARGEST_MINOR: Final = 6
"""What is summed, and of amounts the largest, in the order of a cell."""
FIELDS: Final = 7

_EMPTY_CELL = array("q", bytes(8 * FIELDS))
_EMPTY_RING = array("q", bytes(8 * FIELDS * PER_WINDOW))


class Buckets:
    """A ring of `PER_WINDOW` cells for one window.

    Attributes:
      width_ms: of a bucket.
      newest: number (time over width) of the newest bucket.
      totals: sums over the ring.
      cells: flat; bucket `n` stands at `n % PER_WINDOW`.
    """

    __slots__ = ("cells", "newest", "totals", "width_ms")

    def __init__(
        self,
        window_ms: int,
        newest: int = -PER_WINDOW,
        totals: list[int] | None = None,
        cells: array[int] | None = None,
    ) -> None:
        self.width_ms = window_ms // PER_WINDOW
        self.newest = newest
        self.totals = [0] * FIELDS if totals is None else totals
        self.cells = _EMPTY_RING[:] if cells is None else cells

    def add(self, time_ms: int, kind: int, amount_minor: int) -> None:
        """Counts an event."""
        number, newest = time_ms // self.width_ms, self.newest
        if number != newest:
            if number > newest:
                self._advance(number)
            elif number <= newest - PER_WINDOW:
                return
        cells, totals = self.cells, self.totals
        cell = number % PER_WINDOW * FIELDS
        cells[cell] += 1
        totals[EVENTS] += 1
        if kind == PAYMENT:
            cells[cell + PAYMENTS] += 1
            cells[cell + AMOUNT_MINOR] += amount_minor
            totals[PAYMENTS] += 1
            totals[AMOUNT_MINOR] += amount_minor
            if amount_minor > cells[cell + LARGEST_MINOR]:
                cells[cell + LARGEST_MINOR] = amount_minor
                if amount_minor > totals[LARGEST_MINOR]:
                    totals[LARGEST_MINOR] = amount_minor
        elif kind <= LOGIN_SUCCESS:
            cells[cell + LOGINS] += 1
            totals[LOGINS] += 1
            if kind == LOGIN_FAILURE:
                cells[cell + FAILURES] += 1
                totals[FAILURES] += 1
        elif kind == CLAIM:
            cells[cell + CLAIMS] += 1
            totals[CLAIMS] += 1

    def sums(self, time_ms: int) -> list[int]:
        """The sums of the window as of a time."""
        newest, number = self.newest, time_ms // self.width_ms
        if number == newest:
            return self.totals
        sums = [0] * FIELDS
        for n in range(max(number, newest) - PER_WINDOW + 1, min(number, newest) + 1):
            cell = n % PER_WINDOW * FIELDS
            for field in range(LARGEST_MINOR):
                sums[field] += self.cells[cell + field]
            sums[LARGEST_MINOR] = max(sums[LARGEST_MINOR], self.cells[cell + LARGEST_MINOR])
        return sums

    def _advance(self, number: int) -> None:
        """Makes room for a newer bucket: those that leave the ring leave the totals."""
        cells, totals = self.cells, self.totals
        if number - self.newest >= PER_WINDOW:
            cells[:] = _EMPTY_RING
            totals[:] = [0] * FIELDS
        else:
            for n in range(self.newest + 1, number + 1):
                cell = n % PER_WINDOW * FIELDS
                leaving = cells[cell : cell + FIELDS]
                if any(leaving):
                    cells[cell : cell + FIELDS] = _EMPTY_CELL
                    for field in range(LARGEST_MINOR):
                        totals[field] -= leaving[field]
                    if leaving[LARGEST_MINOR] == totals[LARGEST_MINOR]:
                        totals[LARGEST_MINOR] = max(cells[LARGEST_MINOR::FIELDS])
        self.newest = number
