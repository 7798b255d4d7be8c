"""Numbers as bits: how many bits a number has is skewed, and deflates; the bits below the highest one are noise."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_POWERS: Final = np.left_shift(np.int64(1), np.arange(63))


def bit_lengths(numbers: Ints) -> Ints:
    """Of numbers from 0, as `int.bit_length` has it."""
    return np.searchsorted(_POWERS, numbers, side="right")


def low_bits(numbers: Ints, lengths: Ints) -> bytes:
    """The bits of numbers below the highest one, one number after another.

    Args:
      lengths: their bit lengths.
    """
    widths = np.maximum(lengths - 1, 0)
    ends = np.cumsum(widths)
    shifts = np.repeat(ends, widths) - np.arange(1, widths.sum() + 1)
    return np.packbits((np.repeat(numbers, widths) >> shifts & 1).astype(np.uint8)).tobytes()


def from_low_bits(data: bytes, lengths: Ints) -> tuple[Ints, int]:
    """Undoes `low_bits`: the numbers of these bit lengths, and how many bytes of the data are theirs."""
    widths = np.maximum(lengths - 1, 0)
    ends = np.cumsum(widths)
    total = int(widths.sum())
    numbers: Ints = np.left_shift(np.minimum(lengths, 1), widths, dtype=np.int64)
    if total:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=total).astype(np.int64)
        present = widths > 0
        bits <<= np.repeat(ends, widths) - np.arange(1, total + 1)
        numbers[present] += np.add.reduceat(bits, (ends - widths)[present])
    return numbers, -(-total // 8)
