"""The values a user has shown, each with the position of the event that showed it last.

Entries of closed points come first, in the order of their last showing, so that "how many different since?" is one
binary search and a count of bytes. Those of open points follow in any order: there are few, and nearly every window
takes them all. A closed entry is only masked when an open point shows its value again, so that open points can be
taken back. Nothing here is a loop over events.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from operator import gt
from typing import Final

from transforms.points import DIMENSIONS, KEY_BYTES, NO_VALUE, Points

TRUSTED: Final = 3
"""In the first dimensions (address, device, country) a value counts as the user's own only once it was seen in
something else than a failed login: an attacker who guesses a password is not known for having guessed wrong before."""

_MASK: Final = 0x80
_MASKED = re.compile(rb"[\x80-\xff]")
_DIMENSION_KEYS: Final = tuple((d, KEY_BYTES * d, KEY_BYTES * d + KEY_BYTES) for d in range(len(DIMENSIONS)))
_NO_POSITION: Final = 256
_FEW: Final = 12
"""So many entries are counted faster one by one."""


class Recency:
    """A table of values, one byte or key each in parallel columns.

    Attributes:
      keys: 4 bytes a value; its dimension is hashed in.
      dims: dimension of the value; with the high bit set the entry is masked by an open one.
      last: position of the point that showed it last; ascending in closed entries.
      own: one more than the position of the last point that made it the user's own; 0 for none.
      closed: how many entries, the first ones, are of closed points.
    """

    __slots__ = ("closed", "dims", "keys", "last", "own")

    def __init__(self) -> None:
        self.keys = bytearray()
        self.dims = bytearray()
        self.last = bytearray()
        self.own = bytearray()
        self.closed = 0

    def __len__(self) -> int:
        return len(self.dims)

    def touch(self, values: bytes, i: int, is_own: bool) -> list[int]:
        """The newest point, at position `i`, shows its values.

        Args:
          is_own: whether it makes values of the trusted dimensions the user's own.

        Returns:
          By dimension one more than the position where the value was seen before (where it was the user's own, in
          the trusted dimensions); 0 for never, -1 where the point has no value.
        """
        keys, own = self.keys, self.own
        first_open = KEY_BYTES * self.closed
        seen = []
        for d, begin, end in _DIMENSION_KEYS:
            key = values[begin:end]
            if key == NO_VALUE:
                seen.append(-1)
                continue
            at = keys.find(key, first_open)
            while at & 3 and at >= 0:
                at = keys.find(key, at + 1)
            if at >= 0:
                at >>= 2
                before = own[at]
                self.last[at] = i
                if is_own or d >= TRUSTED:
                    own[at] = i + 1
            else:
                at = self._find_closed(key)
                before = 0
                if at >= 0:
                    before = own[at]
                    self.dims[at] |= _MASK
                keys += key
                self.dims.append(d)
                self.last.append(i)
                own.append(i + 1 if is_own or d >= TRUSTED else before)
            seen.append(before)
        return seen

    def has_own(self, dimension: int, start: int) -> bool:
        """Whether a value of a dimension became the user's own at or after a position."""
        own, at = self.own, self.dims.find(dimension)
        while at >= 0:
            if own[at] > start:
                return True
            at = self.dims.find(dimension, at + 1)
        return False

    def counts(self, starts: Sequence[int]) -> list[list[int]]:
        """How many different values of each dimension the points from a position on have shown.

        Args:
          starts: the positions, descending.
        """
        dims, last, closed = self.dims, self.last, self.closed
        oldest_open = min(last[closed:], default=_NO_POSITION)
        counts = [0] * len(DIMENSIONS)
        _count(dims, closed, len(dims), counts)
        rows, until = [], closed
        for start in starts:
            if start > oldest_open:
                row = [0] * len(DIMENSIONS)
                shown = bytes(compress(dims[closed:], map(start.__le__, last[closed:])))
                _count(shown, 0, len(shown), row)
                rows.append(row)
            else:
                since = bisect_left(last, start, 0, until)
                _count(dims, since, until, counts)
                until = since
                rows.append(counts[:])
        return rows

    def rewind(self, i: int, points: Points) -> None:
        """Takes back what the points from position `i` on have shown.

        Args:
          points: those that remain, and at least the kinds of all.
        """
        keys, dims, last, own, closed = self.keys, self.dims, self.last, self.own, self.closed
        for entry in range(len(dims) - 1, closed - 1, -1):
            if last[entry] < i:
                continue
            key, d = bytes(keys[KEY_BYTES * entry : KEY_BYTES * entry + KEY_BYTES]), dims[entry]
            before = points.shown_before(key, d, i)
            hidden = self._find_closed(key)
            if before < 0:
                self._delete(entry, entry + 1)
                if hidden >= 0:
                    dims[hidden] = d
                continue
            last[entry] = before
            while before >= 0 and d < TRUSTED and not points.kinds[before]:
                before = points.shown_before(key, d, before)
            own[entry] = before + 1 if before >= 0 else own[hidden] if hidden >= 0 else 0

    def close(self) -> None:
        """All open points are closed: nothing will be taken back."""
        closed = self.closed
        for match in reversed(list(_MASKED.finditer(self.dims, 0, closed))):
            self._delete(match.start(), match.end())
            closed -= 1
        last = self.last
        if any(map(gt, last[closed:], last[closed + 1 :])):
            keys, dims, own = self.keys, self.dims, self.own
            order = sorted(range(closed, len(dims)), key=last.__getitem__)
            keys[KEY_BYTES * closed :] = b"".join([keys[KEY_BYTES * e : KEY_BYTES * e + KEY_BYTES] for e in order])
            for column in (dims, own, last):
                column[closed:] = bytes(map(column.__getitem__, order))
        self.closed = len(self.dims)

    def drop_front(self, n: int) -> None:
        """The `n` oldest points are gone, and what was shown by them alone."""
        gone = bisect_left(self.last, n, 0, self.closed)
        if gone:
            self._delete(0, gone)
            self.closed -= gone
        if n > min(self.last[self.closed :], default=n):
            for entry in range(len(self.dims) - 1, self.closed - 1, -1):
                if self.last[entry] < n:
                    self._delete(entry, entry + 1)
        shift = shift_down(n)
        self.last = self.last.translate(shift)
        self.own = self.own.translate(shift)

    def _delete(self, begin: int, end: int) -> None:
        del self.keys[KEY_BYTES * begin : KEY_BYTES * end]
        del self.dims[begin:end], self.last[begin:end], self.own[begin:end]

    def _find_closed(self, key: bytes) -> int:
        """The entry of closed points for a value; -1 if there is none."""
        keys, end = self.keys, KEY_BYTES * self.closed
        at = keys.find(key, 0, end)
        while at & 3 and at >= 0:
            at = keys.find(key, at + 1, end)
        return at >> 2


@lru_cache(maxsize=256)
def shift_down(n: int) -> bytes:
    """A table for `translate` that takes `n` off positions; those below become 0."""
    return bytes(n) + bytes(range(256 - n))


def _count(dims: bytes | bytearray, begin: int, end: int, counts: list[int]) -> None:
    """Adds how often each dimension stands, unmasked, in a range."""
    if end - begin <= _FEW:
        for d in dims[begin:end]:
            if d < _MASK:
                counts[d] += 1
    else:
        count = dims.count
        for d in range(len(DIMENSIONS)):
            counts[d] += count(d, begin, end)
