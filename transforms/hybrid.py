"""The hybrid aggregation on Beam: decodes a user's state, calls `transforms.aggregation`, encodes it again.

State is kept by key alone, in the global window: Beam keeps state per key *and window*, and session windows merge
only in a GroupByKey, so behind `WindowInto(Sessions)` each event would see an empty state
(`tests/test_laws_beam.py` keeps that visible).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Timestamp

from transforms import event_coder  # noqa: F401  (registers the coders)
from transforms.aggregation import Aggregation, AggregationConfig, Record
from transforms.events import DeadLetter, Envelope, Reason
from transforms.records import FeatureRecord, SessionRecord
from transforms.stamping import stamped
from transforms.user_state import UserState

Clock = Callable[[Envelope], float]
"""The runner's processing time, in epoch seconds, as an event is processed."""

SESSIONS = "sessions"
DEAD_LETTERS = "dead_letters"
_REJECTED = {
    reason: Metrics.counter("aggregation", reason.lower())
    for reason in (Reason.TOO_LATE, Reason.DUPLICATE, Reason.CONFLICT)
}
_APPROXIMATE = Metrics.counter("aggregation", "approximate")

TIMER_SLACK_SECONDS = 1.0
"""An inactivity timer is set anew only when it would move by this much: events of one bundle share one setting."""


def wall_clock(envelope: Envelope) -> float:
    """Processing time where it is real."""
    return time.time()


class AggregationOutputs(NamedTuple):
    """What `HybridAggregation` gives: `FeatureRecord`s, `SessionRecord`s and `DeadLetter`s."""

    features: PCollection[FeatureRecord]
    sessions: PCollection[SessionRecord]
    dead_letters: PCollection[DeadLetter]


class _BagLog:
    """A Beam bag as the log of `transforms.aggregation`."""

    def __init__(self, bag: Any) -> None:
        self._bag = bag

    def append(self, entry: bytes) -> None:
        self._bag.add(entry)

    def read(self) -> Iterable[bytes]:
        return list(self._bag.read())

    def replace(self, entries: Sequence[bytes]) -> None:
        self._bag.clear()
        for entry in entries:
            self._bag.add(entry)


