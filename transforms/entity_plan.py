"""What an entity's features need, worked out once: columns of the state, and for each answer which slots to fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from transforms.entities import Entity, EntityFeature
from transforms.entity_keys import FED, PAYMENT, FieldReader
from transforms.entity_state import Layout
from transforms.events import Event

_VERDICTS = ("labelled_count", "fraud_count")

Slots: TypeAlias = list[tuple[int, int]]
"""Slots of an answer, each with the index of its window."""

Windowed: TypeAlias = tuple[int, int, list[tuple[int, int]]]
"""A delay and a window in ms, with (slot, column of the checkpoints) of what is counted over it."""


class Plan:
    """How the features of an entity are computed. An answer has a slot for each feature, then those that shares need.

    Attributes:
      layout: names of the state's columns.
      feature_count, slot_count: how many slots are features, and how many there are.
      windows: lengths of the windows without delay in ms, from the longest to the shortest.
      horizon_ms: how far back the farthest window reaches.
      counts: (kinds or None for all, slots).
      sums: the kind of the events of each sum.
      sum_slots: slots of each sum.
      tracks: (reader, kinds) of the values of which different ones are counted.
      distinct_slots: slots of each track, from the shortest to the longest window.
      delayed: (delay in ms, [(slot, window in ms, aggregate)]).
      shares: (slot, slot of the fraud count, slot of the payment count).
      totals_of_kind: columns of the checkpoints that count a kind.
      first_sum: column of the checkpoints of the first sum.
      labelled, fraud: columns of the checkpoints that count verdicts.
      given_up, given_up_verdicts: slots that checkpoints add to, the latter by verdicts.
      samples: (track, window in ms) of each sample.
      sample_slots: the slot that each sample adds to.
    """

    def __init__(self, entity: Entity) -> None:
        features = list(entity.features)
        self.shares: list[tuple[int, int, int]] = []
        for i, feature in enumerate(entity.features):
            if feature.aggregate == "fraud_share":
                self.shares.append((i, len(features), len(features) + 1))
                features += [_as(feature, "fraud_count"), _as(feature, "payment_count")]
        self.feature_count = len(entity.features)
        self.slot_count = len(features)
        self.horizon_ms = entity.horizon_ms
        plain = [f for f in features if f.aggregate in ("count", "sum", "distinct")]
        self.windows = sorted({f.window_ms for f in plain}, reverse=True)

        counts: dict[tuple[int, ...] | None, Slots] = {}
        sums: dict[int, Slots] = {}
        tracks: dict[tuple[str, tuple[int, ...]], Slots] = {}
        delays: dict[int, list[tuple[int, int, str]]] = {}
        totals: dict[str, tuple[int, ...]] = {}
        samples: list[tuple[int, int, int]] = []
        slots: list[tuple[int, str, int, int]] = []
        for i, feature in enumerate(features):
            codes = tuple(k + FED * feature.role for k in feature.kinds)
            if feature.aggregate == "count":
                is_all = codes == entity.events and not entity.fed_by
                counts.setdefault(None if is_all else codes, []).append((i, self._window(feature)))
                slots.append((i, _name("count", codes), 0, feature.window_ms))
                totals[_name("count", codes)] = codes
            elif feature.aggregate == "sum":
                code = PAYMENT + FED * feature.role
                sums.setdefault(code, []).append((i, self._window(feature)))
                slots.append((i, f"sum:{code}", 0, feature.window_ms))
            elif feature.aggregate == "distinct":
                tracks.setdefault((feature.field, codes), []).append((i, self._window(feature)))
                samples.append((i, list(tracks).index((feature.field, codes)), feature.window_ms))
            elif feature.aggregate != "fraud_share":
                delays.setdefault(feature.delay_ms, []).append((i, feature.window_ms, feature.aggregate))
                name = _name("count", (PAYMENT,)) if feature.aggregate == "payment_count" else feature.aggregate
                slots.append((i, name, feature.delay_ms, feature.window_ms))
                if feature.aggregate == "payment_count":
                    totals[name] = (PAYMENT,)

        self.counts = list(counts.items())
        self.sums = list(sums)
        self.sum_slots = list(sums.values())
        self.tracks: list[tuple[Callable[[Event], str | None], frozenset[int]]] = [
            (FieldReader([field]), frozenset(codes)) for field, codes in tracks
        ]
        self.distinct_slots = [sorted(wanted, key=lambda slot: -slot[1]) for wanted in tracks.values()]
        self.delayed = list(delays.items())
        names = [*totals, *(f"sum:{code}" for code in self.sums)]
        self.first_sum = len(totals)
        if delays:
            self.labelled, self.fraud = len(names), len(names) + 1
            names += _VERDICTS
        self.totals_of_kind: dict[int, list[int]] = {}
        for column, codes in enumerate(totals.values()):
            for code in codes:
                self.totals_of_kind.setdefault(code, []).append(column)
        self.given_up = _by_window(slots, names, verdicts=False)
        self.given_up_verdicts = _by_window(slots, names, verdicts=True)
        self.samples = [(track, window) for _, track, window in samples]
        self.sample_slots = [i for i, _, _ in samples]
        track_names = [_name(field, codes) for field, codes in tracks]
        self.layout = Layout(
            tracks=tuple(track_names),
            sums=tuple(names[self.first_sum : self.first_sum + len(self.sums)]),
            totals=tuple(names),
            samples=tuple(f"{track_names[track]}/{window}" for track, window in self.samples),
        )

    def _window(self, feature: EntityFeature) -> int:
        return self.windows.index(feature.window_ms)


def _by_window(slots: list[tuple[int, str, int, int]], names: list[str], *, verdicts: bool) -> list[Windowed]:
    grouped: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, name, delay, window in slots:
        if (name in _VERDICTS) == verdicts:
            grouped.setdefault((delay, window), []).append((i, names.index(name)))
    return [(delay, window, columns) for (delay, window), columns in grouped.items()]


def _as(feature: EntityFeature, aggregate: Any) -> EntityFeature:
    return EntityFeature(feature.feature, aggregate, feature.kinds, 0, feature.window_ms, feature.delay_ms)


def _name(what: str, codes: tuple[int, ...]) -> str:
    return f"{what}:{','.join(map(str, codes))}"
