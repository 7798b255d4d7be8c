"""What the whole graph gives, kept in this process, and what is left of it net of corrections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import apache_beam as beam

from fraud_pipeline.sinks import Sink

COLLECTED: dict[str, list[Any]] = defaultdict(list)


def collect(element: Any, table: str) -> None:
    COLLECTED[table].append(element)


class Collect(Sink):
    """Keeps what the graph gives, in this process."""

    def write(self, outputs: Any) -> None:
        COLLECTED.clear()
        for table in outputs._fields:
            _ = getattr(outputs, table) | f"Collect {table}" >> beam.Map(collect, table)

    def finalize(self) -> None:
        pass


def net_scores(tables: dict[str, list[Any]]) -> dict[str, Any]:
    """The newest score of each event."""
    latest: dict[str, Any] = {}
    for score in tables["scores"]:
        event_id = score.record.event.event_id
        if event_id not in latest or latest[event_id].record.version < score.record.version:
            latest[event_id] = score
    return latest


def decision(score: Any) -> tuple[Any, ...]:
    return score.record.session_start_ms, score.score, score.action, score.fired


def net_sessions(tables: dict[str, list[Any]]) -> set[tuple[Any, ...]]:
    latest: dict[tuple[str, int], Any] = {}
    for record in tables["sessions"]:
        key = record.user_id, record.start_ms
        if key not in latest or latest[key].version < record.version:
            latest[key] = record
    return {
        (r.user_id, r.start_ms, r.end_ms, r.event_count, r.payment_count, r.amount_minor, r.distinct_ip_count)
        for r in latest.values()
        if not r.retracted
    }


Span = tuple[str, int, int]
"""A session: user, start, end (epoch ms)."""


def session_scores(tables: dict[str, list[Any]]) -> dict[Span, list[Any]]:
    """The newest scores of each session that stands."""
    of_user = defaultdict(list)
    for score in net_scores(tables).values():
        of_user[score.record.event.user_id].append(score)
    return {
        (user_id, start_ms, end_ms): [s for s in of_user[user_id] if start_ms <= s.record.event.event_time_ms < end_ms]
        for user_id, start_ms, end_ms, *_ in net_sessions(tables)
    }


def summed_up(scores: Collection[Any]) -> tuple[Any, ...]:
    """What a roll-up says of the scores of a session."""
    actions, rules = {s.action for s in scores}, {rule.rule_id for s in scores for rule in s.fired}
    return len(scores), max(s.score for s in scores), tuple(sorted(actions)), tuple(sorted(rules))


def last_panes(tables: dict[str, list[Any]]) -> dict[Span, tuple[Any, ...]]:
    """What the roll-ups say in the end, by the rule of the view `session_rollups_final`."""
    newest: dict[Span, Any] = {}
    for pane in tables["session_rollups"]:
        if pane.pane != "EARLY":
            newest[pane.user_id, pane.start_ms, pane.end_ms] = pane
    of_user = defaultdict(list)
    for span in newest:
        of_user[span[0]].append(span)
    return {
        span: (pane.event_count, pane.max_score, pane.actions, pane.fired_rules)
        for span, pane in newest.items()
        if not any(other != span and other[1] <= span[1] and span[2] <= other[2] for other in of_user[span[0]])
    }
