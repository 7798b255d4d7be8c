"""Session roll-ups of the scored events, by Beam's own session windows.

Where the aggregation answers for events, this sums up decisions: how many events, the worst score, what was done.
The windows are Beam's `Sessions(gap)`, with a pane each minute while a session runs, one when the watermark passes, and
one for each late score, each pane whole (accumulating).

Beam drops what its window is over for by more than the grace period, and the window that it looks at is the one that an
element opens by itself, before it is merged: of a long session it would drop what comes late about its beginning, and
corrections above all. So a decision that comes when its session has newer events is also stamped with the newest one's
time, whose window is open for as long as the aggregation takes events into the session. What is left out is an event
that comes when all of its session, with itself, is past by more than gap and grace: one that stands alone.

On a real runner a pane can be up to `inactivity_seconds` behind: a pending processing-time timer of the aggregation
holds the watermark downstream at the event that set it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import apache_beam as beam
import msgspec
from apache_beam.pvalue import PCollection
from apache_beam.transforms import trigger
from apache_beam.transforms.window import Sessions, TimestampCombiner
from apache_beam.utils.windowed_value import PaneInfoTiming

from transforms.records import Score
from transforms.stamping import stamped

EARLY_SECONDS = 60


class SessionRollup(msgspec.Struct, frozen=True, gc=False):
    """Decisions of one session, as of one pane.

    Attributes:
      start_ms: time of the first event.
      end_ms: time of the last event plus the gap.
      actions: the different actions, sorted.
      fired_rules: the ids of the different rules that fired, sorted.
      pane: EARLY while the session runs, ON_TIME when the watermark passes its end, LATE after.
      pane_index: 0 for a session's first pane.
      is_last: no pane will follow.
    """

    user_id: str
    start_ms: int
    end_ms: int
    event_count: int
    max_score: float
    actions: tuple[str, ...]
    fired_rules: tuple[str, ...]
    pane: str
    pane_index: int
    is_last: bool


Decision: TypeAlias = tuple[str, int, int, float, str, list[str]]
"""Event id, version, event time in epoch ms, score, action, ids of the fired rules: primitives, as it is kept in the
state of running jobs."""


class _Decisions(beam.CombineFn):
    """The latest decision on each event of a session: a correction replaces what it corrects."""

    def create_accumulator(self) -> dict[str, Decision]:
        return {}

    def add_input(self, accumulator: dict[str, Decision], decision: Decision) -> dict[str, Decision]:
        newest = accumulator.get(decision[0])
        if newest is None or newest[1] < decision[1]:
            accumulator[decision[0]] = decision
        return accumulator

    def merge_accumulators(self, accumulators: Any) -> dict[str, Decision]:
        merged: dict[str, Decision] = {}
        for accumulator in accumulators:
            for decision in accumulator.values():
                self.add_input(merged, decision)
        return merged

    def extract_output(self, accumulator: dict[str, Decision]) -> list[Decision]:
        return list(accumulator.values())


class RollupSessions(beam.PTransform[PCollection[Score], PCollection[SessionRollup]]):
    """Sums up the scored events of each session: takes `Score`s, gives `SessionRollup`s.

    Args:
      gap_seconds: silence that ends a session; as in the aggregation.
      grace_seconds: how long after its end a session still takes late scores.
      early_seconds: processing time between early panes; None for no early panes, as for a bounded input.
    """

    def __init__(self, gap_seconds: float, grace_seconds: float, early_seconds: int | None = EARLY_SECONDS) -> None:
        super().__init__()
        self._early = early_seconds and trigger.AfterProcessingTime(early_seconds)
        self._gap_seconds = gap_seconds
        self._grace_seconds = grace_seconds

    def expand(self, scores: PCollection[Score]) -> PCollection[SessionRollup]:
        """Wires it."""
        return (
            scores
            | "KeyByUser" >> beam.FlatMap(_by_user).with_output_types(tuple[str, Decision])
            | "IntoSessions"
            >> beam.WindowInto(
                Sessions(self._gap_seconds),
                trigger=trigger.AfterWatermark(early=self._early, late=trigger.AfterCount(1)),
                accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
                allowed_lateness=self._grace_seconds,
                timestamp_combiner=TimestampCombiner.OUTPUT_AT_EOW,
            )
            | "SumUp" >> beam.CombinePerKey(_Decisions())
            | "ToRollup" >> beam.ParDo(_ToRollup())
        )


def _by_user(score: Score) -> Iterator[Any]:
    """A decision at its event's time, and again at that of its session's newest event where that is another."""
    record, event = score.record, score.record.event
    rules = [rule.rule_id for rule in score.fired]
    keyed = event.user_id, (event.event_id, record.version, event.event_time_ms, score.score, score.action, rules)
    yield keyed
    if record.session_last_ms > event.event_time_ms:
        yield stamped(keyed, record.session_last_ms)


class _ToRollup(beam.DoFn):
    """Names the window and the pane that a sum belongs to."""

    def process(
        self,
        element: tuple[str, list[Decision]],
        window: Any = beam.DoFn.WindowParam,
        pane: Any = beam.DoFn.PaneInfoParam,
    ) -> Iterator[SessionRollup]:
        user_id, decisions = element
        yield SessionRollup(
            user_id=user_id,
            start_ms=min(time_ms for _, _, time_ms, *_ in decisions),
            end_ms=window.end.micros // 1_000,
            event_count=len(decisions),
            max_score=max(score for *_, score, _, _ in decisions),
            actions=tuple(sorted({action for *_, action, _ in decisions})),
            fired_rules=tuple(sorted({rule for *_, rules in decisions for rule in rules})),
            pane=PaneInfoTiming.to_string(pane.timing),
            pane_index=pane.index,
            is_last=pane.is_last,
        )
