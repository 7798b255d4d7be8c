"""A file of messages as the stream it was: a `TestStream` that brings them in order of arrival.

The clock and the watermark advance between them as they would have, so that early, on-time, late and inactivity
records all occur. `plan` decides what happens when, and is free of Beam; `replay_stream` makes a `TestStream` of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from fraud_pipeline.sources import peek_event_time_ms
from transforms.events import Envelope, Message

DEFAULT_STALL_MS = 20 * 60_000
LAST_ADVANCE_SECONDS = 3_600


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a replay behaves.

    Attributes:
      watermark_delay_seconds: how far the watermark stays behind the newest event time seen.
      stalls: spans [start, end) of arrival time, epoch ms, in which the watermark stands still, as in an outage; None
        for one of 20 minutes in the middle of a file that spans at least an hour.
      max_ticks: arrivals are grouped into about this many bundles, as each costs the runner milliseconds whatever is
        in it. More is closer to the truth and slower.

    Raises:
      ValueError: a value is out of range; the message has the range.
    """

    watermark_delay_seconds: float = 30.0
    stalls: tuple[tuple[int, int], ...] | None = None
    max_ticks: int = 1_500

    def __post_init__(self) -> None:
        if not 0 <= self.watermark_delay_seconds <= 86_400:
            raise ValueError(f"watermark_delay_seconds is {self.watermark_delay_seconds}; give 0 to 86,400")
        if self.max_ticks < 1:
            raise ValueError(f"max_ticks is {self.max_ticks}; give at least 1")
        for start, end in self.stalls or ():
            if start >= end:
                raise ValueError(f"a stall ends at {end}, not after its start, {start}; give (start_ms, end_ms)")


class Step(msgspec.Struct, frozen=True):
    """One tick: the watermark advances, then the clock, then the messages come in.

    The watermark is first, so that what both have reached within a tick counts as on time, not as a stall.

    Attributes:
      clock_ms: processing time from here on, epoch ms: the arrival of the first of `messages`, or the moment at which
        the watermark stalls or goes on.
      watermark_ms: the watermark from here on, epoch ms; None where it stands.
      messages: what arrives until the next step, in order of arrival.
    """

    clock_ms: int
    watermark_ms: int | None
    messages: tuple[Message, ...]


class ReplayClock(msgspec.Struct, frozen=True):
    """The clock of a replay, for timers in processing time: an event comes in when it was received.

    It starts at 0, as `TestStream`'s does, and must stay far below any event time: where an early pane fires, the
    local runner compares processing time with the end of the window, and past it takes the pane for the last.

    Attributes:
      start_ms: the first arrival, epoch ms.
    """

    start_ms: int

    def __call__(self, envelope: Envelope) -> float:
        """Seconds since the first arrival at which the event comes in."""
        return (envelope.received_ms - self.start_ms) / 1000


def plan(messages: Sequence[Message], options: ReplayOptions = ReplayOptions()) -> list[Step]:
    """What happens in a replay, in order.

    The watermark is that of a source which knows its messages to be out of order by at most the delay: the newest
    event time seen minus the delay, never ahead of the clock, never going back. When nothing has arrived for the
    delay, there is no backlog, and the watermark follows the clock, as Pub/Sub's does. In a stall it stands.

    Args:
      messages: in any order.
    """
    ordered = sorted(messages, key=lambda message: message.received_ms)
    if not ordered:
        return []
    first_ms, last_ms = ordered[0].received_ms, ordered[-1].received_ms
    stalls = _default_stalls(first_ms, last_ms) if options.stalls is None else options.stalls
    delay_ms = round(options.watermark_delay_seconds * 1000)
    watermark = _Watermark(delay_ms, stalls)
    # The watermark comes to where a stall holds it one millisecond before the stall.
    edges = sorted({edge for start, end in stalls for edge in (start - 1, end) if first_ms < edge <= last_ms})
    steps = []
    for clock_ms, group in _ticks(ordered, edges, options.max_ticks):
        steps.append(Step(clock_ms, watermark.advance(clock_ms), tuple(group)))
        for message in group:
            watermark.see(message)
    return steps


