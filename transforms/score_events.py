# mypy: allow-untyped-calls
"""Scoring on a stream: thin Beam around `transforms.scoring`."""

from __future__ import annotations

from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection

from transforms.records import FeatureRecord, Score
from transforms.rules import Rule, RuleSet
from transforms.scoring import score


class ScoreFeatures(beam.PTransform):  # type: ignore[type-arg]
    """Scores each event by the rules.

    Takes a PCollection of `FeatureRecord`, gives a PCollection of `Score`, one for each, at the same timestamps.
    A condition that can't be evaluated (a division by zero, an overflow) doesn't fire and adds to the counter
    `rules/errors`; the event is scored by the other rules. Counters: `rules/fired.<id>`, `rules/action.<action>`,
    `rules/errors`, `rules/errors.<id>`.

    Args:
      rules: as `transforms.rule_file.load_rules` makes them, thresholds included. They are read where the pipeline is
        built, so that a broken file stops it there, and travel with the job.
    """

    def __init__(self, rules: RuleSet) -> None:
        super().__init__()
        self._rules = rules

    def expand(self, records: PCollection[FeatureRecord]) -> PCollection[Score]:
        return records | "Score" >> beam.ParDo(_ScoreDoFn(self._rules))


class _ScoreDoFn(beam.DoFn):
    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules

    def setup(self) -> None:
        self._fired = {r.id: Metrics.counter("rules", f"fired.{r.id}") for r in self._rules.rules}
        self._actions = {a: Metrics.counter("rules", f"action.{a}") for a in ("allow", "review", "block")}

    def process(self, record: FeatureRecord) -> Iterator[Score]:
        result = score(record, self._rules, _count_error)
        self._actions[result.action].inc()
        for rule in result.fired:
            self._fired[rule.rule_id].inc()
        yield result


def _count_error(rule: Rule, error: Exception) -> None:
    Metrics.counter("rules", "errors").inc()
    Metrics.counter("rules", f"errors.{rule.id}").inc()
