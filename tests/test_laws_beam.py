"""The laws where they meet Beam: state cells, timers and bundles of a real runner, driven by `TestStream`.

Times are in seconds from `ZERO`; a session is written as `(trigger, start, end, number of events)`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import Sessions, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from driver import Record, by_user, config_of, net, oracle_of
from hypothesis import given
from hypothesis import strategies as st
from oracle import NO_SUMS, Expected, ExpectedDeadLetter, ExpectedSession, check_step
from strategies import Arrive, Schedule, Watermark, envelope_of, pipelines, schedules

from transforms.aggregation import AggregationConfig
from transforms.events import DeadLetter, Envelope, Payment, Reason
from transforms.features import FEATURE_INDEX
from transforms.hybrid import Clock, HybridAggregation, HybridAggregationDoFn, key_by_user
from transforms.records import FeatureRecord, SessionRecord

ZERO = 1_700_000_000
GAP, GRACE, SILENCE, RETENTION = 10, 20, 300, 1_000
CONFIG = AggregationConfig(
    gap_seconds=GAP, grace_seconds=GRACE, inactivity_seconds=SILENCE, retention_seconds=RETENTION
)

COLLECTED: list[Any] = []
"""What the pipeline under test gave: functions of a test module are pickled by name, so this is not copied."""


def collect(record: Any) -> None:
    COLLECTED.append(record)


def received_clock(envelope: Envelope) -> float:
    """The processing time of a `TestStream`, which `Script` writes on each event."""
    return envelope.received_ms / 1000


class Script:
    """A `TestStream` in seconds from `ZERO`, with processing time from 0."""

    def __init__(self) -> None:
        self._stream = test_stream.TestStream()
        self._now_ms = 0

    def bundle(self, *envelopes: Envelope) -> Script:
        """These events, in one bundle."""
        self._stream.add_elements([self._element(envelope) for envelope in envelopes])
        return self

    def event(self, second: float, event_id: str, user_id: str = "u1") -> Script:
        """A payment in a bundle of its own."""
        return self.bundle(payment(second, event_id, user_id))

    def watermark(self, second: float) -> Script:
        self._stream.advance_watermark_to(Timestamp(micros=round((ZERO + second) * 1_000_000)))
        return self

    def wait(self, seconds: float) -> Script:
        """Lets processing time pass."""
        self._stream.advance_processing_time(seconds)
        self._now_ms += round(seconds * 1000)
        return self

    def play(
        self, config: AggregationConfig = CONFIG, dofn: type[beam.DoFn] = HybridAggregationDoFn
    ) -> dict[str, list[Record]]:
        """What the aggregation gives to each user, by version, dead letters last. A drain comes at the end."""
        COLLECTED.clear()
        with beam.Pipeline("BundleBasedDirectRunner", PipelineOptions(["--streaming"])) as pipeline:
            events = pipeline | self._stream
            if dofn is HybridAggregationDoFn:
                outputs = tuple(events | HybridAggregation(config, received_clock))
            else:
                tagged = beam.ParDo(dofn(config, received_clock)).with_outputs(
                    "sessions", "dead_letters", main="features"
                )
                outputs = tuple(events | key_by_user() | tagged)
            _ = outputs | beam.Flatten() | beam.Map(collect)
        return by_user(COLLECTED)

    def _element(self, envelope: Envelope) -> TimestampedValue[Envelope]:
        received = Envelope(
            event=envelope.event,
            payload=envelope.payload,
            received_ms=self._now_ms,
            source=envelope.source,
            digest=envelope.digest,
        )
        return TimestampedValue(received, Timestamp(micros=1000 * envelope.event.event_time_ms))


def payment(second: float, event_id: str, user_id: str = "u1", amount_minor: int = 1) -> Envelope:
    return envelope_of(
        Payment(
            event_id=event_id,
            user_id=user_id,
            event_time_ms=round((ZERO + second) * 1000),
            amount_minor=amount_minor,
            currency="EUR",
        )
    )


def timeline(records: Sequence[Record]) -> list[object]:
    """One user's records by version: scored events by id, sessions, and last the rejects. No corrections."""
    told: list[object] = []
    for r in records:
        if isinstance(r, SessionRecord):
            start, end = r.start_ms // 1000 - ZERO, r.end_ms // 1000 - ZERO
            told.append(("RETRACTED" if r.retracted else r.trigger, start, end, r.event_count))
        elif isinstance(r, DeadLetter):
            told.append((r.reason, r.event_id))
        elif r.trigger == "EVENT":
            told.append(r.event.event_id)
    return told


