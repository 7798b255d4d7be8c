"""An idle user's columns as bytes: words of prefix codes for what is skewed, bits for what is noise, then keys."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from transforms.buckets import AMOUNT_MINOR, FIELDS
from transforms.points import DIMENSIONS, LOGIN_FAILURE, PAYMENT
from transforms.prefix_codes import (
    Ints,
    bit_lengths,
    from_low_bits,
    low_bits,
    low_widths,
    pack,
    read_windows,
    unpack,
)
from transforms.recency import TRUSTED
from transforms.state_words import AMOUNTS, GAPS, KINDS, MIDDLE, POINTS, REPEATED, SUMS

_OWN_BITS: Final = 8
_DIMENSIONS: Final = np.arange(len(DIMENSIONS))
_IS_AMOUNT: Final = (np.arange(FIELDS) >= AMOUNT_MINOR).astype(np.int64)
_CODES: Final = (POINTS, GAPS, AMOUNTS, SUMS)


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


class Packed(NamedTuple):
    """Bytes of columns, and what it takes to read them: how many points, amounts that repeat, rows of sums, and the
    mean bit length of amounts."""

    data: bytes
    points: int
    repeated: int
    sums: int
    mean_bits: int


def guessed(kinds: Ints, last: Ints, dims: Ints) -> Ints:
    """Which values a failed login showed last, which doesn't make them the user's own."""
    return np.flatnonzero((kinds[last] == LOGIN_FAILURE) & (dims < TRUSTED))


def symbols(columns: Columns) -> tuple[tuple[Ints, Ints], ...]:
    """Contexts and symbols of points, gaps, amounts and sums."""
    return _split(columns)[0]


def _split(columns: Columns) -> tuple[tuple[tuple[Ints, Ints], ...], list[tuple[Ints, Ints]], int, int]:
    """The contexts and symbols; numbers and widths of the bits; how many amounts repeat, their mean bit length."""
    amounts, sums = columns.amounts, columns.sums.ravel()
    different, which, counts = np.unique(amounts, return_inverse=True, return_counts=True)
    repeats = counts > 1
    is_repeated = repeats[which]
    listed = different[repeats]
    written = np.concatenate((amounts[~is_repeated], listed))

    of_gaps, of_written, of_sums = bit_lengths(columns.gaps), bit_lengths(written), bit_lengths(sums)
    mean_bits = round(float(of_written.mean())) if len(written) else 0
    of_amounts = np.full(len(amounts) + len(listed), REPEATED)
    of_amounts[~np.append(is_repeated, np.zeros(len(listed), np.bool_))] = of_written - mean_bits + MIDDLE
    are_amounts = np.tile(_IS_AMOUNT, len(columns.sums))
    shown = np.zeros_like(columns.kinds)
    np.bitwise_or.at(shown, columns.last, 1 << columns.dims)
    words = (
        (np.zeros_like(shown), KINDS * shown + columns.kinds),
        (_gap_contexts(columns.kinds), of_gaps),
        (np.zeros_like(of_amounts), of_amounts),
        (are_amounts, of_sums + are_amounts * (MIDDLE - mean_bits)),
    )
    indices = (np.cumsum(repeats) - 1)[which[is_repeated]]
    bits = [
        low_bits(columns.gaps, of_gaps),
        low_bits(written, of_written),
        (indices, np.full(len(indices), _index_bits(len(listed)))),
        low_bits(sums, of_sums),
        (columns.own, np.full(len(columns.own), _OWN_BITS)),
    ]
    return words, bits, len(listed), mean_bits


def pack_columns(columns: Columns) -> Packed:
    """The bytes of columns."""
    words, bits, repeated, mean_bits = _split(columns)
    parts = [codes.words(*of) for codes, of in zip(_CODES, words, strict=True)] + bits
    numbers, widths = (np.concatenate(halves) for halves in zip(*parts, strict=True))
    return Packed(pack(numbers, widths) + columns.keys, len(columns.kinds), repeated, len(columns.sums), mean_bits)


def unpack_columns(packed: Packed) -> Columns:
    """Undoes `pack_columns`."""
    data, mean_bits = packed.data, packed.mean_bits
    windows = read_windows(data)
    of_points, at = POINTS.read(windows, 0, np.zeros(packed.points, np.int64))
    shown, kinds = np.divmod(of_points, KINDS)
    of_gaps, at = GAPS.read(windows, at, _gap_contexts(kinds))
    payments = np.count_nonzero(kinds == PAYMENT)
    of_amounts, at = AMOUNTS.read(windows, at, np.zeros(payments + packed.repeated, np.int64))
    is_repeated = of_amounts == REPEATED
    of_written = of_amounts[~is_repeated] + mean_bits - MIDDLE
    are_amounts = np.tile(_IS_AMOUNT, packed.sums)
    of_sums, at = SUMS.read(windows, at, are_amounts)
    of_sums -= are_amounts * (MIDDLE - mean_bits)

    last, dims = np.nonzero(shown[:, None] >> _DIMENSIONS & 1)
    widths = (
        low_widths(of_gaps),
        low_widths(of_written),
        np.full(len(of_amounts) - len(of_written), _index_bits(packed.repeated)),
        low_widths(of_sums),
        np.full(len(guessed(kinds, last, dims)), _OWN_BITS),
    )
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    numbers, at = unpack(bits, at, np.concatenate(widths))
    gaps, written, which, sums, own = np.split(numbers, np.cumsum([len(w) for w in widths[:-1]]))
    amounts = np.empty_like(of_amounts)
    amounts[~is_repeated] = from_low_bits(written, of_written)
    amounts[is_repeated] = amounts[payments:][which]
    return Columns(
        from_low_bits(gaps, of_gaps),
        kinds,
        amounts[:payments],
        last,
        dims,
        data[-(-at // 8) :],
        own,
        from_low_bits(sums, of_sums).reshape(-1, FIELDS),
    )


def _gap_contexts(kinds: Ints) -> Ints:
    """Whether it leads to a payment, and from one: payments come in rows."""
    paid = (kinds == PAYMENT).astype(np.int64)
    return 2 * paid[1:] + paid[:-1]


def _index_bits(listed: int) -> int:
    return max(listed - 1, 0).bit_length()
