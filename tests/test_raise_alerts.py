"""Cases on Beam: state, timers and bundles of a real runner give what the state machine gives."""

# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from scored import MINUTE, NOON_MS
from suspicions import changes, current, essence, suspicion

from transforms.alerts import Alert
from transforms.cases import CaseConfig, Cases
from transforms.raise_alerts import RaiseAlerts
from transforms.records import Score

COLLECTED: list[Any] = []


def collect(element: Any) -> None:
    COLLECTED.append(element)


def at(minute: float) -> Timestamp:
    return Timestamp(micros=1_000 * (NOON_MS + round(minute * MINUTE)))


def stamped(score: Score) -> TimestampedValue[Score]:
    return TimestampedValue(score, Timestamp(micros=1_000 * score.record.event.event_time_ms))


def streamed(stream: test_stream.TestStream, config: CaseConfig = CaseConfig()) -> list[Alert]:
    """What the stream gives, in order."""
    COLLECTED.clear()
    with beam.Pipeline("BundleBasedDirectRunner", PipelineOptions(["--streaming"])) as p:
        _ = p | stream | RaiseAlerts(config) | beam.Map(collect)
    return list(COLLECTED)


def test_a_case_opens_escalates_closes_and_is_forgotten() -> None:
    stream = (
        test_stream.TestStream()
        .add_elements([stamped(suspicion(0, "a", "B")), stamped(suspicion(1, "b", "B"))])
        .advance_watermark_to(at(1))
        .add_elements([stamped(suspicion(2, "c", "BC", action="block", score=0.95))])
        .advance_watermark_to(at(62))
        .advance_watermark_to(at(63))
        .add_elements([stamped(suspicion(70, "d", "B", version=9))])
        .advance_watermark_to(at(3_000))
        .advance_watermark_to_infinity()
    )
    told = streamed(stream)
    assert changes(told) == ["OPENED", "GREW", "ESCALATED", "CLOSED", "OPENED", "CLOSED"]
    assert len({alert.alert_id for alert in told}) == 2
    assert [alert.event_count for alert in told] == [1, 2, 3, 3, 1, 1]


def test_keys_have_cases_of_their_own() -> None:
    scores = [suspicion(i, f"e{i}", user_id=f"u{i % 5}") for i in range(50)]
    stream = test_stream.TestStream().add_elements([stamped(score) for score in scores]).advance_watermark_to_infinity()
    told = streamed(stream)
    assert {(alert.user_id, alert.event_count) for alert in current(told).values()} == {(f"u{i}", 10) for i in range(5)}


def test_a_correction_after_the_watermark_updates_the_same_alert() -> None:
    stream = (
        test_stream.TestStream()
        .add_elements([stamped(suspicion(0, "a", version=1))])
        .advance_watermark_to(at(100))
        .add_elements([stamped(suspicion(0, "a", "", version=2, trigger="LATE"))])
        .advance_watermark_to_infinity()
    )
    told = streamed(stream)
    assert changes(told) == ["OPENED", "CLOSED", "WITHDRAWN"]
    assert len({alert.alert_id for alert in told}) == 1
    assert current(told) == {}


@pytest.mark.parametrize("runner", ["FnApiRunner", "BundleBasedDirectRunner"])
def test_the_batch_path_gives_the_last_version_of_each_case(runner: str) -> None:
    scores = [suspicion(7 * i, f"e{i}", "AB"[i % 2], user_id=f"u{i % 3}") for i in range(90)]
    COLLECTED.clear()
    pipeline = beam.Pipeline(runner, PipelineOptions([]))
    with pipeline as p:
        alerts = p | beam.Create(scores) | RaiseAlerts(CaseConfig(), bounded=True)
        assert alerts.element_type is Alert
        _ = alerts | beam.Map(collect)
    machine = Cases(CaseConfig())
    expected = [
        alert
        for user_id in ("u0", "u1", "u2")
        for alert in machine.backfill(
            f"user_id:{user_id}", [machine.finding(s) for s in scores if s.record.event.user_id == user_id]
        )
    ]
    assert essence(COLLECTED) == essence(expected)
    assert set(changes(COLLECTED)) == {"CLOSED"}
    (counter,) = pipeline.result.metrics().query(MetricsFilter().with_namespace("alerts"))["counters"]
    assert (counter.key.metric.name, counter.committed) == ("closed", len(expected))
    assert len({alert.alert_id for alert in COLLECTED}) == len(COLLECTED)


def test_windows_are_refused_as_a_case_would_end_with_them() -> None:
    with pytest.raises(TypeError, match="RaiseAlerts needs scores in the global window"):
        _ = (
            beam.Pipeline(options=PipelineOptions([]))
            | beam.Create([suspicion(0, "a")])
            | beam.WindowInto(FixedWindows(60))
            | RaiseAlerts()
        )
