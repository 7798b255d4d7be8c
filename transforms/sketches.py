"""Counting different values in bounded memory, exactly up to `SIZE` of them.

K minimum values (Bar-Yossef et al. 2002; Beyer et al. 2007, unbiased form): only the `SIZE` smallest hashes are kept,
which is a function of the set of values, merges exactly, and estimates with a relative standard error of about
1 / sqrt(SIZE - 2): 13 %. Hashes are big-endian bytes, all of one length, so that they compare as numbers do.
"""

from __future__ import annotations

from typing import Final

SIZE: Final = 64


def add(values: set[bytes], value: bytes) -> None:
    """Adds a hash."""
    values.add(value)
    if len(values) > SIZE + 1:
        values.remove(max(values))


def merge(values: set[bytes], others: set[bytes]) -> set[bytes]:
    """The sketch of both sets of values."""
    return set(sorted(values | others)[: SIZE + 1])


def is_exact(values: set[bytes]) -> bool:
    """Whether `count` is exact."""
    return len(values) <= SIZE


def count(values: set[bytes]) -> int:
    """How many different values were added."""
    if is_exact(values):
        return len(values)
    largest = sorted(values)[SIZE - 1]
    return round((SIZE - 1) * 2.0 ** (8 * len(largest)) / int.from_bytes(largest, "big"))
