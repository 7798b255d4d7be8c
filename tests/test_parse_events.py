"""The parsing step in a pipeline: one output for each message, at the right time, and an independent count."""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that
from messages import EVENT_TIME_MS, LABEL, LOGIN, PAYMENT, RECEIVED_MS, with_fields

from transforms.events import DeadLetter, Envelope, IntakeCount, Message, Reason
from transforms.parse_events import ParsedEvents, ParseEvents
from transforms.parsing import Limits, parse

NEXT_DAY_MS = RECEIVED_MS + 86_400_000
MESSAGES = [
    Message(with_fields(LOGIN), RECEIVED_MS, "f:1"),
    Message(with_fields(PAYMENT), NEXT_DAY_MS, "f:2"),
    Message(with_fields(LABEL), NEXT_DAY_MS + 1, "f:3"),
    Message(b"", RECEIVED_MS, "f:4"),
    Message(b"\xff" * 10, RECEIVED_MS, "f:5"),
    Message(with_fields(LOGIN), EVENT_TIME_MS - 60_001, "f:6"),
]


def with_timestamp(element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> tuple[Any, int]:
    return element, timestamp.micros


def holds(expected: list[Any]) -> Any:
    def check(actual: list[Any]) -> None:
        assert sorted(map(repr, actual)) == sorted(map(repr, expected))

    return check


def check_counts(counts: list[IntakeCount]) -> None:
    assert len({count.count_id for count in counts}) == len(counts)
    by_day: dict[int, int] = {}
    for count in counts:
        day = count.received_ms // 86_400_000
        by_day[day] = by_day.get(day, 0) + count.message_count
    assert list(by_day.values()) == [4, 2] or list(by_day.values()) == [2, 4], by_day


def check_all(parsed: ParsedEvents) -> None:
    outcomes = [parse(message) for message in MESSAGES]
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Envelope)]
    assert len(accepted) == 3
    assert_that(
        parsed.events | "EventTimes" >> beam.Map(with_timestamp),
        holds([(envelope, envelope.event.event_time_ms * 1000) for envelope in accepted]),
        "Events",
    )
    rejected = [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
    assert_that(parsed.dead_letters, holds(rejected), "DeadLetters")
    assert_that(parsed.intake, check_counts, "Intake")


def test_each_message_gives_one_event_or_dead_letter_and_is_counted() -> None:
    pipeline = beam.Pipeline(runner="DirectRunner")
    check_all(pipeline | beam.Create(MESSAGES) | ParseEvents())
    result = pipeline.run()
    result.wait_until_finish()

    counters = result.metrics().query(MetricsFilter().with_namespace("events"))["counters"]
    assert {counter.key.metric.name: counter.result for counter in counters} == {
        "received": 6,
        "accepted": 3,
        "rejected_empty": 1,
        "rejected_not_utf8": 1,
        "rejected_from_the_future": 1,
    }


def test_events_behind_the_watermark_come_through_at_their_own_time() -> None:
    stream = test_stream.TestStream().advance_watermark_to(EVENT_TIME_MS / 1000 + 3600)
    for message in MESSAGES:
        stream = stream.add_elements([message])
    with beam.Pipeline(runner="BundleBasedDirectRunner") as pipeline:
        check_all(pipeline | stream.advance_watermark_to_infinity().with_output_types(Message) | ParseEvents())


def test_the_limits_are_those_given() -> None:
    with beam.Pipeline(runner="DirectRunner") as pipeline:
        parsed = pipeline | beam.Create(MESSAGES[:1]) | ParseEvents(Limits(max_message_bytes=100))
        reasons = parsed.dead_letters | beam.Map(lambda dead_letter: dead_letter.reason)
        assert_that(reasons, holds([Reason.TOO_LARGE]))


def test_outputs_are_typed_so_that_their_coders_are_found() -> None:
    parsed = beam.Pipeline() | beam.Create(MESSAGES) | ParseEvents()

    assert parsed.events.element_type is Envelope
    assert parsed.dead_letters.element_type is DeadLetter
    assert parsed.intake.element_type is IntakeCount
