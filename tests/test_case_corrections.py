"""A late event that changes a verdict changes the alert that told of it, however late the aggregation corrects."""

# mypy: allow-untyped-calls

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream as Stream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from scored import NOON_MS, SECOND, payment, rules
from suspicions import SEVERITY, Player, changes, current

from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.graph import build
from fraud_pipeline.stream_replay import ReplayClock
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.alerts import Alert
from transforms.cases import END_OF_TIME_MS, CaseConfig, matters
from transforms.entities import EntityConfig
from transforms.events import Envelope, Message
from transforms.features import FEATURE_INDEX
from transforms.records import FeatureRecord, FiredRule, Score

GAP_SECONDS, COOLDOWN_SECONDS, POINTS = 300, 240, 8
Arrival = tuple[int, int, int]
"""Number of the event; seconds after noon of its time; how many seconds later it is received."""


@st.composite
def arrivals(draw: st.DrawFn, most: int) -> list[list[Arrival]]:
    """Events of one user as they come in, in bundles: a session or two, a few of them late, or all by days."""
    length = draw(st.integers(2, most))
    odd = draw(st.dictionaries(st.integers(0, length), st.sampled_from([1, 100, 500]), max_size=3))
    steps = [odd.get(i, GAP_SECONDS - 10) for i in range(length)]
    late = draw(st.dictionaries(st.integers(0, length // 2), st.integers(1, 12), min_size=1, max_size=3))
    days_late = draw(st.sampled_from([0, 0, 200_000]))
    made = [(i, at, days_late + 250 * late.get(i, 0)) for i, at in enumerate(accumulate(steps))]
    made.sort(key=lambda each: each[1] + each[2])
    bundles: list[list[Arrival]] = [[]]
    for each in made:
        if bundles[-1] and draw(st.booleans()):
            bundles.append([])
        bundles[-1].append(each)
    return bundles


def judged(record: FeatureRecord) -> Score:
    """A verdict that late events turn: by the parity of what came before, and by how long before."""
    number = record.features[FEATURE_INDEX["event_count_30d"]]
    since = record.features[FEATURE_INDEX["seconds_since_last_event"]]
    codes = ("A" if number % 2 else "") + ("B" if since is not None and since < 150 else "")
    fired = tuple(FiredRule(code.lower(), code, SEVERITY[code], 0.6) for code in codes)
    action = ("allow", "review", "block")[len(codes)]
    return Score(record, 0.45 * len(codes), action, fired, "rules-1")


class Run:
    """The aggregation of a user and the cases after it, whose timers fire as soon as the watermark lets them."""

    def __init__(self, config: AggregationConfig, remember_seconds: float) -> None:
        self.machine = Aggregation(config)
        self.log = MemoryLog()
        self.state: Any = None
        self.timer_ms: int | None = None
        self.player = Player(CaseConfig(cooldown_seconds=COOLDOWN_SECONDS, remember_seconds=remember_seconds))
        self.newest: dict[str, Score] = {}
        self.waits_ms: list[int] = []
        self.watermark_ms = 0

    def play(self, bundles: Sequence[Sequence[Arrival]]) -> None:
        for bundle in bundles:
            self.advance(NOON_MS + SECOND * (bundle[0][1] + bundle[0][2]))
            for number, at, late in bundle:
                event = payment(SECOND * at, event_id=f"e{number}")
                received_ms = NOON_MS + SECOND * (at + late)
                step = self.machine.on_event(self.state, Envelope(event, b"", received_ms, "test", number), self.log)
                self.take(step)
            self.advance(self.watermark_ms)
        self.advance(END_OF_TIME_MS)

    def advance(self, watermark_ms: int) -> None:
        while self.timer_ms is not None and self.timer_ms <= watermark_ms:
            self.watermark_ms = max(self.watermark_ms, self.timer_ms)
            self.take(self.machine.on_watermark(self.state, self.timer_ms, self.log))
        self.watermark_ms = max(self.watermark_ms, watermark_ms)
        self.player.advance(self.watermark_ms)

    def take(self, step: Any) -> None:
        self.state, self.timer_ms = step.state, step.timer_ms
        for record in step.records:
            if isinstance(record, FeatureRecord):
                if record.trigger != "EVENT":
                    self.waits_ms.append(self.watermark_ms - max(record.event.event_time_ms, record.received_ms))
                score = self.newest[record.event.event_id] = judged(record)
                self.player.advance(self.watermark_ms)
                if matters(score):
                    self.player.play(score)


def expected(scores: Sequence[Score]) -> set[tuple[Any, ...]]:
    """The cases of some scores, by brute force: suspicious events that have a reason in common and no cool-down of
    silence between them, directly or through others, in order of time."""
    cases: list[list[Score]] = []
    for score in sorted((s for s in scores if s.action != "allow"), key=time_of):
        joined = [
            case
            for case in cases
            if time_of(score) - max(map(time_of, case)) <= SECOND * COOLDOWN_SECONDS
            and codes_of(case) & codes_of([score])
        ]
        cases = [case for case in cases if case not in joined] + [[each for case in joined for each in case] + [score]]
    return {
        (
            frozenset(s.record.event.event_id for s in case),
            frozenset(codes_of(case)),
            "block" if any(s.action == "block" for s in case) else "review",
            min(map(time_of, case)),
            max(map(time_of, case)),
        )
        for case in cases
    }


def time_of(score: Score) -> int:
    return score.record.event.event_time_ms


def codes_of(case: Sequence[Score]) -> set[str]:
    return {rule.reason_code for score in case for rule in score.fired}


def found(told: Sequence[Alert]) -> set[tuple[Any, ...]]:
    return {
        (
            frozenset(event.event_id for event in alert.events),
            frozenset(alert.reason_codes),
            alert.action,
            alert.first_event_ms,
            alert.last_event_ms,
        )
        for alert in current(told).values()
    }


def played(bundles: list[list[Arrival]], grace_seconds: int, remember_seconds: float | None = None) -> Run:
    config = AggregationConfig(gap_seconds=GAP_SECONDS, grace_seconds=grace_seconds, max_points=POINTS)
    run = Run(config, config.correctable_seconds if remember_seconds is None else remember_seconds)
    run.play(bundles)
    return run


GRACES = st.sampled_from([0, 300, 1_500])


@given(arrivals(POINTS), GRACES)
def test_what_stands_in_the_end_is_what_the_last_verdicts_say(bundles: list[list[Arrival]], grace: int) -> None:
    run = played(bundles, grace)
    assert found(run.player.told) == expected(list(run.newest.values()))
    assert all(alert.status != "open" for alert in current(run.player.told).values())
    assert run.player.state is None


@given(arrivals(3 * POINTS), GRACES)
def test_nothing_is_corrected_later_than_it_can_be(bundles: list[list[Arrival]], grace: int) -> None:
    run = played(bundles, grace)
    assert max(run.waits_ms, default=0) <= SECOND * (POINTS * GAP_SECONDS + grace)


def test_an_alert_is_put_right_even_at_the_end_of_what_can_be_corrected() -> None:
    grace = 1_500
    on_time = [[(i, (GAP_SECONDS - 1) * i, 0)] for i in range(1, POINTS)]
    last = on_time[-1][0][1]
    run = played([*on_time, [(0, 1, last + GAP_SECONDS + grace - 2)]], grace)
    bound_ms = SECOND * (POINTS * GAP_SECONDS + grace)
    assert 0.9 * bound_ms < max(run.waits_ms) <= bound_ms
    assert "WITHDRAWN" in changes(run.player.told)
    assert found(run.player.told) == expected(list(run.newest.values()))


def at(minute: float) -> Timestamp:
    return Timestamp(micros=1_000 * (NOON_MS + round(60 * SECOND * minute)))


def message(minute: int, event_type: str, received_minute: int | None = None, **fields: Any) -> Any:
    """A message of u1's on one phone, stamped with its event time."""
    event = {"event_id": f"{event_type}{minute}", "user_id": "u1", "event_time": NOON_MS + 60 * SECOND * minute}
    payload = json.dumps({**event, "event_type": event_type, "device_id": "phone", **fields}).encode()
    received_ms = NOON_MS + 60 * SECOND * (minute if received_minute is None else received_minute)
    return TimestampedValue(Message(payload, received_ms, "test"), at(minute))


COLLECTED: list[Alert] = []


def collect(alert: Alert) -> None:
    COLLECTED.append(alert)


def test_on_a_stream_a_case_is_put_right_more_than_a_day_after_it_closed() -> None:
    """A payment from a new device opens a session of 31 hours. Then an earlier login from that device turns up."""
    hours = 31
    stream = Stream().add_elements([message(0, "payment", amount_minor=900, currency="EUR")])
    for minute in range(58, 60 * hours, 58):
        stream = stream.advance_watermark_to(at(minute)).add_elements([message(minute, "login", outcome="success")])
    stream = (
        stream.add_elements([message(-10, "login", outcome="success", received_minute=60 * hours)])
        .advance_watermark_to(at(60 * hours + 60))
        .advance_watermark_to_infinity()
    )
    config = PipelineConfig(
        gap_seconds=3_600,
        rules=rules("event_type == 'payment' && is_new_device", weight=0.7),
        entities=EntityConfig(),
        clock=ReplayClock(NOON_MS),
    )
    COLLECTED.clear()
    with beam.Pipeline("BundleBasedDirectRunner", PipelineOptions(["--streaming"])) as p:
        _ = build(p | stream, config).alerts | beam.Map(collect)
    assert changes(COLLECTED) == ["OPENED", "CLOSED", "WITHDRAWN"]
    assert len({alert.alert_id for alert in COLLECTED}) == 1
    assert COLLECTED[-1].version == max(alert.version for alert in COLLECTED)
    assert current(COLLECTED) == {}


@pytest.mark.parametrize(("gap_seconds", "grace_seconds", "days"), [(300, 300, 1), (1_800, 300, 5), (300, 604_800, 7)])
def test_a_job_remembers_cases_for_as_long_as_it_corrects_scores(
    gap_seconds: int, grace_seconds: int, days: int
) -> None:
    config = PipelineConfig(gap_seconds=gap_seconds, grace_seconds=grace_seconds)
    remembered = config.remembered_cases.remember_seconds
    assert remembered >= config.aggregation.correctable_seconds
    assert days <= remembered / 86_400 < days + 1
