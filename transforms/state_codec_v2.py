"""Format 2 of a user's state: read, and never written any more.

An open state is laid out as in format 3. A packed one has the same fields, some of them in forms that deflate well:
differences for times, the amounts of payments only, the bytes of numbers by weight; lowest bytes and keys stand before
what was deflated.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from transforms.points import PAYMENT

VERSION: Final = 2

_TIMES, _SPENT, _TOTAL, _KINDS, _KEYS, _LAST, _OWN = 17, 18, 19, 20, 24, 26, 27
"""Where fields stand."""
_NOISY_TIME, _NOISY_AMOUNT = 2, 1
"""So many low bytes of times (milliseconds) and of amounts weren't deflated."""


def open_layout(data: bytes) -> bytes:
    """The fields of a state of format 2 as an open state of format 3 has them.

    Args:
      data: the state's bytes, the first two included.
    """
    if not data[1]:
        return data[2:]
    at = 4 + int.from_bytes(data[2:4], "little")
    apart, fields = data[4:at], msgspec.msgpack.decode(zlib.decompress(data[at:], wbits=-15))
    is_payment = _octets(fields[_KINDS]) == PAYMENT
    payments_at = _NOISY_TIME * len(is_payment)
    keys_at = payments_at + _NOISY_AMOUNT * int(np.count_nonzero(is_payment))
    amounts = np.zeros(len(is_payment), np.int64)
    amounts[is_payment] = _numbers(apart[payments_at:keys_at] + fields[_SPENT])
    last = np.cumsum(_octets(fields[_LAST]), dtype=np.uint8)
    fields[_TIMES] = np.cumsum(_numbers(apart[:payments_at] + fields[_TIMES])).tobytes()
    fields[_SPENT] = (fields[_TOTAL] - np.cumsum(amounts[::-1])[::-1]).tobytes()
    fields[_KEYS] = apart[keys_at:]
    fields[_LAST] = last.tobytes()
    fields[_OWN] = (last - _octets(fields[_OWN])).tobytes()
    return msgspec.msgpack.encode(fields)


def _numbers(data: bytes) -> NDArray[np.int64]:
    return np.frombuffer(data, np.uint8).reshape(8, -1).T.copy().view("<i8").reshape(-1)


def _octets(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
