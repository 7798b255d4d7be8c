"""A file replayed as a stream: what arrives when, where the watermark is, and that every kind of record occurs."""

from __future__ import annotations

import itertools
import json
import pickle
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import example, given
from hypothesis import strategies as st
from messages import LOGIN, RECEIVED_MS

from fraud_pipeline import local_runner
from fraud_pipeline.sources import peek_event_time_ms
from fraud_pipeline.stream_replay import DEFAULT_STALL_MS, ReplayClock, ReplayOptions, Step, plan, replay_stream
from transforms.aggregation import AggregationConfig
from transforms.events import Message
from transforms.hybrid import HybridAggregation
from transforms.parse_events import ParseEvents
from transforms.parsing import parse
from transforms.records import SessionRecord

SECOND, MINUTE, HOUR = 1_000, 60_000, 3_600_000
START = 1_772_368_500_000


def message(received_ms: int, event_time_ms: int | None = None, user_id: str = "u", event_id: str = "e") -> Message:
    event_time_ms = received_ms if event_time_ms is None else event_time_ms
    payload = {**LOGIN, "event_time": event_time_ms, "user_id": user_id, "event_id": event_id}
    return Message(json.dumps(payload).encode(), received_ms, "test")


malformed = st.builds(Message, st.binary(max_size=5), st.integers(START, START + HOUR - 1), st.just("test"))
timed = st.builds(message, st.integers(START, START + HOUR - 1), st.integers(START - HOUR, START + 2 * HOUR))
spans = st.lists(
    st.tuples(st.integers(START - MINUTE, START + HOUR), st.integers(1, 20 * MINUTE)).map(
        lambda s: (s[0], s[0] + s[1])
    ),
    max_size=2,
)
options = st.builds(
    ReplayOptions,
    watermark_delay_seconds=st.sampled_from([0, 0.001, 30, 600]),
    stalls=st.none() | spans.map(tuple),
    max_ticks=st.sampled_from([1, 2, 7, 1500]),
)
BURST = [message(START + n) for n in range(40)] + [message(START + HOUR - 99 + n) for n in range(40)]


@given(messages=st.lists(timed | malformed, max_size=40), options=options)
@example(messages=BURST, options=ReplayOptions(max_ticks=7))
@example(messages=BURST, options=ReplayOptions(stalls=((START + 5, START + HOUR - 90),), max_ticks=3))
def test_a_plan_keeps_its_word(messages: list[Message], options: ReplayOptions) -> None:
    steps = plan(messages, options)

    arrived = [message for step in steps for message in step.messages]
    assert arrived == sorted(messages, key=lambda message: message.received_ms)

    edges = 4 if options.stalls is None else 2 * len(options.stalls)
    assert len(steps) <= options.max_ticks + 2 * edges + 2

    seen: list[Message] = []
    watermark = None
    for step, following in itertools.zip_longest(steps, steps[1:]):
        assert all(message.received_ms <= step.clock_ms for message in seen), "nothing comes in before its time"
        assert all(step.clock_ms <= message.received_ms for message in step.messages)
        if following:
            assert step.clock_ms <= following.clock_ms
        if step.watermark_ms is not None:
            assert watermark is None or step.watermark_ms > watermark
            watermark = step.watermark_ms
        assert watermark == expected_watermark(seen, step, watermark, options)
        seen += step.messages


def expected_watermark(seen: list[Message], step: Step, watermark: int | None, options: ReplayOptions) -> int | None:
    """Where the watermark belongs at a step, told from all that came in before it."""
    delay_ms = round(options.watermark_delay_seconds * 1000)
    times = [
        min(time_ms, message.received_ms)
        for message in seen
        if (time_ms := peek_event_time_ms(message.payload)) is not None
    ]
    if not times or is_stalled(step.clock_ms, options, seen):
        assert step.watermark_ms is None
        return watermark
    is_silent = step.clock_ms - max(message.received_ms for message in seen) >= delay_ms
    at_least = (step.clock_ms if is_silent else max(times)) - delay_ms
    return at_least if watermark is None else max(watermark, at_least)


def is_stalled(clock_ms: int, options: ReplayOptions, seen: list[Message]) -> bool:
    # The default stall isn't reached by these: it is looked at below.
    return any(start <= clock_ms < end for start, end in options.stalls or ())


def steps_of(messages: list[Message], **kwargs: Any) -> list[Step]:
    return plan(messages, ReplayOptions(**kwargs))


def test_the_watermark_stays_behind_the_newest_event_time_by_the_delay() -> None:
    messages = [message(START), message(START + 10 * SECOND), message(START + 20 * SECOND, START + 5 * SECOND)]
    steps = steps_of([*messages, message(START + 29 * SECOND)], stalls=())

    assert [step.watermark_ms and step.watermark_ms - START for step in steps] == [
        None, -30 * SECOND, -20 * SECOND, None
    ]  # fmt: skip


def test_in_silence_the_watermark_follows_the_clock() -> None:
    steps = steps_of([message(START), message(START + 31 * SECOND), message(START + 2 * HOUR)], stalls=())

    assert [step.watermark_ms for step in steps] == [None, START + SECOND, START + 2 * HOUR - 30 * SECOND]


def test_an_event_time_ahead_of_its_arrival_does_not_move_the_watermark_past_it() -> None:
    steps = steps_of([message(START, START + HOUR), message(START + SECOND)], stalls=())

    assert steps[1].watermark_ms == START - 30 * SECOND


