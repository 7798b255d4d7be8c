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
GOLDEN_ACTIVE = "fde0f503ac58306c5d292150de8b2dce3de205355b6d8744580e641e998a2c26"
GOLDEN_IDLE = "e850c8041ee881925d239ca32427e6b9d0f8883e581f60219e1d91c7a1696260"
GOLDEN_HEAVY = "b430a02f638ae4fa15539a11d14e72f268c991f80f58fc01dfcb63bab0416995"


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
    assert data[:2] == b"\x02\x01"
    assert machine.encode(machine.decode(data)) == data
    # What zlib makes of the same bytes differs by its version, so the golden bytes are those inside.
    deflated_at = 4 + int.from_bytes(data[2:4], "little")
    assert digest(data[2:deflated_at] + zlib.decompress(data[deflated_at:], wbits=-15)) == GOLDEN_IDLE


def test_a_heavy_users_bytes_are_golden_buckets_included() -> None:
    machine, state = state_after(600)
    assert any(state.history.buckets)
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
    with pytest.raises(ValueError, match=r"format 99, but this release reads 2: run the release that wrote it"):
        machine.decode(data)


def test_state_stays_bounded_for_a_session_without_end() -> None:
    machine, state = state_after(3_000)
    size = len(machine.encode(state))
    machine, longer = state_after(6_000)
    assert len(machine.encode(longer)) < size + 64
    assert state.log_count <= AggregationConfig().max_log_events
