"""An idle user's columns as bytes: what is skewed is deflated, what is noise follows as it is."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import numpy as np

from transforms.bit_columns import Ints, bit_lengths, from_low_bits, low_bits
from transforms.buckets import FIELDS
from transforms.points import DIMENSIONS, LOGIN_FAILURE, PAYMENT
from transforms.recency import TRUSTED

_DIMENSIONS: Final = np.arange(len(DIMENSIONS))


class Columns(NamedTuple):
    """What an idle user's points and values hold.

    Attributes:
      gaps: milliseconds from each point to the next.
      kinds: of points.
      amounts: of payments.
      last, dims: of values, by point and dimension.
      keys: of values, 4 bytes each.
      own: of the values that a failed login showed last, as in `Recency`. All others are the user's own since then.
      sums: rows of buckets' cells, of which the first field is less the other counts.
    """

    gaps: Ints
    kinds: Ints
    amounts: Ints
    last: Ints
    dims: Ints
    keys: bytes
    own: Ints
    sums: Ints


def guessed(kinds: Ints, last: Ints, dims: Ints) -> Ints:
    """Which values a failed login showed last, which doesn't make them the user's own."""
    return np.flatnonzero((kinds[last] == LOGIN_FAILURE) & (dims < TRUSTED))


def pack_columns(columns: Columns) -> bytes:
    """The bytes of columns."""
    shown = np.zeros_like(columns.kinds)
    np.bitwise_or.at(shown, columns.last, 1 << columns.dims)
    numbers = np.concatenate((columns.gaps, columns.amounts, columns.sums.T.ravel()))
    lengths = bit_lengths(numbers)
    skewed = zlib.compress(_octets(np.concatenate((columns.kinds, shown, lengths))), wbits=-15)
    return b"".join((skewed, low_bits(numbers, lengths), _octets(columns.own), columns.keys))


def unpack_columns(data: bytes, points: int, rows: int) -> Columns:
    """Undoes `pack_columns`.

    Args:
      points, rows: how many points there are, and rows of sums.
    """
    inflater = zlib.decompressobj(wbits=-15)
    skewed = np.frombuffer(inflater.decompress(data), np.uint8).astype(np.int64)
    kinds, shown, lengths = np.split(skewed, (points, 2 * points))
    numbers, at = from_low_bits(inflater.unused_data, lengths)
    payments_at = max(points - 1, 0)
    gaps, amounts, sums = np.split(numbers, (payments_at, payments_at + np.count_nonzero(kinds == PAYMENT)))
    last, dims = np.nonzero(shown[:, None] >> _DIMENSIONS & 1)
    keys_at = at + len(guessed(kinds, last, dims))
    own = np.frombuffer(inflater.unused_data[at:keys_at], np.uint8).astype(np.int64)
    sums = sums.reshape(FIELDS, rows).T
    return Columns(gaps, kinds, amounts, last, dims, inflater.unused_data[keys_at:], own, sums)


def _octets(numbers: Ints) -> bytes:
    return numbers.astype(np.uint8).tobytes()
