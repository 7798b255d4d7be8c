"""The prefix codes of idle users' states: how many bits each symbol's word has, a hexadecimal digit each.

They are made by `python -m bench.state_words` from simulated traffic. They are part of the format of state: a change
is a new version. Traffic unlike it takes longer words, of at most `LONGEST` bits.
"""

from __future__ import annotations

from typing import Final

from transforms.prefix_codes import PrefixCodes

KINDS: Final = 5
"""A point's symbol is its kind, and so many times a bit for each dimension that it was the last to show a value of."""

MIDDLE: Final = 63
"""Amounts are as large as is usual for their user and currency: the symbol of one is the difference of its bit length
from the mean, plus this."""

REPEATED: Final = 2 * MIDDLE + 1
"""The symbol of an amount that occurs several times: those are listed once."""

POINTS: Final = PrefixCodes(
    "62198c64e9ebaddbbaeeeeeeedbaedeeeee99eaaee4eeee6eeeebeeeeaeeeeeeeeeaeeeeeeeeedeeee6eeee7eeeebeeeebee"
    "eeeeeeeceeeeeeeee9eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee8eeeebeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
    "ee9eeeeaeeeeceeeebeeeeeeeeedeeeeeeeee8eeeeceeeedeeeeeeeeedeeeeeeeeeeeeeeeeeeebeeeeeeeeeeeeeeeeeeeeee"
    "eeeeeeeeeeeeeeeeeeee"
)

GAPS: Final = PrefixCodes(
    "ccccccccb887544443457654443458abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "ccccccccccccccb866686543332347bbccccccccccccccccccccbbbbbbbbbbbb",
    "bbbbbbbbbbbbba522235a99887779bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "cccccccccccba9622235988777678acccccccccccccccccccccccccbbbbbbbbb",
)
"""By bit length: from and to what is no payment, from a payment, to one, from and to one."""

AMOUNTS: Final = PrefixCodes(
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccb86543234578aaabbcccccccccccccccccccccccccc"
    "ccccccccccccccccccccccccccc2"
)

SUMS: Final = PrefixCodes(
    "133345cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
    "ccccccccccccccccccccbbbbbbb",
    "eeeeeeeeeeeedddddddddddddddddddddddddddddddddd9d876666dddddda664223348dddddddddddddddddddddddddddddd"
    "ddddddddddddddddddddddddddd",
)
"""Of counts and of amounts."""
