"""The bytes of a user's state: compact, explicit and versioned, so that a running job's state outlives a release.

Byte 0 is the format version. Byte 1 says whether the rest is packed, by `transforms.state_packing`: it is while no
session is open, as an idle user is read rarely and stored long. Otherwise it is MessagePack of `_State`, columns as
little-endian bytes.

A change of format raises `VERSION`, keeps a decoder for the one before, and adds its golden bytes to the tests.
"""

from __future__ import annotations

import sys
from array import array

import msgspec

from transforms import state_codec_v2
from transforms.buckets import Buckets
from transforms.history import History
from transforms.points import KEY_BYTES, Place
from transforms.session_so_far import SessionSoFar
from transforms.sessions import Session
from transforms.state_packing import pack_state, unpack_state
from transforms.user_state import UserState
from transforms.window_buckets import WINDOWS_MS

VERSION = 3
"""Format 2 is read too; format 1, that of 0.1.0, is not."""

if sys.byteorder != "little":
    raise ImportError("state is stored little-endian: run workers on x86-64 or ARM64")

_OPEN, _PACKED = b"\x03\x00", b"\x03\x01"


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
    packed = None if state.sessions else pack_state(state)
    return _OPEN + _encode(_fields(state)) if packed is None else _PACKED + packed


def decode(data: bytes, gap_ms: int, max_points: int) -> UserState:
    """A state from its bytes. Of a user whose sessions are all closed it may lack the user's name.

    Args:
      data: what `encode` gave, in this or an older release.
      gap_ms, max_points: as the job is configured now.

    Raises:
      ValueError: the bytes are of a version that this release does not know.
    """
    if data[0] == VERSION:
        if data[1]:
            return unpack_state(memoryview(data)[2:], gap_ms, max_points)
        packed = _decode(memoryview(data)[2:])
    elif data[0] == state_codec_v2.VERSION:
        packed = _decode(state_codec_v2.open_layout(data))
    else:
        raise ValueError(
            f"user state of format {data[0]}, but this release reads {state_codec_v2.VERSION} and {VERSION}: "
            "run the release that wrote it, or drain"
        )
    history = History(gap_ms, max_points)
    points, recency = history.points, history.recency
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


def _fields(state: UserState) -> tuple[object, ...]:
    """The fields of `_State`, in order; a tuple is made in half the time."""
    history = state.history
    points, recency, so_far = history.points, history.recency, history.session
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
        points.times.tobytes(),
        points.spent.tobytes(),
        points.total,
        points.kinds,
        points.flags,
        history.peaks,
        history.peak_amounts.tobytes(),
        recency.keys,
        recency.dims,
        recency.last,
        recency.own,
        recency.closed,
        points.closed_place,
        points.open,
        points.place_table,
        [None if b is None else (b.newest, b.totals, b.cells.tobytes()) for b in history.buckets],
        *([history.said] if history.said else ()),
    )


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
