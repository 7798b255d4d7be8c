"""The whole graph, free of input and output: a test, a backfill and a production job run the same one.

Message ─ ParseEvents ─┬─ EnrichByEntity ─ SplitLabels ─ HybridAggregation ─┬─ ScoreFeatures ─┬─ scores
                       │  ip, network, device,  │            │              │                 ├─ RaiseAlerts ─ alerts
                       │  card, merchant ...    └ labels     │              └─ sessions       └─ RollupSessions
                       ├─ malformed ────────────── too late, duplicate, conflict ─ dead letters
                       └─ intake
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput

from fraud_pipeline.config import PipelineConfig, default_rules
from transforms.alerts import Alert
from transforms.backfill import BackfillAggregation
from transforms.enrich import EnrichByEntities
from transforms.events import DeadLetter, Envelope, Label, Message
from transforms.features import FEATURES
from transforms.hybrid import HybridAggregation
from transforms.parse_events import IntakeCount, ParseEvents
from transforms.raise_alerts import RaiseAlerts
from transforms.records import Score, SessionRecord
from transforms.rollup import EARLY_SECONDS, RollupSessions, SessionRollup
from transforms.score_events import ScoreFeatures


class Outputs(NamedTuple):
    """What the graph gives, each for the table of its name."""

    scores: PCollection[Score]
    sessions: PCollection[SessionRecord]
    session_rollups: PCollection[SessionRollup]
    alerts: PCollection[Alert]
    labels: PCollection[Envelope]
    dead_letters: PCollection[DeadLetter]
    intake: PCollection[IntakeCount]


def build(events: PCollection[Message], config: PipelineConfig) -> Outputs:
    """Scores login and payment events within their users' sessions.

    Args:
      events: messages as received. Each one ends in scores, labels or dead letters: none is dropped.
      config: what to go by.
    """
    parsed = events | "ParseEvents" >> ParseEvents(config.limits)
    enriched = parsed.events | "EnrichByEntity" >> EnrichByEntities(config.entities, bounded=config.bounded)
    split = enriched | "SplitLabels" >> beam.ParDo(_split_labels).with_output_types(Envelope).with_outputs(
        "labels", main="activities"
    )
    aggregated = split.activities | "HybridAggregation" >> (
        BackfillAggregation(config.aggregation)
        if config.bounded
        else HybridAggregation(config.aggregation, config.clock)
    )
    rules = config.rules or (None if config.rules_source else default_rules(config.entities))
    scores, rejected_rules = aggregated.features | "ScoreFeatures" >> ScoreFeatures(rules, config.rules_source)
    return Outputs(
        scores=scores,
        sessions=aggregated.sessions,
        session_rollups=scores
        | "RollupSessions"
        >> RollupSessions(config.gap_seconds, config.grace_seconds, None if config.bounded else EARLY_SECONDS),
        alerts=scores
        | "RaiseAlerts"
        >> RaiseAlerts(config.remembered_cases, (*FEATURES, *config.entities.features), bounded=config.bounded),
        labels=split.labels,
        dead_letters=(parsed.dead_letters, aggregated.dead_letters, rejected_rules) | "DeadLetters" >> beam.Flatten(),
        intake=parsed.intake,
    )


def _split_labels(envelope: Envelope) -> Iterator[Any]:
    yield TaggedOutput("labels", envelope) if isinstance(envelope.event, Label) else envelope
