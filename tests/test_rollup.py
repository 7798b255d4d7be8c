"""Roll-ups of one user's scores: what comes late about a session that is open, and what comes too late."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from scored import GAP_MS, MINUTE, NOON_MS, login
from suspicions import suspicion

from fraud_pipeline import local_runner, local_timers
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.events import Envelope
from transforms.records import FeatureRecord, Score
from transforms.rollup import RollupSessions, SessionRollup

ROLLUPS: list[SessionRollup] = []
GRACE_SECONDS = 300


def collect(rollup: SessionRollup) -> None:
    ROLLUPS.append(rollup)


def scored(minute: int, event_id: str, last: int, codes: str = "", version: int = 1, trigger: str = "EVENT") -> Score:
    """A score whose session has its newest event `last` minutes after noon."""
    made = suspicion(minute, event_id, codes, version=version, trigger=trigger)
    record = msgspec.structs.replace(made.record, session_last_ms=NOON_MS + last * MINUTE)
    return msgspec.structs.replace(made, record=record)


def roll_up(*steps: Score | int) -> list[SessionRollup]:
    """Scores as they come, and the watermark in minutes after noon between them."""
    local_runner.install()
    local_timers.install()
    ROLLUPS.clear()
    stream = TestStream()
    for step in steps:
        if isinstance(step, int):
            stream = stream.advance_watermark_to(NOON_MS / 1000 + step * 60)
        else:
            stream = stream.add_elements([TimestampedValue(step, step.record.event.event_time_ms / 1000)])
    options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | stream.advance_watermark_to_infinity()
            | RollupSessions(GAP_MS / 1000, GRACE_SECONDS, None)
            | beam.Map(collect)
        )
    return list(ROLLUPS)


def minutes(rollup: SessionRollup) -> tuple[Any, ...]:
    start, end = (rollup.start_ms - NOON_MS) // MINUTE, (rollup.end_ms - NOON_MS) // MINUTE
    return start, end, rollup.event_count, rollup.actions, rollup.pane


LONG = [scored(minute, f"e{minute}", minute) for minute in (0, 4, 8, 12)]


def test_a_correction_of_the_beginning_of_a_long_session_is_taken_when_its_end_is_over() -> None:
    correction = scored(0, "e0", 12, "A", version=9, trigger="ON_TIME")
    assert [minutes(r) for r in roll_up(*LONG, 17, correction)] == [
        (0, 17, 4, ("allow",), "ON_TIME"),
        (0, 17, 4, ("allow", "review"), "LATE"),
    ]


def test_an_event_past_grace_is_counted_and_moves_the_start_where_its_session_goes_on() -> None:
    assert minutes(roll_up(*LONG, 11, scored(-2, "early", 12))[-1]) == (-2, 17, 5, ("allow",), "ON_TIME")


def test_an_older_version_that_comes_later_changes_nothing() -> None:
    newest, older = scored(4, "e4", 12, "A", version=9), scored(4, "e4", 12, version=2)
    assert roll_up(*LONG, newest, older)[-1].actions == ("allow", "review")


def test_an_event_that_stands_alone_past_gap_and_grace_is_left_out() -> None:
    assert [minutes(r)[:3] for r in roll_up(scored(0, "e0", 0), 30, scored(19, "lone", 19))] == [(0, 5, 1)]
    assert [minutes(r)[:3] for r in roll_up(scored(0, "e0", 0), 30, scored(20, "lone", 20))] == [(0, 5, 1), (20, 25, 1)]


def test_a_record_of_the_aggregation_says_how_far_its_session_goes_by_then() -> None:
    machine, log, state, told = Aggregation(AggregationConfig()), MemoryLog(), None, []
    for minute, received in ((0, 0), (4, 4), (8, 8), (30, 30), (2, 30)):
        event = login(minute * MINUTE, event_id=f"e{minute}")
        envelope = Envelope(event, b"", NOON_MS + received * MINUTE, "", minute)
        state, records, _ = machine.on_event(state, envelope, log)
        told += records
    _, records, _ = machine.on_watermark(state, NOON_MS + 13 * MINUTE, log)
    told += [record for record in records if isinstance(record, FeatureRecord)]
    assert [(r.event.event_id, r.trigger, (r.session_last_ms - NOON_MS) // MINUTE) for r in told] == [
        ("e0", "EVENT", 0),
        ("e4", "EVENT", 4),
        ("e8", "EVENT", 8),
        ("e30", "EVENT", 30),
        ("e2", "EVENT", 8),
        ("e4", "ON_TIME", 8),
        ("e8", "ON_TIME", 8),
        ("e30", "ON_TIME", 30),
    ]
