"""The batch path: group by user, sort, fold, by the state machine of the stream. It is the stream's oracle too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from transforms.aggregation import Aggregation, AggregationConfig
from transforms.events import Envelope
from transforms.hybrid import DEAD_LETTERS, SESSIONS, AggregationOutputs, count_and_tag, key_by_user


class BackfillAggregation(beam.PTransform[PCollection[Envelope], AggregationOutputs]):
    """Aggregates a bounded set of events user by user, each user's in order of event time.

    Takes `Envelope`s with logins and payments; gives `AggregationOutputs` as `HybridAggregation` does once all its
    timers have fired, net of corrections. Arrival order does not matter, so nothing is too late. A user's events are
    sorted in memory.

    Args:
      config: gap, retention and bounds; grace and inactivity have no effect on what is left in the end.
    """

    def __init__(self, config: AggregationConfig) -> None:
        super().__init__()
        self._config = config

    def expand(self, events: PCollection[Envelope]) -> AggregationOutputs:
        """Wires it."""
        outputs = (
            events
            | "KeyByUser" >> key_by_user()
            | "GroupByUser" >> beam.GroupByKey()
            | "Fold" >> beam.ParDo(_FoldDoFn(self._config)).with_outputs(SESSIONS, DEAD_LETTERS, main="features")
        )
        return AggregationOutputs(outputs.features, outputs[SESSIONS], outputs[DEAD_LETTERS])


class _FoldDoFn(beam.DoFn):
    def __init__(self, config: AggregationConfig) -> None:
        self._config = config

    def setup(self) -> None:
        self._machine = Aggregation(self._config)

    def process(self, element: tuple[str, Iterable[Envelope]]) -> Iterator[Any]:
        yield from count_and_tag(self._machine.backfill(element[1]))
