"""How the pipeline is configured: one frozen value, validated once, handed to the graph."""

from __future__ import annotations

import msgspec

from fraud_pipeline.rules import read_rules
from transforms.aggregation import AggregationConfig
from transforms.cases import CaseConfig
from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.hybrid import Clock, wall_clock
from transforms.parsing import Limits
from transforms.reload import RuleSource
from transforms.rules import RuleSet


def default_rules(entities: EntityConfig = DEFAULT_ENTITIES) -> RuleSet:
    """The rules that the package ships."""
    return read_rules(entities=entities)


class PipelineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the graph goes by.

    Attributes:
      gap_seconds: silence, in event time, that ends a session.
      grace_seconds: how long after a session's end, by the watermark, it can still be corrected.
      inactivity_seconds: silence, in processing time, after which open sessions are finalized provisionally.
      retention_seconds: how long after the newest event, in event time, a user is remembered.
      bounded: True for the batch path over a bounded input, False for the stream.
      limits: what a message may be.
      rules: how events are scored; None for those shipped, or for those of `rules_source`.
      rules_source: where rules and lists are read again while the job runs; None to keep `rules`.
      entities: what stands behind an event besides its user, and what is computed of it.
      cases: what makes a case, of which people get one alert.
      clock: processing time of the runner; only a replay's differs from the wall clock.

    Raises:
      ValueError: a value is out of range; the message gives the range.
    """

    gap_seconds: float = 300
    grace_seconds: float = 300
    inactivity_seconds: float = 300
    retention_seconds: float = 30 * 86_400
    bounded: bool = False
    limits: Limits = Limits()
    rules: RuleSet | None = None
    rules_source: RuleSource | None = None
    entities: EntityConfig = DEFAULT_ENTITIES
    cases: CaseConfig = CaseConfig()
    clock: Clock = wall_clock

    def __post_init__(self) -> None:
        _ = self.aggregation

    @property
    def aggregation(self) -> AggregationConfig:
        """The part that the aggregation goes by."""
        return AggregationConfig(
            gap_seconds=self.gap_seconds,
            grace_seconds=self.grace_seconds,
            inactivity_seconds=self.inactivity_seconds,
            retention_seconds=self.retention_seconds,
        )

    @property
    def remembered_cases(self) -> CaseConfig:
        """What makes a case, each remembered for as long as one of its events can be corrected."""
        seconds = max(self.cases.remember_seconds, self.aggregation.correctable_seconds)
        return msgspec.structs.replace(self.cases, remember_seconds=seconds)
