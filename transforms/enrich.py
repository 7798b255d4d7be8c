"""Entities on Beam: each event gets the features of its address, device, card, merchant ... and goes on.

Thin around `transforms.entity_machine`. The stream keeps a state in one cell for each entity; the batch path groups its
events, sorts and folds them by the same machine, so that answers are as of each event's time over all that happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.coders import BytesCoder
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from transforms import event_coder  # noqa: F401  (registers the coders)
from transforms.entities import Entity, EntityConfig
from transforms.entity_answers import Answer
from transforms.entity_keys import EntityKeys, hash_of
from transforms.entity_machine import EntityMachine
from transforms.entity_state import EntityState
from transforms.events import Envelope, Label
from transforms.stamping import stamped

PASSED = "passed"


class EnrichByEntities(beam.PTransform[PCollection[Envelope], PCollection[Envelope]]):
    """Adds the features of all declared entities, one stage after the other, in the order of the declaration.

    Args:
      config: the entities.
      bounded: True for the batch path over a bounded input.
    """

    def __init__(self, config: EntityConfig, *, bounded: bool = False) -> None:
        super().__init__()
        self._config = config
        self._bounded = bounded

    def expand(self, events: PCollection[Envelope]) -> PCollection[Envelope]:
        """Wires it."""
        for entity in self._config.entities:
            events = events | entity.name >> EnrichByEntity(entity, bounded=self._bounded)
        return events


class EnrichByEntity(beam.PTransform[PCollection[Envelope], PCollection[Envelope]]):
    """Adds one entity's features to `Envelope.entity_features`.

    Takes `Envelope`s in the global window and gives each of them back once, at its own timestamp. An event that has no
    such entity goes around the keyed step and gets None for each feature. Labels update the entity of the payment they
    name, and go on as they came. Nothing is rejected here, so an event that the user's aggregation rejects later
    (too late, a conflict) has counted; a redelivery counts once while its first delivery is among the retained points.

    Counters: `entities/<name>.approximate`, answers that a bound of the state made inexact.

    Args:
      entity: its key and features.
      bounded: True for the batch path over a bounded input, where an entity's events are sorted in memory.
    """

    def __init__(self, entity: Entity, *, bounded: bool = False) -> None:
        super().__init__()
        self._entity = entity
        self._bounded = bounded

    def expand(self, events: PCollection[Envelope]) -> PCollection[Envelope]:
        """Wires it."""
        keyed = events | "Key" >> beam.ParDo(_KeyDoFn(self._entity)).with_output_types(
            tuple[str, Envelope], **{PASSED: Envelope}
        ).with_outputs(PASSED, main="keyed")
        if self._bounded:
            answered = keyed.keyed | "Group" >> beam.GroupByKey() | "Fold" >> beam.ParDo(_FoldDoFn(self._entity))
        else:
            answered = keyed.keyed | "Update" >> beam.ParDo(EntityDoFn(self._entity))
        return (keyed[PASSED], answered) | "Merge" >> beam.Flatten()


class _KeyDoFn(beam.DoFn):
    """Keys events by their entity, and by the one that they feed. The type hint gives the key a deterministic coder."""

    def __init__(self, entity: Entity) -> None:
        self._packed = _pack(entity)

    def setup(self) -> None:
        updater = _Updater.of(self._packed)
        self._keys = updater.keys
        self._none = Answer(updater.machine.none, False)

    def process(self, envelope: Envelope) -> Iterator[Any]:
        event = envelope.event
        own = self._keys.own(event)
        if own is not None:
            yield own, envelope
        if isinstance(event, Label):
            yield TaggedOutput(PASSED, envelope)
            return
        if own is None:
            yield TaggedOutput(PASSED, with_features(envelope, self._none))
        fed = self._keys.fed(event)
        if fed is not None:
            yield fed, envelope


class _Updater:
    """One entity's machine, fed by envelopes. `of` makes one a process: some runners set DoFns up for each bundle."""

    @staticmethod
    @lru_cache(maxsize=256)
    def of(packed: bytes) -> _Updater:
        return _Updater(_unpack(packed))

    def __init__(self, entity: Entity) -> None:
        self.machine = EntityMachine(entity)
        self.keys = EntityKeys(entity)
        self._fed = bool(entity.fed_by)
        self._approximate = Metrics.counter("entities", f"{entity.name}.approximate")

    def update(self, key: str, envelope: Envelope, state: EntityState | None) -> tuple[EntityState, Envelope | None]:
        """The state after an envelope, and the envelope with features, if it is to go on from here."""
        event = envelope.event
        if isinstance(event, Label):
            return self.machine.on_label(state, event), None
        if self._fed and self.keys.own(event) != key:
            return self.machine.on_feed(state, event), None
        state, answer = self.machine.on_event(state, event)
        if answer.approximate:
            self._approximate.inc()
        return state, with_features(envelope, answer)