def test_in_a_stall_the_watermark_stands_and_afterwards_it_catches_up() -> None:
    messages = [message(START + n * MINUTE) for n in range(31)]
    steps = steps_of(messages, stalls=((START + 10 * MINUTE, START + 20 * MINUTE),))

    moves = {(step.clock_ms - START) / MINUTE: step.watermark_ms for step in steps if step.watermark_ms is not None}
    assert not [at for at in moves if 10 <= at < 20]
    assert moves[10 - 1 / MINUTE] == START + 10 * MINUTE - 1 - 30 * SECOND, "up to the stall it moves"
    assert moves[20] == START + 20 * MINUTE - 30 * SECOND
    assert sum(len(step.messages) for step in steps) == 31


def test_a_day_has_one_outage_unless_told_otherwise_and_an_hour_has_none() -> None:
    day = [message(START + n * MINUTE) for n in range(24 * 60)]
    moves = [step.clock_ms for step in plan(day) if step.watermark_ms is not None]
    longest = max(b - a for a, b in itertools.pairwise(moves))

    assert DEFAULT_STALL_MS <= longest < DEFAULT_STALL_MS + 3 * MINUTE
    hour = [step for step in plan(day[:59]) if step.watermark_ms is None]
    assert len(hour) == 1


def test_ticks_are_short_where_much_happens_and_there_are_some_in_a_quiet_hour() -> None:
    busy = [message(START + n * 10) for n in range(10_000)]
    quiet = [message(START + 100 * SECOND + n * MINUTE) for n in range(24 * 60)]
    steps = steps_of(busy + quiet, stalls=(), max_ticks=1_000)

    spans = [b.clock_ms - a.clock_ms for a, b in itertools.pairwise(steps)]
    assert max(spans) <= 5 * MINUTE
    in_busy = [step for step in steps if step.clock_ms < START + 100 * SECOND]
    assert max(len(step.messages) for step in in_busy) <= 3 * 10_000 / len(in_busy)
    assert len(in_busy) > 100
    assert 900 <= len(steps) <= 1_001


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"watermark_delay_seconds": -1}, "give 0 to 86,400"),
        ({"watermark_delay_seconds": float("nan")}, "give 0 to 86,400"),
        ({"max_ticks": 0}, "give at least 1"),
        ({"stalls": ((5, 5),)}, "give \\(start_ms, end_ms\\)"),
    ],
)
def test_wrong_options_are_told(kwargs: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReplayOptions(**kwargs)


def test_the_clock_tells_when_an_event_comes_in_and_can_be_sent_to_a_worker() -> None:
    clock = pickle.loads(pickle.dumps(ReplayClock(RECEIVED_MS)))
    envelope = parse(message(RECEIVED_MS + 1_500, RECEIVED_MS))

    assert clock(envelope) == 1.5


def replayed(messages: list[Message], check: Any, **kwargs: Any) -> None:
    local_runner.install()
    pipeline_options = PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])
    with beam.Pipeline(options=pipeline_options) as pipeline:
        check(pipeline | replay_stream(messages, ReplayOptions(**kwargs)))


def test_all_messages_come_in_stamped_with_their_event_time() -> None:
    messages = [message(START + n * SECOND, START + n * SECOND - 500, event_id=str(n)) for n in range(50)]
    messages.append(Message(b"\xff", START + 7, "broken"))
    messages.append(message(START + 9, START + HOUR))

    class WithTimestamp(beam.DoFn):
        def process(self, element: Message, at: Any = beam.DoFn.TimestampParam) -> Any:
            yield element, at.micros // 1000

    expected = [(m, START + n * SECOND - 500) for n, m in enumerate(messages[:50])]
    # No time, or one ahead of its arrival: then the arrival.
    expected += [(m, m.received_ms) for m in messages[50:]]
    replayed(messages, lambda stream: assert_that(stream | beam.ParDo(WithTimestamp()), equal_to(expected)))


def test_a_replay_brings_out_every_kind_of_record() -> None:
    filler = [message(START + n * MINUTE, user_id=f"filler{n}") for n in range(60)]
    silent = [message(START + 10 * MINUTE, user_id="silent")]
    late = [
        message(START + 5 * MINUTE, user_id="late", event_id="e1"),
        # Its session ended at minute 10, by the watermark at 10:30, and can be corrected until 15:30.
        message(START + 12 * MINUTE, START + 6 * MINUTE, user_id="late", event_id="e2"),
    ]
    on_time = [message(START + 40 * MINUTE, user_id="punctual")]
    messages = filler + silent + late + on_time

    def of(user_id: str) -> Any:
        return beam.Filter(lambda session: session.user_id == user_id) | beam.Map(summary)

    def summary(session: SessionRecord) -> tuple[str, int, bool]:
        return session.trigger, session.event_count, session.provisional

    def check(stream: Any) -> None:
        events = (stream | ParseEvents()).events
        # A minute more than the gap: silence alone isn't a stall.
        config = AggregationConfig(gap_seconds=300, grace_seconds=300, inactivity_seconds=360)
        sessions = events | HybridAggregation(config, ReplayClock(START))
        for user_id, expected in {
            "silent": [("INACTIVITY", 1, True), ("ON_TIME", 1, False)],
            "late": [("ON_TIME", 1, False), ("LATE", 2, False)],
            "punctual": [("ON_TIME", 1, False)],
        }.items():
            assert_that(sessions.sessions | user_id >> of(user_id), equal_to(expected), label=f"Check {user_id}")

    replayed(messages, check, stalls=((START + 14 * MINUTE, START + 34 * MINUTE),))
