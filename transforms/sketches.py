"""Counting different values in bounded memory, exactly up to `SIZE` of them.

K minimum values (Bar-Yossef et al. 2002; Beyer et al. 2007, unbiased form): only the `SIZE` smallest 64-bit hashes
are kept, which is a function of the set of values, merges exactly, and estimates with a relative standard error of
about 1 / sqrt(SIZE - 2): 13 %.
"""

from __future__ import annotations

SIZE = 64


def add(values: set[int], value: int) -> None:
    """Adds a non-zero 64-bit hash."""
    values.add(value)
    if len(values) > SIZE + 1:
        values.remove(max(values))


def merge(values: set[int], others: set[int]) -> set[int]:
    """The sketch of both sets of values."""
    return set(sorted(values | others)[: SIZE + 1])


def is_exact(values: set[int]) -> bool:
    """Whether `count` is exact."""
    return len(values) <= SIZE


def count(values: set[int]) -> int:
    """How many different values were added."""
    if is_exact(values):
        return len(values)
    return round((SIZE - 1) * 2.0**64 / sorted(values)[SIZE - 1])
