"""An idle user's state, packed: no session is open, so it is read rarely and stored long.

What follows from the rest isn't stored: peaks, sums, the session of the newest point, whose own a value is (but where
a failed login showed it last), buckets as far as the points fill them, the user's name (the next event has it). Nor is
what no feature reads: flags of logins but the last successful one, the order of values that one point showed.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

import msgspec
import numpy as np

from transforms.bit_columns import Ints
from transforms.bucket_rows import beyond_points, with_points
from transforms.buckets import FIELDS
from transforms.history import History
from transforms.points import DIMENSIONS, LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT, Points
from transforms.session_so_far import NEVER_MS, SessionSoFar
from transforms.state_columns import Columns, guessed, pack_columns, unpack_columns
from transforms.user_state import UserState
from transforms.window_buckets import WINDOWS_MS

_DEGREE: Final = 1_000_000
"""Degrees come with so many decimals at most, as a rule, and an integer is shorter than a double."""


class _Idle(msgspec.Struct, array_like=True, gc=False):
    """What is stored. Times but the first are differences from it; at the end, what is as by default is left out.

    Attributes:
      buckets: of each window the newest bucket and how many rows of the sums are its oldest ones.
    """

    newest_ms: int
    version: int
    closed_through_ms: int
    points: int
    columns: bytes
    place: tuple[int | float, int | float, int] | None = None
    timer_ms: int | None = None
    lost_ms: int | None = None
    buckets: list[tuple[int, int] | None] | None = None
    login_flags: int = 0
    last_point_ms: int = 0
    inactivity_ms: int | None = None
    disorder_ms: int | None = None
    log_count: int = 0
    log_overflow: bool = False


_DEFAULTS: Final = _Idle.__struct_defaults__
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Idle).decode


def pack_state(state: UserState) -> bytes | None:
    """The bytes of an idle state; None if it isn't idle, or is as only colliding hashes make it."""
    history = state.history
    points, newest_ms = history.points, state.newest_ms
    if state.sessions or points.open:
        return None
    if (found := columns_of(history)) is None:
        return None
    columns, buckets = found
    login = points.kinds.rfind(LOGIN_SUCCESS)
    fields = [
        newest_ms,
        state.version - newest_ms,
        state.closed_through_ms - newest_ms,
        len(points),
        pack_columns(columns),
        _pack_place(points, newest_ms),
        _less(state.timer_ms, newest_ms),
        None if history.lost_ms == NEVER_MS else history.lost_ms - newest_ms,
        buckets or None,
        points.flags[login] if login >= 0 else 0,
        points.times[-1] - newest_ms if points.times else 0,
        _less(state.inactivity_ms, newest_ms),
        _less(state.disorder_ms, newest_ms),
        state.log_count,
        state.log_overflow,
    ]
    for default in reversed(_DEFAULTS):
        if fields[-1] != default:
            break
        del fields[-1]
    return _encode(fields)


def unpack_state(data: bytes | memoryview, gap_ms: int, max_points: int) -> UserState:
    """The state whose bytes these are, without the user's name."""
    packed = _decode(data)
    newest_ms = packed.newest_ms
    state = UserState("", newest_ms + packed.version, History(gap_ms, max_points))
    state.newest_ms = newest_ms
    state.closed_through_ms = newest_ms + packed.closed_through_ms
    state.timer_ms = _plus(packed.timer_ms, newest_ms)
    state.inactivity_ms = _plus(packed.inactivity_ms, newest_ms)
    state.disorder_ms = _plus(packed.disorder_ms, newest_ms)
    state.log_count = packed.log_count
    state.log_overflow = packed.log_overflow
    history = state.history
    points = history.points
    rows = sum(b[1] for b in packed.buckets or () if b is not None)
    columns = unpack_columns(packed.columns, packed.points, rows)
    if packed.points:
        _fill(history, columns, newest_ms + packed.last_point_ms, packed.buckets or [])
    login = points.kinds.rfind(LOGIN_SUCCESS)
    if login >= 0:
        points.flags[login] = packed.login_flags
    if packed.lost_ms is not None:
        history.lost_ms = newest_ms + packed.lost_ms
    if packed.place is not None:
        points.closed_place = _unpack_place(packed.place, points, newest_ms)
    return state