class HybridAggregationDoFn(beam.DoFn):
    """Aggregates a user's events: each answers at once, timers finalize, correct, close and forget.

    Takes `(user_id, Envelope)` with logins and payments in the global window. Outputs are stamped with event time:
    of the event, or of a session's last moment.

    Args:
      config: gap, grace, inactivity, retention and bounds.
      clock: processing time; under `TestStream` that of the test, which starts at 0.
    """

    STATE = ReadModifyWriteStateSpec("user_state", BytesCoder())
    LOG = BagStateSpec("open_events", BytesCoder())
    COMPLETION = TimerSpec("completion", TimeDomain.WATERMARK)
    INACTIVITY = TimerSpec("inactivity", TimeDomain.REAL_TIME)

    def __init__(self, config: AggregationConfig, clock: Clock = wall_clock) -> None:
        self._config = config
        self._clock = clock

    def setup(self) -> None:
        """Builds the state machine, once a worker."""
        self._machine = Aggregation(self._config)
        self._latest: tuple[bytes, UserState] | None = None

    def process(
        self,
        element: tuple[str, Envelope],
        state_cell: Any = beam.DoFn.StateParam(STATE),
        bag: Any = beam.DoFn.StateParam(LOG),
        completion: Any = beam.DoFn.TimerParam(COMPLETION),
        inactivity: Any = beam.DoFn.TimerParam(INACTIVITY),
    ) -> Iterator[Any]:
        """An event arrives."""
        envelope = element[1]
        state = self._read(state_cell)
        step = self._machine.on_event(state, envelope, _BagLog(bag))
        state = step.state
        assert state is not None
        assert step.timer_ms is not None
        if step.timer_ms != state.timer_ms:
            state.timer_ms = step.timer_ms
            completion.set(Timestamp(micros=step.timer_ms * 1_000))
        if state.sessions:
            due_ms = round((self._clock(envelope) + self._config.inactivity_seconds) * 1_000)
            if due_ms - (state.inactivity_ms or 0) >= TIMER_SLACK_SECONDS * 1_000:
                state.inactivity_ms = due_ms
                inactivity.set(Timestamp(micros=due_ms * 1_000))
        self._write(state_cell, state)
        yield from count_and_tag(step.records)

    @on_timer(COMPLETION)
    def on_completion(
        self,
        fired: Any = beam.DoFn.TimestampParam,
        state_cell: Any = beam.DoFn.StateParam(STATE),
        bag: Any = beam.DoFn.StateParam(LOG),
        completion: Any = beam.DoFn.TimerParam(COMPLETION),
        inactivity: Any = beam.DoFn.TimerParam(INACTIVITY),
    ) -> Iterator[Any]:
        """The watermark has passed the end of a session, of its grace period, or of what is remembered."""
        state = self._read(state_cell)
        if state is None:
            return
        step = self._machine.on_watermark(state, fired.micros // 1_000, _BagLog(bag))
        if step.state is None:
            state_cell.clear()
            bag.clear()
            inactivity.clear()
        else:
            assert step.timer_ms is not None
            step.state.timer_ms = step.timer_ms
            completion.set(Timestamp(micros=step.timer_ms * 1_000))
            if step.state.inactivity_ms is not None and not self._machine.awaits_silence(step.state):
                # A pending processing-time timer would hold back the watermark of all that is downstream.
                step.state.inactivity_ms = None
                inactivity.clear()
            self._write(state_cell, step.state)
        yield from count_and_tag(step.records)

    @on_timer(INACTIVITY)
    def on_inactivity(
        self,
        fired: Any = beam.DoFn.TimestampParam,
        state_cell: Any = beam.DoFn.StateParam(STATE),
        bag: Any = beam.DoFn.StateParam(LOG),
        inactivity: Any = beam.DoFn.TimerParam(INACTIVITY),
    ) -> Iterator[Any]:
        """The user has been silent while the watermark stands still."""
        state = self._read(state_cell)
        if state is None or state.inactivity_ms is None:
            return
        if fired.micros < state.inactivity_ms * 1_000:
            # Picked for firing before it was moved; some runners have dropped the newer setting with it.
            inactivity.set(Timestamp(micros=state.inactivity_ms * 1_000))
            return
        step = self._machine.on_inactivity(state, _BagLog(bag))
        state.inactivity_ms = None
        self._write(state_cell, state)
        yield from count_and_tag(step.records)

    def _read(self, state_cell: Any) -> UserState | None:
        data = state_cell.read()
        latest, self._latest = self._latest, None
        if latest is not None and latest[0] == data:
            return latest[1]
        return self._machine.decode(data) if data else None

    def _write(self, state_cell: Any, state: UserState) -> None:
        data = self._machine.encode(state)
        # Events of a user come in a row where a bundle has several: the next one need not decode what this one has
        # encoded. Who is handed other bytes, after a failed bundle say, decodes those.
        self._latest = data, state
        state_cell.write(data)


class HybridAggregation(beam.PTransform[PCollection[Envelope], AggregationOutputs]):
    """Keys events by user and aggregates them.

    Takes `Envelope`s with logins and payments; gives `AggregationOutputs`. Nothing is dropped: an event that gives
    no feature record gives a dead letter.

    Args:
      config: gap, grace, inactivity, retention and bounds.
      clock: processing time as in `HybridAggregationDoFn`.
    """

    def __init__(self, config: AggregationConfig, clock: Clock = wall_clock) -> None:
        super().__init__()
        self._config = config
        self._clock = clock

    def expand(self, events: PCollection[Envelope]) -> AggregationOutputs:
        """Wires it."""
        outputs = (
            events
            | "KeyByUser" >> key_by_user()
            | "Aggregate"
            >> beam.ParDo(HybridAggregationDoFn(self._config, self._clock)).with_outputs(
                SESSIONS, DEAD_LETTERS, main="features"
            )
        )
        return AggregationOutputs(outputs.features, outputs[SESSIONS], outputs[DEAD_LETTERS])


def key_by_user() -> beam.PTransform[PCollection[Envelope], PCollection[tuple[str, Envelope]]]:
    """Keys events by user; the type hint gives the key a deterministic coder."""
    return beam.Map(_with_user).with_output_types(tuple[str, Envelope])


def _with_user(envelope: Envelope) -> tuple[str, Envelope]:
    return envelope.event.user_id, envelope


def count_and_tag(records: Iterable[Record]) -> Iterator[Any]:
    """Outputs of the aggregation as Beam wants them: tagged, stamped with event time, counted by what they are."""
    for record in records:
        if isinstance(record, FeatureRecord):
            if record.approximate:
                _APPROXIMATE.inc()
            yield stamped(record, record.event.event_time_ms)
        elif isinstance(record, SessionRecord):
            yield TaggedOutput(SESSIONS, stamped(record, record.end_ms - 1))
        else:
            _REJECTED[record.reason].inc()
            yield TaggedOutput(DEAD_LETTERS, record)
