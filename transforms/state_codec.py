"""The bytes of a user's state: compact, explicit and versioned, so that a running job's state outlives a release.

Byte 0 is the format version, byte 1 says whether the rest is deflated (it is while no session is open: an idle user
is read rarely and stored long). The rest is MessagePack of `_State`, columns as little-endian bytes.

A change of format raises `VERSION`, keeps a decoder for the one before, and adds its golden bytes to the tests.
"""

from __future__ import annotations

import sys
import zlib
from array import array

import msgspec

from transforms.buckets import Buckets
from transforms.history import History, SessionSoFar
from transforms.sessions import Session
from transforms.user_state import UserState

VERSION = 1

if sys.byteorder != "little":
    raise ImportError("state is stored little-endian: run workers on x86-64 or ARM64")


class _Session(msgspec.Struct, array_like=True, gc=False):
    start_ms: int
    last_ms: int
    status: int
    was_final: bool
    approximate: bool
    emitted: list[tuple[int, int]]
    counts: list[int]
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
    session_so_far: list[int]
    windows: list[list[int]]
    times: bytes
    amounts: bytes
    kinds: bytes
    flags: bytes
    places: bytes
    place_table: bytes
    codes: list[bytes]
    trusted: list[bytes]
    tables: list[bytes]
    ids: bytes
    digests: bytes
    buckets: tuple[list[int], list[int], bytes] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode


def encode(state: UserState) -> bytes:
    """A state as bytes of the newest version."""
    history, points, so_far = state.history, state.history.points, state.history.session
    body = _encode(
        _State(
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
            [
                so_far.start_ms,
                so_far.event_count,
                so_far.login_count,
                so_far.failure_count,
                so_far.payment_count,
                so_far.amount_minor,
            ],
            [
                history.starts,
                history.logins,
                history.failures,
                history.payments,
                history.amounts,
                history.maxima,
                history.distinct,
            ],
            points.times.tobytes(),
            points.amounts.tobytes(),
            points.kinds,  # type: ignore[arg-type]
            points.flags,  # type: ignore[arg-type]
            points.places,  # type: ignore[arg-type]
            points.place_table.tobytes(),
            points.codes,  # type: ignore[arg-type]
            points.trusted,  # type: ignore[arg-type]
            [array("Q", table).tobytes() for table in points.tables],
            points.ids,  # type: ignore[arg-type]
            points.digests,  # type: ignore[arg-type]
            _pack_buckets(history.buckets),
        )
    )
    if state.sessions:
        return b"\x01\x00" + body
    return b"\x01\x01" + zlib.compress(body)


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
    packed = _decode(zlib.decompress(data[2:]) if data[1] else memoryview(data)[2:])
    history = History(gap_ms, max_points)
    history.lost_ms = packed.lost_ms
    history.session = SessionSoFar(*packed.session_so_far)
    (
        history.starts,
        history.logins,
        history.failures,
        history.payments,
        history.amounts,
        history.maxima,
        history.distinct,
    ) = packed.windows
    history.buckets = _unpack_buckets(packed.buckets)
    points = history.points
    points.times.frombytes(packed.times)
    points.amounts.frombytes(packed.amounts)
    points.kinds = bytearray(packed.kinds)
    points.flags = bytearray(packed.flags)
    points.places = bytearray(packed.places)
    points.place_table.frombytes(packed.place_table)
    points.codes = [bytearray(column) for column in packed.codes]
    points.trusted = [bytearray(column) for column in packed.trusted]
    points.tables = [array("Q", table).tolist() for table in packed.tables]
    points.ids = bytearray(packed.ids)
    points.digests = bytearray(packed.digests)

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


def _pack_buckets(buckets: Buckets | None) -> tuple[list[int], list[int], bytes] | None:
    return None if buckets is None else (buckets.newest, buckets.totals, buckets.cells.tobytes())


def _unpack_buckets(packed: tuple[list[int], list[int], bytes] | None) -> Buckets | None:
    if packed is None:
        return None
    buckets = Buckets()
    buckets.newest, buckets.totals, buckets.cells = packed[0], packed[1], array("q", packed[2])
    return buckets


def _pack_session(session: Session) -> _Session:
    return _Session(
        session.start_ms,
        session.last_ms,
        session.status,
        session.was_final,
        session.approximate,
        session.emitted,
        [
            session.event_count,
            session.login_count,
            session.failure_count,
            session.payment_count,
            session.amount_minor,
        ],
        array("Q", sorted(session.ips)).tobytes(),
        array("Q", sorted(session.devices)).tobytes(),
    )


def _unpack_session(packed: _Session) -> Session:
    session = Session.__new__(Session)
    session.start_ms = packed.start_ms
    session.last_ms = packed.last_ms
    session.status = packed.status
    session.was_final = packed.was_final
    session.approximate = packed.approximate
    session.emitted = packed.emitted
    (
        session.event_count,
        session.login_count,
        session.failure_count,
        session.payment_count,
        session.amount_minor,
    ) = packed.counts
    session.ips = set(array("Q", packed.ips))
    session.devices = set(array("Q", packed.devices))
    return session
