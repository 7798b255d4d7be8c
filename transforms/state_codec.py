"""The bytes of a user's state: compact, explicit and versioned, so that a running job's state outlives a release.

Byte 0 is the format version, byte 1 says whether the rest is packed (it is while no session is open: an idle user is
read rarely and stored long). The rest is MessagePack of `_State`, columns as little-endian bytes.

A change of format raises `VERSION`, keeps a decoder for the one before, and adds its golden bytes to the tests.
"""

from __future__ import annotations

import sys
import zlib
from array import array

import msgspec
import numpy as np
from numpy.typing import NDArray

from transforms.buckets import Buckets
from transforms.history import WINDOWS_MS, History
from transforms.points import KEY_BYTES, PAYMENT, Place
from transforms.session_so_far import SessionSoFar
from transforms.sessions import Session
from transforms.user_state import UserState

VERSION = 2
"""Format 1, that of 0.1.0, is not read."""

if sys.byteorder != "little":
    raise ImportError("state is stored little-endian: run workers on x86-64 or ARM64")

_OPEN, _PACKED = b"\x02\x00", b"\x02\x01"
_NOISY_TIME, _NOISY_AMOUNT = 2, 1
"""So many low bytes of times (milliseconds) and of amounts are noise, which deflating only makes longer."""


class _Session(msgspec.Struct, array_like=True, gc=False):
    start_ms: int
    last_ms: int
    status: int
    was_final: bool
    approximate: bool
    emitted: list[tuple[int, int]]
    event_count: int
    login_count: int
    failure_count: int
    payment_count: int
    amount_minor: int
    ips: bytes
    devices: bytes


class _State(msgspec.Struct, array_like=True, gc=False):
    user_id: str
    version: int
    closed_through_ms: int
    newest_ms: int
    log_count: int
    log_overflow: bool
    disorder_ms: int | None
    timer_ms: int | None
    inactivity_ms: int | None
    sessions: list[_Session]
    lost_ms: int
    session_start_ms: int
    session_event_count: int
    session_login_count: int
    session_failure_count: int
    session_payment_count: int
    session_amount_minor: int
    times: bytes
    spent: bytes
    total: int
    kinds: bytes
    flags: bytes
    peaks: bytes
    peak_amounts: bytes
    keys: bytes
    dims: bytes
    last: bytes
    own: bytes
    closed_values: int
    closed_place: tuple[float, float, int] | None
    open: bytes
    place_table: list[Place]
    buckets: list[tuple[int, list[int], bytes] | None]
    said: dict[bytes, bytes] = {}
    """Left out where it is empty, as it nearly always is."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode


def encode(state: UserState) -> bytes:
    """A state as bytes of the newest version."""
    if state.sessions:
        return _OPEN + _encode(_fields(state, _plain(state.history)))
    columns, incompressible = _packed(state.history)
    deflated = zlib.compress(_encode(_fields(state, columns)), wbits=-15)
    return b"%b%b%b%b" % (_PACKED, len(incompressible).to_bytes(2, "little"), incompressible, deflated)


def decode(data: bytes, gap_ms: int, max_points: int) -> UserState:
    """A state from its bytes.

    Args:
      data: what `encode` gave, in this or an older release.
      gap_ms, max_points: as the job is configured now.

    Raises:
      ValueError: the bytes are of a version that this release does not know.
    """
    if data[0] != VERSION:
        raise ValueError(
            f"user state of format {data[0]}, but this release reads {VERSION}: run the release that wrote it, or drain"
        )
    history = History(gap_ms, max_points)
    points, recency = history.points, history.recency
    if data[1]:
        at = 4 + int.from_bytes(data[2:4], "little")
        packed = _decode(zlib.decompress(data[at:], wbits=-15))
        _unpack(packed, data[4:at], history)
    else:
        packed = _decode(memoryview(data)[2:])
        points.times.frombytes(packed.times)
        points.spent.frombytes(packed.spent)
        recency.keys = bytearray(packed.keys)
        recency.last = bytearray(packed.last)
        recency.own = bytearray(packed.own)
    history.lost_ms = packed.lost_ms
    history.session = SessionSoFar(
        packed.session_start_ms,
        packed.session_event_count,
        packed.session_login_count,
        packed.session_failure_count,
        packed.session_payment_count,
        packed.session_amount_minor,
    )
    history.peaks = bytearray(packed.peaks)
    history.peak_amounts.frombytes(packed.peak_amounts)
    if packed.buckets:
        history.buckets = [_unpack_buckets(b, w) for b, w in zip(packed.buckets, WINDOWS_MS, strict=True)]
    recency.dims = bytearray(packed.dims)
    recency.closed = packed.closed_values
    points.total = packed.total
    points.kinds = bytearray(packed.kinds)
    points.flags = bytearray(packed.flags)
    points.closed_place = packed.closed_place
    points.open = bytearray(packed.open)
    points.place_table = packed.place_table
    history.said = packed.said

    state = UserState(packed.user_id, packed.version, history)
    state.closed_through_ms = packed.closed_through_ms
    state.newest_ms = packed.newest_ms
    state.log_count = packed.log_count
    state.log_overflow = packed.log_overflow
    state.disorder_ms = packed.disorder_ms
    state.timer_ms = packed.timer_ms
    state.inactivity_ms = packed.inactivity_ms
    state.sessions = [_unpack_session(s) for s in packed.sessions]
    return state


def _fields(state: UserState, columns: tuple[bytes | bytearray, ...]) -> tuple[object, ...]:
    """The fields of `_State`, in order; a tuple is made in half the time."""
    history = state.history
    points, recency, so_far = history.points, history.recency, history.session
    times, spent, keys, last, own = columns
    return (
        state.user_id,
        state.version,
        state.closed_through_ms,
        state.newest_ms,
        state.log_count,
        state.log_overflow,
        state.disorder_ms,
        state.timer_ms,
        state.inactivity_ms,
        [_pack_session(s) for s in state.sessions],
        history.lost_ms,
        so_far.start_ms,
        so_far.event_count,
        so_far.login_count,
        so_far.failure_count,
        so_far.payment_count,
        so_far.amount_minor,
        times,
        spent,
        points.total,
        points.kinds,
        points.flags,
        history.peaks,
        history.peak_amounts.tobytes(),
        keys,
        recency.dims,
        last,
        own,
        recency.closed,
        points.closed_place,
        points.open,
        points.place_table,
        [None if b is None else (b.newest, b.totals, b.cells.tobytes()) for b in history.buckets],
        *([history.said] if history.said else ()),
    )


def _plain(history: History) -> tuple[bytes | bytearray, ...]:
    points, recency = history.points, history.recency
    return points.times.tobytes(), points.spent.tobytes(), recency.keys, recency.last, recency.own


def _packed(history: History) -> tuple[tuple[bytes, ...], bytes]:
    """What `_plain` gives in forms that deflate well: differences, the amounts of payments only, and the low bytes of
    numbers apart from the high ones; and what doesn't deflate: hashes, and the lowest bytes."""
    points, recency = history.points, history.recency
    times = np.array(points.times, np.int64)
    times[1:] -= times[:-1].copy()
    amounts = np.diff(np.frombuffer(points.spent, np.int64), append=points.total)
    spent = _by_weight(amounts[_bytes_array(points.kinds) == PAYMENT])
    last, own = _bytes_array(recency.last), _bytes_array(recency.own)
    by_weight = _by_weight(times)
    columns = (
        by_weight[_NOISY_TIME:].tobytes(),
        spent[_NOISY_AMOUNT:].tobytes(),
        b"",
        np.diff(last, prepend=last.dtype.type(0)).tobytes(),
        (last - own).tobytes(),
    )
    return columns, b"".join((by_weight[:_NOISY_TIME].tobytes(), spent[:_NOISY_AMOUNT].tobytes(), recency.keys))


