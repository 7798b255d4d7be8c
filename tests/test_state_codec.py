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
GOLDENS = Path(__file__).parent / "goldens"
FORMATS = {version: json.loads((GOLDENS / f"state_v{version}.json").read_text(encoding="utf-8")) for version in (2, 3)}
"""What the last release of a format made of these states, in Base64."""
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


@pytest.mark.parametrize("version", FORMATS)
@pytest.mark.parametrize("name", STATES)
def test_golden_bytes_of_a_format_are_read(name: str, version: int) -> None:
    # What zlib makes of the same bytes differs by its version, so idle users' bytes aren't compared as they are.
    machine, state = state_after(**STATES[name])
    old = base64.b64decode(FORMATS[version][name])
    assert old[0] == version
    assert facts(machine.decode(old)) == facts(state)
    assert machine.decode(old).user_id == ("" if version == 3 and STATES[name].get("closed") else "u")
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
