"""An idle user's state comes back from its bytes as it was, whatever led to it."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bench.state_size import typical
from tests.state_facts import START_MS, facts
from tests.strategies import DAY_MS, laws
from transforms import state_codec
from transforms.aggregation import Aggregation, AggregationConfig
from transforms.bit_columns import bit_lengths, from_low_bits, low_bits
from transforms.history import History
from transforms.points import (
    CLAIM,
    DIMENSIONS,
    KEY_BYTES,
    LOGIN_FAILURE,
    LOGIN_SUCCESS,
    MAX_POINTS_LIMIT,
    PAYMENT,
    SIGNUP,
    Point,
)
from transforms.user_state import UserState

GAP_MS = 300_000
KINDS = (LOGIN_FAILURE, LOGIN_SUCCESS, PAYMENT, SIGNUP, CLAIM)
STEPS_MS = (0, 0, 1, 999, 30_000, GAP_MS - 1, GAP_MS, 3_600_000, DAY_MS, 29 * DAY_MS, 31 * DAY_MS, 3_650 * DAY_MS)
AMOUNTS_MINOR = (0, 1, 999, 999, 100_000, 10**12)
DEGREES = (0.0, -0.5, 52.52, 13.405, -179.999999, 1 / 3)


def point(i: int, time_ms: int, kind: int, amount_minor: int, values: bytes, place: Any = None) -> Point:
    id_key = i.to_bytes(8, "big")
    return Point(time_ms, id_key, id_key, kind, amount_minor if kind == PAYMENT else 0, values, place)


def values(rng: Random, variety: int, kind: int) -> bytes:
    """Keys as `project` makes them: none where the event has no value, different ones in different dimensions."""
    out = b""
    for d in range(len(DIMENSIONS)):
        missing = rng.random() < 0.2 or (d > 2 and kind != PAYMENT)
        out += bytes(KEY_BYTES) if missing else (256 * (1 + rng.randrange(variety)) + d).to_bytes(KEY_BYTES, "big")
    return out


def insert_all(history: History, rng: Random, count: int, steps: tuple[int, ...], start_ms: int, variety: int) -> int:
    """Inserts events with steps of time like these; the time of the newest one."""
    time_ms = start_ms
    for i in range(count):
        time_ms += rng.choice(steps) if rng.random() < 0.5 else rng.randrange(max(steps) + 1)
        kind = rng.choice(KINDS)
        amount = rng.choice(AMOUNTS_MINOR) if rng.random() < 0.5 else int(10 ** (12 * rng.random()))
        place = (rng.choice(DEGREES), rng.choice(DEGREES)) if rng.random() < 0.7 else None
        history.insert(point(i, time_ms, kind, amount, values(rng, variety, kind), place))
        if rng.random() < 0.1:
            history.close_before(time_ms - GAP_MS)
    return time_ms


def idle_state(
    seed: int, count: int, longest_step_ms: int, variety: int, max_points: int, forgotten: bool
) -> UserState:
    """The state of a user who had so many events, all of them closed, and then perhaps all forgotten."""
    rng = Random(seed)
    history = History(GAP_MS, max_points)
    steps = tuple(step for step in STEPS_MS if step <= longest_step_ms)
    newest_ms = insert_all(history, rng, count, steps, rng.choice((START_MS, 1, -(10**12))), variety)
    state = UserState("u", rng.choice((newest_ms + 7, 0, 1 << 62)), history)
    state.newest_ms = newest_ms
    state.closed_through_ms = newest_ms + GAP_MS + 60 * DAY_MS * forgotten
    history.close_before(state.closed_through_ms)
    state.timer_ms = rng.choice((None, newest_ms, newest_ms + 30 * DAY_MS))
    state.inactivity_ms = rng.choice((None, newest_ms, 1))
    state.disorder_ms = rng.choice((None, newest_ms, newest_ms - 1))
    state.log_count = rng.choice((0, 1_024))
    state.log_overflow = rng.random() < 0.2
    return state


def survives(state: UserState) -> bytes:
    data = state_codec.encode(state)
    decoded = state_codec.decode(data, GAP_MS, state.history.max_points)
    assert facts(decoded) == facts(state)
    assert state_codec.encode(decoded) == data
    return data


idle_states = st.builds(
    idle_state,
    st.integers(0, 1 << 32),
    st.integers(1, 300),
    st.sampled_from(STEPS_MS),
    st.sampled_from((1, 4, 300, 1 << 23)),
    st.sampled_from((2, 50, 240, MAX_POINTS_LIMIT)),
    st.booleans(),
)


@laws()
@example(idle_state(1, 1, 0, 1, 240, False))
@example(idle_state(2, MAX_POINTS_LIMIT, 0, 1 << 23, MAX_POINTS_LIMIT, False))
@example(idle_state(3, MAX_POINTS_LIMIT, 3_600_000, 1 << 23, MAX_POINTS_LIMIT, False))
@example(idle_state(4, 300, 3_600_000, 4, 50, False))
@example(idle_state(5, 20, 3_650 * DAY_MS, 4, 240, True))
@given(state=idle_states)
def test_nothing_is_lost_of_an_idle_user(state: UserState) -> None:
    assert survives(state)[:2] == b"\x03\x01"


@laws(0.5)
@given(state=idle_states, seed=st.integers(0, 1 << 32))
def test_features_go_on_as_if_it_had_not_been_encoded(state: UserState, seed: int) -> None:
    """With late events among them, values seen before, and points given up."""
    decoded = state_codec.decode(state_codec.encode(state), GAP_MS, state.history.max_points)
    rng, steps = Random(seed), (0, 1, 30_000, GAP_MS - 1, DAY_MS, 10 * DAY_MS)
    times = [state.closed_through_ms + rng.choice(steps) for _ in range(40)]
    for i, time_ms in enumerate(times):
        kind = rng.choice(KINDS)
        event = point(1_000 + i, time_ms, kind, rng.choice(AMOUNTS_MINOR), values(rng, 4, kind), (1.0, 2.0))
        assert decoded.history.insert(event) == state.history.insert(event)
        assert decoded.history.approximate == state.history.approximate
    for history in (decoded.history, state.history):
        history.close_before(max(times) + GAP_MS)
    assert facts(decoded) == facts(state)


def test_the_extremes_are_among_what_is_tried() -> None:
    assert len(idle_state(2, MAX_POINTS_LIMIT, 0, 1 << 23, MAX_POINTS_LIMIT, False).history.points) == MAX_POINTS_LIMIT
    assert len(idle_state(5, 20, 3_650 * DAY_MS, 4, 240, True).history.points) == 0
    assert any(idle_state(4, 300, 3_600_000, 4, 50, False).history.buckets)


def test_without_points_there_is_a_state_still() -> None:
    state = UserState("u", 3, History(GAP_MS, 240))
    state.newest_ms, state.closed_through_ms = START_MS, START_MS + GAP_MS
    assert survives(state)[:2] == b"\x03\x01"


def test_where_keys_of_two_dimensions_collide_nothing_is_lost_either() -> None:
    """A payment to a merchant whose key is that of an earlier address: the last point to show two addresses."""
    address, collides, none = b"\0\0\1\0", b"\0\0\2\0", bytes(KEY_BYTES)
    history = History(GAP_MS, 240)
    history.insert(point(0, START_MS, LOGIN_SUCCESS, 0, collides + 5 * none))
    history.insert(point(1, START_MS + 1, PAYMENT, 100, address + 2 * none + collides + 2 * none))
    history.close_before(START_MS + GAP_MS + 1)
    state = UserState("u", 3, history)
    state.newest_ms, state.closed_through_ms = START_MS + 1, START_MS + 1 + GAP_MS
    assert survives(state)[:2] == b"\x03\x00"


def test_points_that_are_open_still_are_not_packed() -> None:
    state = UserState("u", 3, History(GAP_MS, 240))
    state.history.insert(point(0, START_MS, LOGIN_SUCCESS, 0, values(Random(1), 4, LOGIN_SUCCESS)))
    assert survives(state)[:2] == b"\x03\x00"


def test_a_month_of_a_typical_user_fits() -> None:
    """Most within a kibibyte; what is more grows with the user's points and values alone."""
    _, idle = typical(Aggregation(AggregationConfig()), users=30)
    assert sorted(idle)[len(idle) * 3 // 4] <= 1_024
    assert max(idle) <= 1_700


@laws()
@given(numbers=st.lists(st.one_of(st.integers(0, 5), st.integers(0, (1 << 63) - 1), st.just((1 << 53) + 1))))
def test_numbers_of_any_size_come_back_from_their_bits(numbers: list[int]) -> None:
    column = np.array(numbers, np.int64)
    lengths = bit_lengths(column)
    assert lengths.tolist() == [n.bit_length() for n in numbers]
    data = low_bits(column, lengths)
    came_back, size = from_low_bits(data + b"more", lengths)
    assert came_back.tolist() == numbers
    assert size == len(data)