def _unpack(packed: _State, incompressible: bytes, history: History) -> None:
    points, recency = history.points, history.recency
    is_payment = _bytes_array(packed.kinds) == PAYMENT
    payments_at = _NOISY_TIME * len(is_payment)
    keys_at = payments_at + _NOISY_AMOUNT * int(np.count_nonzero(is_payment))
    times = _numbers(incompressible[:payments_at] + packed.times)
    points.times.frombytes(np.cumsum(times).tobytes())
    amounts = np.zeros(len(is_payment), np.int64)
    amounts[is_payment] = _numbers(incompressible[payments_at:keys_at] + packed.spent)
    points.spent.frombytes((packed.total - np.cumsum(amounts[::-1])[::-1]).tobytes())
    recency.keys = bytearray(incompressible[keys_at:])
    last = np.cumsum(_bytes_array(packed.last), dtype=np.uint8)
    recency.last = bytearray(last.tobytes())
    recency.own = bytearray((last - _bytes_array(packed.own)).tobytes())


def _by_weight(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A row with the lowest bytes of all numbers, one with the next ones, and so on."""
    return numbers.astype("<i8").view(np.uint8).reshape(-1, 8).T


def _numbers(data: bytes) -> NDArray[np.int64]:
    return np.frombuffer(data, np.uint8).reshape(8, -1).T.copy().view("<i8").reshape(-1)


def _bytes_array(data: bytes | bytearray) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _unpack_buckets(packed: tuple[int, list[int], bytes] | None, window_ms: int) -> Buckets | None:
    if packed is None:
        return None
    newest, totals, cells = packed
    return Buckets(window_ms, newest, totals, array("q", cells))


def _pack_session(session: Session) -> tuple[object, ...]:
    return (
        session.start_ms,
        session.last_ms,
        session.status,
        session.was_final,
        session.approximate,
        session.emitted,
        session.event_count,
        session.login_count,
        session.failure_count,
        session.payment_count,
        session.amount_minor,
        b"".join(sorted(session.ips)),
        b"".join(sorted(session.devices)),
    )


def _unpack_session(packed: _Session) -> Session:
    session = Session(packed.start_ms)
    session.last_ms = packed.last_ms
    session.status = packed.status
    session.was_final = packed.was_final
    session.approximate = packed.approximate
    session.emitted = packed.emitted
    session.event_count = packed.event_count
    session.login_count = packed.login_count
    session.failure_count = packed.failure_count
    session.payment_count = packed.payment_count
    session.amount_minor = packed.amount_minor
    session.ips = _keys(packed.ips)
    session.devices = _keys(packed.devices)
    return session


def _keys(data: bytes) -> set[bytes]:
    return {data[at : at + KEY_BYTES] for at in range(0, len(data), KEY_BYTES)}