def corrections(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The corrected events by version, as (trigger, id)."""
    return [(r.trigger, r.event.event_id) for r in records if isinstance(r, FeatureRecord) and r.trigger != "EVENT"]


def test_on_time() -> None:
    script = Script().event(0, "a").event(9, "b").watermark(19).event(100, "c")
    (records,) = script.play().values()
    assert timeline(records) == ["a", "b", ("ON_TIME", 0, 19, 2), "c", ("ON_TIME", 100, 110, 1)]


def test_not_before_its_time() -> None:
    script = Script().event(0, "a").watermark(9.999).event(5, "b").watermark(14.999).event(14.5, "c")
    (records,) = script.play().values()
    assert timeline(records) == ["a", "b", "c", ("ON_TIME", 0, 24, 3)]


def test_exactly_one_gap_apart_are_two_sessions() -> None:
    (records,) = Script().event(0, "a").event(10, "b").play().values()
    assert timeline(records) == ["a", "b", ("ON_TIME", 0, 10, 1), ("ON_TIME", 10, 20, 1)]


def test_timer_is_set_by_the_newest_event_not_by_the_newest_arrival() -> None:
    script = Script().event(9, "new").event(0, "old").watermark(12).event(15, "newest")
    (records,) = script.play().values()
    assert timeline(records) == ["new", "old", "newest", ("ON_TIME", 0, 25, 3)]
    assert corrections(records) == [("ON_TIME", "new")]


def test_late_within_the_grace_period() -> None:
    script = Script().event(0, "a").event(5, "b").watermark(20).event(3, "late").event(100, "c")
    (records,) = script.play().values()
    assert timeline(records) == [
        "a",
        "b",
        ("ON_TIME", 0, 15, 2),
        "late",
        ("LATE", 0, 15, 3),
        "c",
        ("ON_TIME", 100, 110, 1),
    ]
    assert corrections(records) == [("LATE", "b")]


def test_too_late_after_the_grace_period() -> None:
    script = Script().event(0, "a").watermark(29.999).event(1, "late").watermark(31).event(2, "too_late")
    (records,) = script.play().values()
    assert timeline(records) == ["a", ("ON_TIME", 0, 10, 1), "late", ("LATE", 0, 11, 2), (Reason.TOO_LATE, "too_late")]


def test_a_first_event_however_late_is_scored_and_finalized_at_once() -> None:
    script = Script().watermark(RETENTION - 1).event(0, "a").event(1, "b").event(10, "c")
    (records,) = script.play().values()
    assert timeline(records) == [
        "a",
        ("ON_TIME", 0, 10, 1),
        "c",
        ("ON_TIME", 10, 20, 1),
        (Reason.TOO_LATE, "b"),
    ]


def test_a_late_event_joins_two_finalized_sessions_and_one_is_retracted() -> None:
    script = Script().event(0, "a").event(18, "c").watermark(29).event(9, "b").event(100, "d")
    (records,) = script.play().values()
    assert timeline(records) == [
        "a",
        "c",
        ("ON_TIME", 0, 10, 1),
        ("ON_TIME", 18, 28, 1),
        "b",
        ("LATE", 0, 28, 3),
        ("RETRACTED", 18, 28, 0),
        "d",
        ("ON_TIME", 100, 110, 1),
    ]
    assert corrections(records) == [("LATE", "c")]


def test_a_late_event_joins_a_finalized_session_to_one_that_goes_on() -> None:
    script = Script().event(0, "a").watermark(12).event(18, "c").event(9, "b").watermark(20).event(27, "d")
    (records,) = script.play().values()
    assert timeline(records) == ["a", ("ON_TIME", 0, 10, 1), "c", "b", "d", ("LATE", 0, 37, 4)]
    assert corrections(records) == [("LATE", "c")]


def test_late_events_of_one_bundle_join_before_a_finalized_session() -> None:
    """The session that takes the finalized one in is new; the correction is late all the same."""
    script = Script().event(18, "c").watermark(29).bundle(payment(0, "a"), payment(9, "b")).event(100, "d")
    (records,) = script.play().values()
    assert timeline(records) == [
        "c",
        ("ON_TIME", 18, 28, 1),
        "a",
        "b",
        ("LATE", 0, 28, 3),
        ("RETRACTED", 18, 28, 0),
        "d",
        ("ON_TIME", 100, 110, 1),
    ]


def test_silence_while_the_watermark_stands_still() -> None:
    script = Script().event(0, "a").wait(SILENCE + 1).event(3, "b")
    (records,) = script.play().values()
    assert timeline(records) == ["a", ("INACTIVITY", 0, 10, 1), "b", ("ON_TIME", 0, 13, 2)]
    assert [r.provisional for r in records if isinstance(r, SessionRecord)] == [True, False]


def test_on_time_follows_silence_even_if_nothing_changed() -> None:
    script = Script().event(0, "a").wait(SILENCE + 1).watermark(10).event(100, "b")
    (records,) = script.play().values()
    assert timeline(records) == [
        "a",
        ("INACTIVITY", 0, 10, 1),
        ("ON_TIME", 0, 10, 1),
        "b",
        ("ON_TIME", 100, 110, 1),
    ]


def test_silence_is_counted_from_the_last_event() -> None:
    script = Script().event(0, "a").wait(SILENCE - 10).event(1, "b").wait(SILENCE - 10).event(2, "c")
    (records,) = script.wait(SILENCE + 1).event(3, "d").play().values()
    assert timeline(records) == ["a", "b", "c", ("INACTIVITY", 0, 12, 3), "d", ("ON_TIME", 0, 13, 4)]


def test_silence_again_after_more_events() -> None:
    script = Script().event(0, "a").wait(SILENCE + 1).event(1, "b").wait(SILENCE + 1).event(2, "c")
    (records,) = script.play().values()
    assert timeline(records) == [
        "a",
        ("INACTIVITY", 0, 10, 1),
        "b",
        ("INACTIVITY", 0, 11, 2),
        "c",
        ("ON_TIME", 0, 12, 3),
    ]


def test_silence_corrects_and_retracts_provisionally() -> None:
    script = Script().event(18, "c").wait(SILENCE + 1).event(9, "b").wait(SILENCE + 1).event(100, "d")
    (records,) = script.play().values()
    assert timeline(records) == [
        "c",
        ("INACTIVITY", 18, 28, 1),
        "b",
        ("INACTIVITY", 9, 28, 2),
        ("RETRACTED", 18, 28, 0),
        "d",
        ("ON_TIME", 9, 28, 2),
        ("ON_TIME", 100, 110, 1),
    ]
    assert corrections(records) == [("INACTIVITY", "c")]


def test_silence_after_the_end_says_nothing() -> None:
    script = Script().event(0, "a").watermark(10).wait(SILENCE + 1).event(100, "b")
    (records,) = script.play().values()
    assert timeline(records) == ["a", ("ON_TIME", 0, 10, 1), "b", ("ON_TIME", 100, 110, 1)]


def test_what_was_closed_is_remembered_until_retention_has_passed() -> None:
    remembered = Script().event(0, "a").watermark(RETENTION - 1).event(1, "b")
    (records,) = remembered.play().values()
    assert timeline(records) == ["a", ("ON_TIME", 0, 10, 1), (Reason.TOO_LATE, "b")]
    forgotten = Script().event(0, "a").watermark(RETENTION).event(1, "b")
    (records,) = forgotten.play().values()
    first = [r for r in records if isinstance(r, FeatureRecord)]
    assert [r.features[FEATURE_INDEX["is_first_event"]] for r in first] == [True, True]
    assert not any(isinstance(r, DeadLetter) for r in records)


def test_the_reclaimed_state_is_gone_from_the_runner() -> None:
    """A redelivery, which state would reject, is scored: nothing of the user is left."""
    script = Script().event(0, "a").event(5, "b").watermark(RETENTION + 5).wait(2 * SILENCE).event(0, "a")
    (records,) = script.play().values()
    assert Counter(timeline(records))["a"] == 2


def test_drain_finalizes_everything_at_once() -> None:
    script = Script().event(0, "a").event(50, "b").event(3, "c").event(86_400, "d").event(41, "e")
    (records,) = script.play().values()
    assert timeline(records) == [
        *"abcde",
        ("ON_TIME", 0, 13, 2),
        ("ON_TIME", 41, 60, 2),
        ("ON_TIME", 86_400, 86_410, 1),
    ]
    # What came out of order changed what is known of all that came after it.
    assert sorted(event_id for _, event_id in corrections(records)) == ["b", "d"]


def test_redelivery_and_conflict() -> None:
    first = payment(0, "a")
    script = Script().bundle(first, first).bundle(first, payment(0, "a", amount_minor=2))
    (records,) = script.play().values()
    assert timeline(records)[:2] == ["a", ("ON_TIME", 0, 10, 1)]
    assert Counter(timeline(records)[2:]) == {(Reason.DUPLICATE, "a"): 2, (Reason.CONFLICT, "a"): 1}


def test_users_in_one_bundle_are_kept_apart() -> None:
    users = ["u1", "u2", "u3"]
    mixed = [payment(second, f"{user}-{second}", user) for second in (0, 18, 9, 30) for user in users]
    got = Script().bundle(*mixed).watermark(28).event(40, "more", "u2").play()
    assert sorted(got) == users
    for user in users:
        finals = net(got[user]).sessions.values()
        spans = sorted((r.start_ms // 1000 - ZERO, r.end_ms // 1000 - ZERO, r.event_count) for r in finals)
        assert spans == [(0, 28, 3), (30, 40, 1), *([(40, 50, 1)] if user == "u2" else [])]


class FiredTwice(beam.DoFn):
    """The aggregation on a runner that fires each timer twice, as BundleBasedDirectRunner now and then does."""

    STATE = ReadModifyWriteStateSpec("user_state", BytesCoder())
    LOG = BagStateSpec("open_events", BytesCoder())
    COMPLETION = TimerSpec("completion", TimeDomain.WATERMARK)
    INACTIVITY = TimerSpec("inactivity", TimeDomain.REAL_TIME)

    def __init__(self, config: AggregationConfig, clock: Clock) -> None:
        self._inner = HybridAggregationDoFn(config, clock)

    def setup(self) -> None:
        self._inner.setup()

    def process(
        self,
        element: tuple[str, Envelope],
        state_cell: Any = beam.DoFn.StateParam(STATE),
        bag: Any = beam.DoFn.StateParam(LOG),
        completion: Any = beam.DoFn.TimerParam(COMPLETION),
        inactivity: Any = beam.DoFn.TimerParam(INACTIVITY),
    ) -> Iterator[Any]:
        yield from self._inner.process(element, state_cell, bag, completion, inactivity)

    @on_timer(COMPLETION)
    def on_completion(
        self,
        fired: Any = beam.DoFn.TimestampParam,
        state_cell: Any = beam.DoFn.StateParam(STATE),
        bag: Any = beam.DoFn.StateParam(LOG),
        completion: Any = beam.DoFn.TimerParam(COMPLETION),
        inactivity: Any = beam.DoFn.TimerParam(INACTIVITY),
    ) -> Iterator[Any]:
        for _ in range(2):
            yield from self._inner.on_completion(fired, state_cell, bag, completion, inactivity)

    @on_timer(INACTIVITY)
    def on_inactivity(
        self,
        fired: Any = beam.DoFn.TimestampParam,
        state_cell: Any = beam.DoFn.StateParam(STATE),
        bag: Any = beam.DoFn.StateParam(LOG),
        inactivity: Any = beam.DoFn.TimerParam(INACTIVITY),
    ) -> Iterator[Any]:
        for _ in range(2):
            yield from self._inner.on_inactivity(fired, state_cell, bag, inactivity)


def test_a_timer_that_fires_twice_says_things_once() -> None:
    def script() -> Script:
        return (
            Script()
            .event(0, "a")
            .event(18, "c")
            .wait(SILENCE + 1)
            .watermark(29)
            .event(9, "b")
            .watermark(60)
            .event(100, "d")
            .event(3, "too_late")
        )

    (twice,) = script().play(dofn=FiredTwice).values()
    (once,) = script().play().values()
    assert timeline(twice) == timeline(once)
    assert corrections(twice) == corrections(once)
    kinds = Counter(t[0] for t in timeline(once) if isinstance(t, tuple))
    assert kinds == {"INACTIVITY": 2, "ON_TIME": 3, "LATE": 1, "RETRACTED": 1, Reason.TOO_LATE: 1}


@pipelines()
@given(schedules(max_users=3, silences=False), st.sampled_from([HybridAggregationDoFn, FiredTwice]))
def test_any_schedule_on_a_real_runner_says_what_the_laws_say(schedule: Schedule, dofn: type[beam.DoFn]) -> None:
    """State and timers are the runner's; order and content of the records are the oracle's."""
    got = stream_of(schedule).play(config_of(schedule.times), dofn)
    for user_id, steps in expected_steps(schedule).items():
        versioned = [r for r in got[user_id] if not isinstance(r, DeadLetter)]
        for step in steps:
            spoken = [x for x in step if not isinstance(x, ExpectedDeadLetter)]
            check_step(versioned[: len(spoken)], spoken, user_id)
            versioned = versioned[len(spoken) :]
        assert versioned == []
        check_rejects(got[user_id], steps)


@pipelines()
@given(schedules(max_users=3, silences=False, short_retention=True))
def test_any_schedule_on_a_real_runner_that_forgets_gives_the_same_sessions(schedule: Schedule) -> None:
    """Who is forgotten and comes back late has no memory of versions, so here the order isn't compared."""
    got = stream_of(schedule).play(config_of(schedule.times))
    for user_id, steps in expected_steps(schedule).items():
        wanted = Counter(
            (x.start_ms, x.end_ms, x.trigger, x.replaced_by is not None, *x.sums.values())
            for step in steps
            for x in step
            if isinstance(x, ExpectedSession)
        )
        assert wanted == Counter(
            (r.start_ms, r.end_ms, r.trigger, r.retracted, *(getattr(r, name) for name in NO_SUMS))
            for r in got[user_id]
            if isinstance(r, SessionRecord)
        )
        check_rejects(got[user_id], steps)


def check_rejects(records: Sequence[Record], steps: Sequence[Sequence[Expected]]) -> None:
    rejects = [x for step in steps for x in step if isinstance(x, ExpectedDeadLetter)]
    wanted = Counter((x.reason, x.envelope.event.event_id, x.envelope.payload) for x in rejects)
    assert wanted == Counter((r.reason, r.event_id, r.payload) for r in records if isinstance(r, DeadLetter))


def stream_of(schedule: Schedule) -> Script:
    """The schedule as a stream; a mark that doesn't move is left out, as `TestStream` refuses it."""
    script, bundle, watermark_ms = Script(), [], 0
    for op in schedule.ops:
        if isinstance(op, Arrive):
            bundle.append(op.envelope)
            if op.ends_bundle:
                script.bundle(*bundle)
                bundle = []
        elif isinstance(op, Watermark) and op.now_ms > watermark_ms:
            watermark_ms = op.now_ms
            script.watermark(watermark_ms / 1000 - ZERO)
    return script


def expected_steps(schedule: Schedule) -> dict[str, list[list[Expected]]]:
    """What each user's oracle says, step after step."""
    oracles = {user_id: oracle_of(schedule.times) for user_id in schedule.user_ids}
    steps: dict[str, list[list[Expected]]] = defaultdict(list)
    watermark_ms = 0

    def fire_due(until_ms: float) -> None:
        for user_id, oracle in oracles.items():
            while (due_ms := oracle.due_ms()) is not None and due_ms <= until_ms:
                steps[user_id].append(oracle.on_watermark(due_ms))

    for op in schedule.ops:
        if isinstance(op, Arrive):
            user_id = op.envelope.event.user_id
            received = Envelope(
                event=op.envelope.event,
                payload=op.envelope.payload,
                received_ms=0,
                source=op.envelope.source,
                digest=op.envelope.digest,
            )
            steps[user_id].append(oracles[user_id].on_event(received))
            if op.ends_bundle:
                fire_due(watermark_ms)
        elif isinstance(op, Watermark):
            watermark_ms = max(watermark_ms, op.now_ms)
            fire_due(watermark_ms)
    fire_due(float("inf"))
    return steps


class CountsItsBag(beam.DoFn):
    """A stateful DoFn behind session windows, as one would write it who believes that windows merge."""

    BAG = BagStateSpec("seen", VarIntCoder())

    def process(self, element: tuple[str, int], bag: Any = beam.DoFn.StateParam(BAG)) -> Iterator[int]:
        yield len(list(bag.read()))
        bag.add(1)


def test_pitfall_a_stateful_dofn_behind_session_windows_sees_an_empty_bag() -> None:
    """Why the aggregation makes its own sessions: three events of one session, three empty bags, and no error."""
    COLLECTED.clear()
    with beam.Pipeline("BundleBasedDirectRunner", PipelineOptions(["--streaming"])) as pipeline:
        _ = (
            pipeline
            | test_stream.TestStream()
            .add_elements([TimestampedValue(("u1", 1), ZERO + second) for second in (0, 1, 2)])
            .advance_watermark_to_infinity()
            | beam.Map(lambda pair: pair).with_output_types(tuple[str, int])
            | beam.WindowInto(Sessions(60))
            | beam.ParDo(CountsItsBag())
            | beam.Map(collect)
        )
    assert COLLECTED == [0, 0, 0]


@pytest.mark.parametrize("seconds", [1, 59])
def test_in_the_global_window_the_bag_is_kept(seconds: int) -> None:
    """The control of the pitfall: without session windows the same DoFn sees what came before."""
    COLLECTED.clear()
    with beam.Pipeline("BundleBasedDirectRunner", PipelineOptions(["--streaming"])) as pipeline:
        _ = (
            pipeline
            | test_stream.TestStream()
            .add_elements([TimestampedValue(("u1", 1), ZERO + i * seconds) for i in range(3)])
            .advance_watermark_to_infinity()
            | beam.Map(lambda pair: pair).with_output_types(tuple[str, int])
            | beam.ParDo(CountsItsBag())
            | beam.Map(collect)
        )
    assert COLLECTED == [0, 1, 2]
