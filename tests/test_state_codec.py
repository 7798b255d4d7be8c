"""The bytes of a user's state: golden, versioned, and bounded."""

from __future__ import annotations

import hashlib
import zlib

import pytest

from bench.traffic import session
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.user_state import UserState

START_MS = 1_750_000_000_000

# A change here is a change of format: raise VERSION, keep the old decoder, and add golden bytes instead of editing.
GOLDEN_ACTIVE = "5927d2b3e5b7bbe57be35ac1c132a150a9e49d4991e1172194380a7e302a2f74"
GOLDEN_IDLE = "af772774f114f3ca53afd50886727b5fe28ae2e31aa5356546b1279b16fd5d8a"
GOLDEN_HEAVY = "cafe5e7b839372488f9b76e67b8ac8b06cef98f2007aec21591a929f62adc3e8"


def state_after(events: int, *, closed: bool = False) -> tuple[Aggregation, UserState]:
    machine, log = Aggregation(AggregationConfig()), MemoryLog()
    state = None
    for envelope in session(events, "u", START_MS):
        state = machine.on_event(state, envelope, log).state
    if closed:
        state = machine.on_watermark(state, START_MS + 86_400_000, log).state
    assert state is not None
    return machine, state


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_active_users_bytes_are_golden() -> None:
    machine, state = state_after(6)
    assert digest(machine.encode(state)) == GOLDEN_ACTIVE


def test_an_idle_users_bytes_are_golden_and_deflated() -> None:
    machine, state = state_after(6, closed=True)
    data = machine.encode(state)
    assert data[:2] == b"\x01\x01"
    # What zlib makes of the same bytes differs by its version, so the golden bytes are those inside.
    assert digest(machine.encode(machine.decode(data))) == digest(data)
    assert digest(zlib.decompress(data[2:])) == GOLDEN_IDLE


def test_a_heavy_users_bytes_are_golden_buckets_included() -> None:
    machine, state = state_after(600)
    assert state.history.buckets is not None
    assert digest(machine.encode(state)) == GOLDEN_HEAVY


@pytest.mark.parametrize("events", [1, 6, 240, 241, 600])
def test_what_is_decoded_goes_on_as_if_it_had_not_been_encoded(events: int) -> None:
    machine, state = state_after(events)
    more = session(events + 40, "u", START_MS)[events:]
    copy, log, copy_log = machine.decode(machine.encode(state)), MemoryLog(), MemoryLog()
    for envelope in more:
        assert machine.on_event(copy, envelope, copy_log).records == machine.on_event(state, envelope, log).records
    assert machine.encode(copy) == machine.encode(state)


def test_a_version_of_the_future_is_refused_with_the_way_out() -> None:
    machine, state = state_after(1)
    data = b"\x63" + machine.encode(state)[1:]
    with pytest.raises(ValueError, match=r"format 99, but this release reads 1: run the release that wrote it"):
        machine.decode(data)


def test_state_stays_bounded_for_a_session_without_end() -> None:
    machine, state = state_after(3_000)
    size = len(machine.encode(state))
    machine, longer = state_after(6_000)
    assert len(machine.encode(longer)) < size + 64
    assert state.log_count <= AggregationConfig().max_log_events
