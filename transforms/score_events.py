# mypy: allow-untyped-calls
"""Scoring on a stream: thin Beam around `transforms.scoring` and `transforms.reload`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput

from transforms.events import DeadLetter
from transforms.records import FeatureRecord, Score
from transforms.reload import Failure, Loader, RuleSource, loader_of
from transforms.rules import Rule, RuleSet
from transforms.scoring import score


class Scored(NamedTuple):
    """What scoring gives.

    Attributes:
      scores: one for each record, at the same timestamps.
      dead_letters: of new versions of the rules that can't be used: none where rules don't change. They are no
        messages of the stream and have no part in its ledger.
    """

    scores: PCollection[Score]
    dead_letters: PCollection[DeadLetter]


class ScoreFeatures(beam.PTransform):  # type: ignore[type-arg]
    """Scores each event by the rules and lists.

    Takes a PCollection of `FeatureRecord`, gives `Scored`. A condition that can't be evaluated (a division by zero, an
    overflow) doesn't fire and adds to the counter `rules/errors`; the event is scored by the other rules. Counters:
    `rules/fired.<id>`, `rules/shadow.<id>`, `rules/action.<action>`, `rules/errors`, `rules/errors.<id>`, and
    `rules/reload.swapped`, `rules/reload.rejected`, `rules/reload.unreadable` for new versions.

    Args:
      rules: as `transforms.rule_file.load_rules` makes them, thresholds included. They are read where the pipeline is
        built, so that a broken file stops it there, and travel with the job.
      source: where the rules are read again while the job runs; those that travel are for a worker that starts while
        the source can't be used. None to keep those that travel. A worker with a source and no `rules` waits for it.
    """

    def __init__(self, rules: RuleSet | None, source: RuleSource | None = None) -> None:
        super().__init__()
        if rules is None and source is None:
            raise ValueError("neither rules nor a source of rules; give one of them")
        self._rules, self._source = rules, source

    def expand(self, records: PCollection[FeatureRecord]) -> Scored:
        scored = records | "Score" >> beam.ParDo(_ScoreDoFn(self._rules, self._source)).with_output_types(
            Score
        ).with_outputs(_DEAD_LETTERS, main="scores")
        return Scored(scored["scores"], scored[_DEAD_LETTERS])


_DEAD_LETTERS = "dead_letters"


class _ScoreDoFn(beam.DoFn):
    def __init__(self, rules: RuleSet | None, source: RuleSource | None) -> None:
        self._rules, self._source = rules, source

    def setup(self) -> None:
        self._loader: Loader | None = None if self._source is None else loader_of(self._source, self._rules)
        self._reported: Failure | None = None
        self._counters: dict[str, Any] = {}

    def process(self, record: FeatureRecord) -> Iterator[Any]:
        rules = self._rules
        if self._loader is not None:
            rules = self._loader.rules
            if self._loader.has_news:
                yield from self._report(self._loader)
        assert rules is not None
        result = score(record, rules, _count_error)
        self._counter(f"action.{result.action}").inc()
        for rule in result.fired:
            self._counter(f"fired.{rule.rule_id}").inc()
        for rule in result.shadow:
            self._counter(f"shadow.{rule.rule_id}").inc()
        yield result

    def finish_bundle(self) -> None:
        if self._loader is not None and self._reported is not None:
            self._loader.delivered(self._reported)
            self._reported = None

    def _report(self, loader: Loader) -> Iterator[Any]:
        for name, number in loader.take_counts().items():
            self._counter(name).inc(number)
        failure = loader.claim()
        if failure is not None:
            self._reported = failure
            yield TaggedOutput(_DEAD_LETTERS, failure.dead_letter())

    def _counter(self, name: str) -> Any:
        if name not in self._counters:
            self._counters[name] = Metrics.counter("rules", name)
        return self._counters[name]


def _count_error(rule: Rule, error: Exception) -> None:
    Metrics.counter("rules", "errors").inc()
    Metrics.counter("rules", f"errors.{rule.id}").inc()