class EntityDoFn(beam.DoFn):
    """Updates an entity's state by its events and labels.

    Takes `(entity, Envelope)` in the global window. The state is reclaimed by the watermark once no window reaches it.

    Args:
      entity: its key and features.
    """

    STATE = ReadModifyWriteStateSpec("entity_state", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def __init__(self, entity: Entity) -> None:
        self._packed = _pack(entity)

    def setup(self) -> None:
        """Finds the state machine, which is built once a process."""
        self._updater = _Updater.of(self._packed)

    def process(
        self,
        element: tuple[str, Envelope],
        state_cell: Any = beam.DoFn.StateParam(STATE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> Iterator[Envelope]:
        """An event, or a label."""
        key, envelope = element
        machine = self._updater.machine
        data = state_cell.read()
        state, enriched = self._updater.update(key, envelope, machine.decode(data) if data else None)
        state_cell.write(machine.encode(state))
        if not data:
            # Set once, not by each event: when it fires, it is set anew for what has come since.
            expiry.set(Timestamp(micros=machine.expires_ms(state) * 1_000))
        if enriched is not None:
            yield enriched

    @on_timer(EXPIRY)
    def on_expiry(
        self,
        fired: Any = beam.DoFn.TimestampParam,
        state_cell: Any = beam.DoFn.StateParam(STATE),
        expiry: Any = beam.DoFn.TimerParam(EXPIRY),
    ) -> None:
        """The watermark has come to where the state was of no use, unless something has come since. Idempotent."""
        data = state_cell.read()
        if not data:
            return
        machine = self._updater.machine
        due = Timestamp(micros=machine.expires_ms(machine.decode(data)) * 1_000)
        if fired < due:
            expiry.set(due)
        else:
            state_cell.clear()


class _FoldDoFn(beam.DoFn):
    def __init__(self, entity: Entity) -> None:
        self._packed = _pack(entity)

    def setup(self) -> None:
        self._updater = _Updater.of(self._packed)

    def process(self, element: tuple[str, Iterable[Envelope]]) -> Iterator[WindowedValue]:
        key, envelopes = element
        state: EntityState | None = None
        for envelope in sorted(envelopes, key=_order):
            state, enriched = self._updater.update(key, envelope, state)
            if enriched is not None:
                yield stamped(enriched, enriched.event.event_time_ms)


def _pack(entity: Entity) -> bytes:
    return msgspec.json.encode(entity)


def _unpack(packed: bytes) -> Entity:
    return msgspec.json.decode(packed, type=Entity)


def with_features(envelope: Envelope, answer: Answer) -> Envelope:
    """The envelope with an entity's features behind those that it has."""
    return Envelope(
        envelope.event,
        envelope.payload,
        envelope.received_ms,
        envelope.source,
        envelope.digest,
        (*envelope.entity_features, *answer.values),
        envelope.entity_approximate or answer.approximate,
    )


def _order(envelope: Envelope) -> tuple[int, bool, bytes, int]:
    """Event time; a verdict of the same moment is known already; ties as in an entity's state."""
    event = envelope.event
    return event.event_time_ms, not isinstance(event, Label), hash_of(event.event_id), envelope.received_ms