def replay_stream(messages: Sequence[Message], options: ReplayOptions = ReplayOptions()) -> TestStream:
    """A `TestStream` of the messages, stamped as a source with a timestamp attribute would stamp them.

    Run it on BundleBasedDirectRunner, with `ReplayClock` for the clock of the graph. It ends like a drain: the
    watermark goes to infinity. Then the clock moves on, so that no early pane is left waiting.

    Args:
      messages: in any order; all of them are held in memory.
    """
    stream = TestStream()
    steps = plan(messages, options)
    clock_ms = steps[0].clock_ms if steps else 0
    for step in steps:
        if step.watermark_ms is not None:
            stream = stream.advance_watermark_to(Timestamp(micros=step.watermark_ms * 1_000))
        if step.clock_ms > clock_ms:
            stream = stream.advance_processing_time(Duration(micros=(step.clock_ms - clock_ms) * 1_000))
            clock_ms = step.clock_ms
        if step.messages:
            stream = stream.add_elements([TimestampedValue(m, _timestamp(m)) for m in step.messages])
    return stream.advance_watermark_to_infinity().advance_processing_time(LAST_ADVANCE_SECONDS)


class _Watermark:
    def __init__(self, delay_ms: int, stalls: Sequence[tuple[int, int]]) -> None:
        self._delay_ms = delay_ms
        self._stalls = stalls
        self._newest_ms: int | None = None
        self._last_arrival_ms = 0
        self._watermark_ms: int | None = None

    def see(self, message: Message) -> None:
        self._last_arrival_ms = message.received_ms
        event_time_ms = peek_event_time_ms(message.payload)
        if event_time_ms is not None:
            seen_ms = min(event_time_ms, message.received_ms)
            self._newest_ms = seen_ms if self._newest_ms is None else max(self._newest_ms, seen_ms)

    def advance(self, clock_ms: int) -> int | None:
        """The new watermark at that time, or None where it doesn't move."""
        if self._newest_ms is None or any(start <= clock_ms < end for start, end in self._stalls):
            return None
        idle = clock_ms - self._last_arrival_ms >= self._delay_ms
        watermark_ms = (clock_ms if idle else self._newest_ms) - self._delay_ms
        if self._watermark_ms is not None and watermark_ms <= self._watermark_ms:
            return None
        self._watermark_ms = watermark_ms
        return watermark_ms


def _default_stalls(first_ms: int, last_ms: int) -> tuple[tuple[int, int], ...]:
    if last_ms - first_ms < 3 * DEFAULT_STALL_MS:
        return ()
    start_ms = (first_ms + last_ms - DEFAULT_STALL_MS) // 2
    return ((start_ms, start_ms + DEFAULT_STALL_MS),)


def _ticks(ordered: Sequence[Message], edges: Sequence[int], max_ticks: int) -> Iterator[tuple[int, Sequence[Message]]]:
    """Groups of arrivals, each with the time it begins, none across an edge.

    A tick's share of the messages and its share of the time add up to the same for each: where much happens ticks are
    short, and in a quiet hour there are some too.
    """
    span_ms = max(1, ordered[-1].received_ms - ordered[0].received_ms)
    message_share, time_share = max_ticks / (2 * len(ordered)), max_ticks / (2 * span_ms)
    remaining_edges = iter([*edges, None])
    edge = next(remaining_edges)
    begin, begin_ms = 0, ordered[0].received_ms
    for i, message in enumerate(ordered):
        arrival_ms = message.received_ms
        share = (i - begin) * message_share + (arrival_ms - begin_ms) * time_share
        if i > begin and (share >= 1 or (edge is not None and edge <= arrival_ms)):
            yield begin_ms, ordered[begin:i]
            begin, begin_ms = i, arrival_ms
        while edge is not None and edge <= arrival_ms:
            if edge < arrival_ms:
                yield edge, ()
            edge = next(remaining_edges)
    yield begin_ms, ordered[begin:]


def _timestamp(message: Message) -> Timestamp:
    event_time_ms = peek_event_time_ms(message.payload)
    if event_time_ms is None or not 0 <= event_time_ms <= message.received_ms:
        event_time_ms = message.received_ms
    return Timestamp(micros=event_time_ms * 1_000)
