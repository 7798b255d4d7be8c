"""Scoring on Beam: the same answers as the pure function, at the events' own times."""

# mypy: allow-untyped-calls

from __future__ import annotations

import apache_beam as beam
import msgspec
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import TimestampedValue
from scored import MINUTE, login, payment, record, rules

from fraud_pipeline.rules import read_rules
from transforms.records import FeatureRecord
from transforms.rules import RuleSet
from transforms.score_events import ScoreFeatures
from transforms.scoring import score

SHIPPED = read_rules()
RECORDS = [
    record(login(0, "failure"), version=1, failures_in_a_row=7, login_failure_count_10m=7),
    record(login(MINUTE), version=2, failures_before_login=9, login_from_new_device=True, seconds_since_last_event=5.0),
    record(
        payment(2 * MINUTE),
        version=3,
        failures_before_login=9,
        login_from_new_device=True,
        seconds_since_login=60.0,
    ),
    record(payment(3 * MINUTE), version=4),
]


def counters(pipeline: beam.Pipeline) -> dict[str, int]:
    found = pipeline.result.metrics().query(MetricsFilter().with_namespace("rules"))
    return {c.key.metric.name: c.committed for c in found["counters"]}


@pytest.fixture(params=["FnApiRunner", "BundleBasedDirectRunner"])
def pipeline(request: pytest.FixtureRequest) -> beam.Pipeline:
    return beam.Pipeline(runner=request.param, options=PipelineOptions([]))


def timestamped(records: list[FeatureRecord]) -> beam.Create:
    return beam.Create([TimestampedValue(r, r.event.event_time_ms / 1000) for r in records])


def test_scores_are_those_of_the_pure_function(pipeline: beam.Pipeline) -> None:
    expected = [score(r, SHIPPED) for r in RECORDS]
    with pipeline as p:
        scores, dead_letters = p | timestamped(RECORDS) | beam.Map(lambda tv: tv) | ScoreFeatures(SHIPPED)
        assert_that(dead_letters, equal_to([]), label="none")
        times = scores | beam.Map(
            lambda s, t=beam.DoFn.TimestampParam: (s.record.event.event_time_ms, t.micros // 1000)
        )
        assert_that(scores, equal_to(expected), label="scores")
        assert_that(
            times | beam.Filter(lambda pair: pair[0] != pair[1]),
            equal_to([]),
            label="at their own times",
        )
    assert [s.action for s in expected] == ["review", "review", "block", "allow"]
    assert counters(pipeline) == {
        "action.allow": 1,
        "action.review": 2,
        "action.block": 1,
        **{f"fired.{rule}": 1 for s in expected for rule in [f.rule_id for f in s.fired]},
    }


def test_rules_on_trial_answer_as_they_would_live(pipeline: beam.Pipeline) -> None:
    trial = RuleSet(
        tuple(msgspec.structs.replace(each, mode="shadow") for each in SHIPPED.rules),
        SHIPPED.thresholds,
        SHIPPED.vocabulary,
    )
    live = {r.version: score(r, SHIPPED).fired for r in RECORDS}
    assert any(live.values())
    with pipeline as p:
        scores, _ = p | timestamped(RECORDS) | beam.Map(lambda tv: tv) | ScoreFeatures(trial)
        assert_that(scores | beam.Map(lambda s: (s.record.version, s.shadow)), equal_to(list(live.items())), "shadow")
        assert_that(scores | beam.Map(lambda s: (s.fired, s.score, s.action)), equal_to([((), 0.0, "allow")] * 4))
    assert counters(pipeline) == {
        "action.allow": 4,
        **{f"shadow.{rule.rule_id}": 1 for fired in live.values() for rule in fired},
    }


def test_a_rule_that_fails_is_counted_and_the_event_scored(pipeline: beam.Pipeline) -> None:
    failing: RuleSet = rules("login_count_1h / payment_count_1h > 1", "is_new_ip")
    with pipeline as p:
        scores, _ = p | beam.Create([record(is_new_ip=True), record(payment_count_1h=1)]) | ScoreFeatures(failing)
        assert_that(scores | beam.Map(lambda s: s.score), equal_to([0.5, 0.0]))
    assert {k: v for k, v in counters(pipeline).items() if k.startswith("errors")} == {"errors": 1, "errors.r0": 1}