def columns_of(history: History) -> tuple[Columns, list[tuple[int, int] | None]] | None:
    """The columns of a user without open points, and of each window's buckets the newest one and how many rows of the
    sums they have; None if columns can't hold it all."""
    points, recency = history.points, history.recency
    times, spent = np.array(points.times, np.int64), np.array(points.spent, np.int64)
    kinds, last, dims, own = map(_ints, (points.kinds, recency.last, recency.dims, recency.own))
    amounts = np.diff(spent, append=points.total)
    sums = [np.zeros((0, FIELDS), np.int64)]
    buckets: list[tuple[int, int] | None] = []
    for bucket in history.buckets:
        if bucket is None:
            buckets.append(None)
        else:
            sums.append(beyond_points(bucket, times, kinds, amounts))
            buckets.append((bucket.newest, len(sums[-1])))
    order = np.lexsort((dims, last))
    last, dims, own = last[order], dims[order], own[order]
    of_guessed = guessed(kinds, last, dims)
    derived = last + 1
    derived[of_guessed] = own[of_guessed]
    rows = np.concatenate(sums)
    # Keys that collide can make a point the last one that showed two values of a dimension.
    if np.any(np.diff(last * len(DIMENSIONS) + dims) == 0) or np.any(own != derived) or rows.min(initial=0) < 0:
        return None
    keys = np.frombuffer(bytes(recency.keys), np.uint32)[order].tobytes()
    columns = Columns(np.diff(times), kinds, amounts[kinds == PAYMENT], last, dims, keys, own[of_guessed], rows)
    return columns, buckets


def _fill(history: History, columns: Columns, newest_ms: int, buckets: list[tuple[int, int] | None]) -> None:
    """Sets a history's points, values, peaks, session and buckets."""
    points, recency = history.points, history.recency
    gaps, kinds, payments = columns.gaps, columns.kinds, columns.amounts
    amounts = np.zeros(len(kinds), np.int64)
    paid = np.flatnonzero(kinds == PAYMENT)
    amounts[paid] = payments
    spent = np.cumsum(amounts)
    times = newest_ms - np.append(np.cumsum(gaps[::-1])[::-1], 0)
    points.times.frombytes(times.tobytes())
    points.spent.frombytes((spent - amounts).tobytes())
    points.total = int(spent[-1])
    points.kinds = _bytes(kinds)
    points.flags = bytearray(len(kinds))

    last, dims = columns.last, columns.dims
    own = last + 1
    own[guessed(kinds, last, dims)] = columns.own
    recency.keys = bytearray(columns.keys)
    recency.dims, recency.last, recency.own = _bytes(dims), _bytes(last), _bytes(own)
    recency.closed = len(last)

    # A peak is a payment that no later one reaches.
    largest_later = np.maximum.accumulate(np.append(-1, payments[:0:-1]))[::-1]
    is_peak = payments > largest_later[: len(payments)]
    history.peaks = _bytes(paid[is_peak])
    history.peak_amounts.frombytes(payments[is_peak].tobytes())

    # The next event begins a session, unless the job's gap is longer now.
    first = int(np.append(0, np.flatnonzero(gaps >= history.gap_ms) + 1)[-1])
    failures = points.kinds.count(LOGIN_FAILURE, first)
    history.session = SessionSoFar(
        points.times[first],
        len(kinds) - first,
        failures + points.kinds.count(LOGIN_SUCCESS, first),
        failures,
        points.kinds.count(PAYMENT, first),
        points.total - points.spent[first],
    )

    at = 0
    for window_ms, bucket in zip(WINDOWS_MS, buckets, strict=False):
        if bucket is None:
            history.buckets.append(None)
        else:
            newest, rows = bucket
            beyond = columns.sums[at : at + rows]
            history.buckets.append(with_points(window_ms, newest, beyond, times, kinds, amounts))
            at += rows


def _pack_place(points: Points, newest_ms: int) -> tuple[int | float, int | float, int] | None:
    if points.closed_place is None:
        return None
    latitude, longitude, time_ms = points.closed_place
    at = bisect_left(points.times, time_ms)
    is_points = at < len(points) and points.times[at] == time_ms
    return _short(latitude), _short(longitude), len(points) - at if is_points else time_ms - newest_ms


def _unpack_place(
    place: tuple[int | float, int | float, int], points: Points, newest_ms: int
) -> tuple[float, float, int]:
    latitude, longitude, when = place
    return _degrees(latitude), _degrees(longitude), points.times[-when] if when > 0 else newest_ms + when


def _short(degrees: float) -> int | float:
    millionths = round(degrees * _DEGREE)
    return millionths if millionths / _DEGREE == degrees else degrees


def _degrees(stored: int | float) -> float:
    return stored / _DEGREE if isinstance(stored, int) else stored


def _less(time_ms: int | None, newest_ms: int) -> int | None:
    return None if time_ms is None else time_ms - newest_ms


def _plus(time_ms: int | None, newest_ms: int) -> int | None:
    return None if time_ms is None else time_ms + newest_ms


def _ints(data: bytearray) -> Ints:
    return np.frombuffer(bytes(data), np.uint8).astype(np.int64)


def _bytes(numbers: Any) -> bytearray:
    return bytearray(numbers.astype(np.uint8).tobytes())
