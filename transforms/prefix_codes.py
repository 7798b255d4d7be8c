"""Numbers as bits: prefix codes for what is skewed, plain bits for what is noise. All of it on whole columns.

A large number is its bit length, which is skewed and gets a word of a prefix code, and the bits below its highest one,
which are noise and stand as they are (Elias gamma coding, with a better code for the length).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bits = NDArray[np.uint8]

LONGEST: Final = 15
"""Bits of the longest word, a hexadecimal digit, so that a window on a word begun in any bit of a byte fits 24 bits."""

_POWERS: Final = np.left_shift(np.int64(1), np.arange(63))


class PrefixCodes:
    """A canonical prefix code for each of some contexts.

    Args:
      widths: for each context the bits of each symbol's word, a hexadecimal digit each, from 1 to `LONGEST`. The words
        of a code must use up all bits: their 2^-width add up to 1.

    Raises:
      ValueError: they don't add up to 1.
    """

    def __init__(self, *widths: str) -> None:
        self._widths = np.array([[int(digit, 16) for digit in row] for row in widths])
        self._words = np.empty_like(self._widths)
        self._symbols = np.empty((len(widths), 1 << LONGEST), np.int64)
        for code, row in enumerate(self._widths):
            order = np.argsort(row, kind="stable")
            spans = 1 << (LONGEST - row[order])
            if spans.sum() != 1 << LONGEST:
                raise ValueError(f"the words of {widths[code]} take {spans.sum()}, not {1 << LONGEST}, of the windows")
            self._words[code, order] = (np.cumsum(spans) - spans) >> (LONGEST - row[order])
            self._symbols[code] = np.repeat(order, spans)
        self._steps = np.take_along_axis(self._widths, self._symbols, axis=1).astype(np.uint8)

    @property
    def shape(self) -> tuple[int, int]:
        """How many contexts and how many symbols."""
        contexts, symbols = self._widths.shape
        return contexts, symbols

    def words(self, contexts: Ints, symbols: Ints) -> tuple[Ints, Ints]:
        """The words of symbols, each in its context, and their widths in bits."""
        return self._words[contexts, symbols], self._widths[contexts, symbols]

    def read(self, windows: Ints, at: int, contexts: Ints) -> tuple[Ints, int]:
        """The symbols whose words begin at bit `at`, one for each context, and where they end.

        Args:
          windows: of `read_windows`.
        """
        ahead = windows[at : at + LONGEST * len(contexts)]
        steps = [row.tobytes() for row in self._steps[:, ahead]]
        starts, start = [], 0
        for context in contexts.tolist():
            starts.append(start)
            start += steps[context][start]
        return self._symbols[contexts, ahead[np.array(starts, np.int64)]], at + start


def read_windows(data: bytes) -> Ints:
    """For each bit the number that it and the next ones are, `LONGEST` of them."""
    octets = np.frombuffer(data + b"\0\0", np.uint8).astype(np.int64)
    threes = octets[:-2] << 16 | octets[1:-1] << 8 | octets[2:]
    return (threes[:, None] >> (24 - LONGEST - np.arange(8)) & (1 << LONGEST) - 1).ravel()


def bit_lengths(numbers: Ints) -> Ints:
    """Of numbers from 0, as `int.bit_length` has it."""
    return np.searchsorted(_POWERS, numbers, side="right")


def low_widths(lengths: Ints) -> Ints:
    """How many bits numbers of these bit lengths have below the highest one."""
    return np.maximum(lengths - 1, 0)


def low_bits(numbers: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """The bits of numbers below the highest one, and how many these are."""
    widths = low_widths(lengths)
    return numbers & (1 << widths) - 1, widths


def from_low_bits(low: Ints, lengths: Ints) -> Ints:
    """Undoes `low_bits`."""
    return low | np.minimum(lengths, 1) << low_widths(lengths)


def pack(numbers: Ints, widths: Ints) -> bytes:
    """Numbers one after another, each in so many bits."""
    ends = np.cumsum(widths)
    shifts = np.repeat(ends, widths) - np.arange(1, widths.sum() + 1)
    return np.packbits((np.repeat(numbers, widths) >> shifts & 1).astype(np.uint8)).tobytes()


def unpack(bits: Bits, at: int, widths: Ints) -> tuple[Ints, int]:
    """The numbers of so many bits each that begin at bit `at`, and where they end."""
    ends = np.cumsum(widths)
    total = int(widths.sum())
    numbers = np.zeros(len(widths), np.int64)
    if total:
        shifts = np.repeat(ends, widths) - np.arange(1, total + 1)
        present = widths > 0
        weighed = bits[at : at + total].astype(np.int64) << shifts
        numbers[present] = np.add.reduceat(weighed, (ends - widths)[present])
    return numbers, at + total
