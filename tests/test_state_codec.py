"""The bytes of a user's state: golden, versioned, and bounded."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench.traffic import session
from tests.state_facts import START_MS, facts, state_after, varied
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.features import FEATURE_INDEX
from transforms.records import FeatureRecord

# A change here is a change of format: raise VERSION, keep the old decoder, and add golden bytes instead of editing.
GOLDEN_ACTIVE = "0aae0bf7e77fb6e2d6b4a204bd55e263e4457849171dbb86343762bb3926150b"
GOLDEN_HEAVY = "aad5c282be989a8ed65f112db36eb7395a178dac879e02d5302d26bd21aa8cf0"
GOLDEN_IDLE = (
    "030198cf0000019774210310d1d8f7ce000493e0060ac439b6eb9f4fb7fd3f6ffa7ed81e87a1e87a1e87a7d7edd5300aea46"
    "172c7f4d498e004c79c5e50eb2b96b91eeab43d32092458e9c3ba1da5a2a500093ce03211620ce00cc77c001"
)
GOLDEN_VARIED = "bcd9c708074b3fd0237ab4b0fdef46b58ef2c29ac1d003c2aeac9b3b04c30c94"

FORMAT_2 = json.loads((Path(__file__).parent / "goldens" / "state_v2.json").read_text(encoding="utf-8"))
"""What the last release of format 2 made of these states, in Base64."""
STATES: dict[str, dict[str, Any]] = {
    "active": {"events": 6},
    "idle": {"events": 6, "closed": True},
    "heavy": {"events": 300, "closed": True},
    "varied": {"envelopes": varied(), "closed": True},
}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_active_users_bytes_are_golden() -> None:
    machine, state = state_after(6)
    data = machine.encode(state)
    assert data[:2] == b"\x03\x00"
    assert digest(data) == GOLDEN_ACTIVE


def test_a_heavy_users_bytes_are_golden_buckets_included() -> None:
    machine, state = state_after(600)
    assert any(state.history.buckets)
    assert digest(machine.encode(state)) == GOLDEN_HEAVY


def test_an_idle_users_bytes_are_golden_and_packed() -> None:
    machine, state = state_after(6, closed=True)
    data = machine.encode(state)
    assert data[:2] == b"\x03\x01"
    assert data.hex() == GOLDEN_IDLE
    assert machine.encode(machine.decode(data)) == data


def test_an_idle_users_bytes_are_golden_with_all_kinds_of_events() -> None:
    machine, state = state_after(closed=True, envelopes=varied())
    data = machine.encode(state)
    assert digest(data) == GOLDEN_VARIED
    assert machine.encode(machine.decode(data)) == data


@pytest.mark.parametrize("name", STATES)
def test_golden_bytes_of_format_2_are_read(name: str) -> None:
    machine, state = state_after(**STATES[name])
    old = base64.b64decode(FORMAT_2[name])
    assert old[0] == 2
    assert facts(machine.decode(old)) == facts(state)
    assert machine.decode(old).user_id == "u"
    assert machine.encode(machine.decode(old)) == machine.encode(state)


@pytest.mark.parametrize("name", STATES)
def test_nothing_is_lost(name: str) -> None:
    machine, state = state_after(**STATES[name])
    assert facts(machine.decode(machine.encode(state))) == facts(state)


@pytest.mark.parametrize("events", [1, 6, 240, 241, 600])
@pytest.mark.parametrize("closed", [False, True])
def test_what_is_decoded_goes_on_as_if_it_had_not_been_encoded(events: int, closed: bool) -> None:
    machine, state = state_after(events, closed=closed)
    start_ms = START_MS + 86_400_000 if closed else START_MS
    more = session(events + 40, "u", start_ms)[events:]
    copy, log, copy_log = machine.decode(machine.encode(state)), MemoryLog(), MemoryLog()
    for envelope in more:
        assert machine.on_event(copy, envelope, copy_log).records == machine.on_event(state, envelope, log).records
    assert facts(copy) == facts(state)
    now_ms = start_ms + 86_400_000
    assert machine.on_watermark(copy, now_ms, copy_log).records == machine.on_watermark(state, now_ms, log).records


def test_a_version_of_the_future_is_refused_with_the_way_out() -> None:
    machine, state = state_after(1)
    data = b"\x63" + machine.encode(state)[1:]
    with pytest.raises(ValueError, match=r"format 99, but this release reads 2 and 3: run the release that wrote it"):
        machine.decode(data)


def test_state_stays_bounded_for_a_session_without_end() -> None:
    machine, state = state_after(3_000)
    size = len(machine.encode(state))
    machine, longer = state_after(6_000)
    assert len(machine.encode(longer)) < size + 64
    assert state.log_count <= AggregationConfig().max_log_events


def test_the_session_goes_on_where_the_gap_is_longer_after_a_restart() -> None:
    machine, state = state_after(6, closed=True)
    longer = Aggregation(AggregationConfig(gap_seconds=3_600))
    envelope = session(1, "u", START_MS + 400_000)[0]
    [record] = longer.on_event(longer.decode(machine.encode(state)), envelope, MemoryLog()).records
    assert isinstance(record, FeatureRecord)
    assert record.features[FEATURE_INDEX["session_event_count"]] == 7
