"""The first step of the graph: messages become events and dead letters, and are counted."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from transforms import event_coder  # noqa: F401  (registers the coders)
from transforms.events import DeadLetter, Envelope, IntakeCount, Message
from transforms.parsing import DEFAULT_LIMITS, Limits, parse
from transforms.stamping import stamped

__all__ = ["IntakeCount", "ParseEvents", "ParsedEvents"]

_DAY_MS = 86_400_000


class ParsedEvents(NamedTuple):
    """What leaves `ParseEvents`."""

    events: PCollection[Envelope]
    dead_letters: PCollection[DeadLetter]
    intake: PCollection[IntakeCount]


class ParseEvents(beam.PTransform[PCollection[Message], ParsedEvents]):
    """Decodes and validates messages, as `transforms.parsing.parse` says.

    In: messages in the global window, with any timestamps. Out: `events`, each at its event time, which may be
    before the message's timestamp and behind the watermark; `dead_letters`, at the message's timestamp;
    `intake`, for each bundle the number of messages by day (UTC) of receipt. Each message gives one event or
    one dead letter. Nothing in a message can make this fail.

    Beam counters in the namespace `events`: `received`, `accepted`, and `rejected_<reason>` in lower case.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__()
        self._limits = limits

    def expand(self, messages: PCollection[Message]) -> ParsedEvents:
        parsed = messages | "Parse" >> beam.ParDo(_Parse(self._limits)).with_output_types(
            Envelope, dead_letters=DeadLetter, intake=IntakeCount
        ).with_outputs("dead_letters", "intake", main="events")
        return ParsedEvents(parsed.events, parsed.dead_letters, parsed.intake)


class _Parse(beam.DoFn):
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def start_bundle(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._received: dict[int, tuple[int, int]] = {}

    def process(self, message: Message) -> Iterable[Any]:
        received_ms = message.received_ms
        day = received_ms // _DAY_MS
        count, latest_ms = self._received.get(day, (0, received_ms))
        self._received[day] = (count + 1, max(latest_ms, received_ms))
        parsed = parse(message, self._limits)
        if isinstance(parsed, DeadLetter):
            self._outcomes[parsed.reason] += 1
            return (TaggedOutput("dead_letters", parsed),)
        self._outcomes["accepted"] += 1
        return (stamped(parsed, parsed.event.event_time_ms),)

    def finish_bundle(self) -> Iterator[TaggedOutput[str, Any]]:
        for outcome, count in self._outcomes.items():
            name = outcome if outcome == "accepted" else f"rejected_{outcome.lower()}"
            Metrics.counter("events", name).inc(count)
        for count, latest_ms in self._received.values():
            Metrics.counter("events", "received").inc(count)
            yield TaggedOutput("intake", stamped(IntakeCount(uuid.uuid4().hex, latest_ms, count), latest_ms))
