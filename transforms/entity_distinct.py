"""How many different values a window holds, of more values than are kept: a sample that knows when each was last seen.

A value is kept while the low `level` bits of its hash are zero, and then stands for `2 ** level` values (adaptive
sampling: Wegman 1984, Flajolet 1990; by last sight, for sliding windows, as in Gibbons and Tirthapura 2002). The level
rises when more than `SIZE` values are there, and falls again when a quarter of that is left; each value remembers the
level it was last seen under, and weighs by that, so the estimate is unbiased. It rests on at least `SIZE / 2` values
while it is filled: relative standard error at most `sqrt(2 / SIZE)`, 12.5 %. Nothing is sampled up to `SIZE` values.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

SIZE = 128
STANDARD_ERROR = (2 / SIZE) ** 0.5
"""Relative standard error of a filled sample."""

_WIDTH = 8


class RecentValues:
    """Values by the time that they were last seen, for one window.

    Attributes:
      level: how many low bits of a hash must be zero for it to be kept, for now.
      seen: when each value was last seen, epoch ms, ascending.
      hashes: their hashes, 8 bytes each, in the order of `seen`.
      levels: under which level each was last seen, a byte each.
    """

    __slots__ = ("hashes", "level", "levels", "seen")

    def __init__(self, level: int, seen: array[int], hashes: bytes, levels: bytes) -> None:
        self.level = level
        self.seen = seen
        self.hashes = hashes
        self.levels = levels

    def add(self, value: bytes, time_ms: int, oldest_ms: int) -> None:
        """Sees a value, by its hash, at a time. What was last seen at `oldest_ms` or before can go."""
        if self.level:
            if len(self.seen) - bisect_right(self.seen, oldest_ms) <= SIZE // 4:
                self.level -= 1
            if int.from_bytes(value, "little") & ((1 << self.level) - 1):
                return
        i = find(self.hashes, value)
        if i >= 0:
            if self.seen[i] >= time_ms:
                return
            self._remove(i)
        i = bisect_right(self.seen, time_ms)
        self.seen.insert(i, time_ms)
        self.hashes = self.hashes[: _WIDTH * i] + value + self.hashes[_WIDTH * i :]
        self.levels = self.levels[:i] + bytes((self.level,)) + self.levels[i:]
        if len(self.seen) > SIZE:
            self._forget(oldest_ms)

    def discard(self, value: bytes) -> None:
        """Forgets a value."""
        i = find(self.hashes, value)
        if i >= 0:
            self._remove(i)

    def count(self, after_ms: int) -> int:
        """How many values were last seen after a time, estimated where values are sampled."""
        first = bisect_right(self.seen, after_ms)
        levels = self.levels[first:]
        if levels.count(self.level) == len(levels):
            return len(levels) << self.level
        return sum([levels.count(level) << level for level in set(levels)])

    def _remove(self, i: int) -> None:
        del self.seen[i]
        self.hashes = self.hashes[: _WIDTH * i] + self.hashes[_WIDTH * (i + 1) :]
        self.levels = self.levels[:i] + self.levels[i + 1 :]

    def _forget(self, oldest_ms: int) -> None:
        first = bisect_right(self.seen, oldest_ms)
        if first:
            self._keep(list(range(first, len(self.seen))))
        while len(self.seen) > SIZE:
            self.level += 1
            mask = (1 << self.level) - 1
            self._keep([i for i, value in enumerate(array("Q", self.hashes)) if not value & mask])
            self.levels = bytes([max(level, self.level) for level in self.levels])

    def _keep(self, kept: list[int]) -> None:
        hashes = array("Q", self.hashes)
        self.hashes = array("Q", [hashes[i] for i in kept]).tobytes()
        self.seen = array("q", [self.seen[i] for i in kept])
        self.levels = bytes([self.levels[i] for i in kept])


def find(hashes: bytes, value: bytes, start: int = 0) -> int:
    """Position of a hash among hashes of 8 bytes each, from position `start` on; -1 where there is none."""
    at = hashes.find(value, _WIDTH * start)
    while at >= 0:
        if not at % _WIDTH:
            return at // _WIDTH
        at = hashes.find(value, at + 1)
    return -1
