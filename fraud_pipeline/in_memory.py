"""The whole path from envelopes to scores in plain Python, without Beam: for benches, backtests and notebooks.

Same functions as the graph: entity machines, the user's aggregation, rules. Events are folded in order of event
time, as the batch path does, so each gets its features as of its own time over all that happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from transforms.aggregation import Aggregation, AggregationConfig
from transforms.entities import DEFAULT_ENTITIES, Entity, EntityConfig
from transforms.entity_keys import EntityKeys, hash_of
from transforms.entity_machine import EntityMachine
from transforms.entity_state import EntityState
from transforms.events import Envelope, Label
from transforms.records import FeatureRecord, Score
from transforms.rules import RuleErrorHandler, RuleSet
from transforms.scoring import score


def scores(
    envelopes: Iterable[Envelope],
    rules: RuleSet,
    entities: EntityConfig = DEFAULT_ENTITIES,
    config: AggregationConfig | None = None,
    on_error: RuleErrorHandler | None = None,
) -> Iterator[Score]:
    """The decisions on all events among the envelopes, user by user, each event once unless a correction follows.

    Args:
      envelopes: events and labels in any order; they are held in memory.
      on_error: as in `RuleSet.evaluate`.
    """
    for record in records(envelopes, entities, config):
        yield score(record, rules, on_error)


def records(
    envelopes: Iterable[Envelope], entities: EntityConfig = DEFAULT_ENTITIES, config: AggregationConfig | None = None
) -> Iterator[FeatureRecord]:
    """The features of all events among the envelopes; the arguments are as in `scores`."""
    by_user: dict[str, list[Envelope]] = defaultdict(list)
    for envelope in enriched(envelopes, entities):
        by_user[envelope.event.user_id].append(envelope)
    aggregation = Aggregation(config or AggregationConfig())
    for own in by_user.values():
        for record in aggregation.backfill(own):
            if isinstance(record, FeatureRecord):
                yield record


def enriched(envelopes: Iterable[Envelope], entities: EntityConfig = DEFAULT_ENTITIES) -> list[Envelope]:
    """The events among the envelopes, in order of event time, with the features of all their entities."""
    ordered = sorted(envelopes, key=_order)
    folds = [_Fold(entity) for entity in entities.entities]
    result = []
    for envelope in ordered:
        if isinstance(envelope.event, Label):
            for fold in folds:
                fold.learn(envelope.event)
            continue
        values: list[object] = []
        approximate = envelope.entity_approximate
        for fold in folds:
            approximate |= fold.answer(envelope, values)
        result.append(msgspec.structs.replace(envelope, entity_features=tuple(values), entity_approximate=approximate))
    return result


class _Fold:
    """One entity's declaration and the states of all its keys."""

    def __init__(self, entity: Entity) -> None:
        self._machine = EntityMachine(entity)
        self._keys = EntityKeys(entity)
        self._states: dict[str, EntityState] = {}

    def learn(self, label: Label) -> None:
        key = self._keys.own(label)
        if key is not None:
            self._states[key] = self._machine.on_label(self._states.get(key), label)

    def answer(self, envelope: Envelope, values: list[object]) -> bool:
        """Adds the event's features of this entity to the values; returns whether any of them is inexact."""
        machine, keys, states, event = self._machine, self._keys, self._states, envelope.event
        assert not isinstance(event, Label)
        fed = keys.fed(event)
        if fed is not None:
            states[fed] = machine.on_feed(states.get(fed), event)
        key = keys.own(event)
        if key is None:
            values.extend(machine.none)
            return False
        states[key], answer = machine.on_event(states.get(key), event)
        values.extend(answer.values)
        return answer.approximate


def _order(envelope: Envelope) -> tuple[int, bool, bytes, int]:
    """Event time; a verdict of the same moment is known already; ties as in an entity's state."""
    event = envelope.event
    return event.event_time_ms, not isinstance(event, Label), hash_of(event.event_id), envelope.received_ms
