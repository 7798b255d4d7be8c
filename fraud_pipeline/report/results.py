"""What the report needs of a results file, and the labels beside it: read here, judged in `measures`."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fraud_pipeline.errors import UsageError
from fraud_pipeline.report.measures import DAY_MS, Decision, Detection, detection
from fraud_pipeline.simulate.delivery import AttackLabel
from fraud_pipeline.tables.query import run_query


class LedgerDay(msgspec.Struct, frozen=True):
    """A line of the ledger: messages of a day by what became of them."""

    day: str
    messages_in: int
    scored: int
    labels: int
    duplicate: int
    too_late: int
    conflict: int
    malformed: int
    sink_rejected: int
    balance: int


class SessionRows(msgspec.Struct, frozen=True):
    """Rows of the sessions table made by one trigger."""

    trigger: str
    provisional: bool
    retracted: bool
    rows: int
    users: int


class ActionCount(msgspec.Struct, frozen=True):
    """Events by the decision that stands.

    Attributes:
      rescored: those that late events gave other features, so that they were decided once more.
      changed: those of them that had been decided otherwise on arrival.
    """

    action: str
    events: int
    logins: int
    payments: int
    users: int
    rescored: int
    changed: int


class ReasonCount(msgspec.Struct, frozen=True):
    """Alerts that stand by reason; one with two reasons counts for each. `attacks` is None without labels."""

    reason: str
    alerts: int
    users: int
    attacks: int | None


class Sample(msgspec.Struct, frozen=True):
    """An alert to show: the most suspicious one of those with the same first reason."""

    user_id: str
    reason: str
    summary: str


class Results(msgspec.Struct, frozen=True):
    """A results file, summed up.

    Attributes:
      sessions: those that stand.
      panes: rows of the session roll-ups by pane.
      reasons: on the days that have labelled events; without labels on all days.
      samples: one for each first reason, the most suspicious first; of the same days.
      detection: None without labels.
    """

    ledger: tuple[LedgerDay, ...]
    session_rows: tuple[SessionRows, ...]
    sessions: int
    panes: dict[str, int]
    actions: tuple[ActionCount, ...]
    reasons: tuple[ReasonCount, ...]
    samples: tuple[Sample, ...]
    detection: Detection | None


def read_results(database: Path, labels: Sequence[AttackLabel] | None = None) -> Results:
    """Sums up a results file.

    Args:
      labels: the truth about the attacks, at least one; None where it isn't known.

    Raises:
      UsageError: the file isn't there or no results file, or none of the labels is about an event in it.
    """
    found = None if labels is None else detection(_decisions(database), labels)
    if labels and found is not None and not found.days:
        raise UsageError(
            f"none of the {len(labels):,} labelled events is among the scores in {str(database)!r}; "
            "give the labels that were made with its events"
        )
    days = "TRUE" if found is None else _is_on(found.days)
    return Results(
        ledger=tuple(LedgerDay(str(row[0]), *row[1:]) for row in _rows(database, _LEDGER)),
        session_rows=tuple(SessionRows(*row) for row in _rows(database, _SESSION_ROWS)),
        sessions=next(_rows(database, "SELECT COUNT(*) AS n FROM current_sessions"))[0],
        panes=dict(_rows(database, _PANES)),
        actions=tuple(ActionCount(*row) for row in _rows(database, _ACTIONS)),
        reasons=_reasons(database, labels, days),
        samples=tuple(Sample(*row) for row in _rows(database, _SAMPLES.format(condition=days))),
        detection=found,
    )


def read_labels(path: Path) -> list[AttackLabel]:
    """The labels that `fraud-pipeline simulate --labels` wrote, gzipped or not.

    Raises:
      UsageError: the file can't be read, is empty, or a line of it is no label.
    """
    labels: list[AttackLabel] = []
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
            for line in lines:
                labels.append(_decode_label(line))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--labels {str(path)!r}: line {len(labels) + 1} is no label: {error}; "
            "give a file that fraud-pipeline simulate --labels wrote"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--labels {str(path)!r} can't be read: {reason}") from error
    if not labels:
        raise UsageError(f"--labels {str(path)!r} is empty; leave it out, or give that of the simulation")
    return labels


_decode_label = msgspec.json.Decoder(AttackLabel).decode

_LEDGER = """
SELECT day, messages_in, scored, labels, duplicate, too_late, conflict, malformed, sink_rejected, balance
FROM ledger
ORDER BY day"""

# A row that was written twice is counted once, here and below.
_SESSION_ROWS = """
SELECT trigger, provisional, retracted, COUNT(*) AS n, COUNT(DISTINCT user_id) AS users
FROM (SELECT DISTINCT user_id, session_id, version, trigger, provisional, retracted FROM sessions) AS record
GROUP BY trigger, provisional, retracted
ORDER BY retracted, provisional DESC, trigger DESC"""

_PANES = """
SELECT pane, COUNT(*) AS n
FROM (SELECT DISTINCT user_id, session_start, session_end, pane, pane_index FROM session_rollups) AS rollup
GROUP BY pane
ORDER BY pane"""

_FIRST_ACTIONS = """
  SELECT user_id, event_id, event_time, action
  FROM scores
  WHERE trigger = 'EVENT'
  QUALIFY ROW_NUMBER() OVER (PARTITION BY event_time, user_id, event_id ORDER BY version, scored_time) = 1
"""

_ACTIONS = f"""
SELECT
  latest.action,
  COUNT(*) AS events,
  COUNTIF(latest.event_type = 'login') AS logins,
  COUNTIF(latest.event_type = 'payment') AS payments,
  COUNT(DISTINCT latest.user_id) AS users,
  COUNTIF(latest.trigger != 'EVENT') AS rescored,
  COUNTIF(answer.action != latest.action) AS changed
FROM latest_scores AS latest
LEFT JOIN ({_FIRST_ACTIONS}) AS answer
  ON answer.event_time = latest.event_time AND answer.user_id = latest.user_id AND answer.event_id = latest.event_id
GROUP BY latest.action
ORDER BY latest.action"""

_DECISIONS = f"""
SELECT
  latest.event_id,
  UNIX_MILLIS(latest.event_time) AS event_time_ms,
  UNIX_MILLIS(latest.received_time) AS received_ms,
  answer.action AS first_action,
  latest.action
FROM latest_scores AS latest
LEFT JOIN ({_FIRST_ACTIONS}) AS answer
  ON answer.event_time = latest.event_time AND answer.user_id = latest.user_id AND answer.event_id = latest.event_id"""

_REASONS = """
SELECT alert.event_id, alert.user_id, reason
FROM (SELECT * FROM current_alerts WHERE {condition}) AS alert
CROSS JOIN UNNEST(alert.reason_codes) AS reason"""

_SAMPLES = """
SELECT user_id, reason, summary
FROM (
  SELECT user_id, event_id, event_time, score, reason_codes[OFFSET(0)] AS reason, summary
  FROM current_alerts
  WHERE {condition}
  QUALIFY ROW_NUMBER() OVER (PARTITION BY reason_codes[OFFSET(0)] ORDER BY score DESC, event_time, event_id) = 1
) AS strongest
ORDER BY score DESC, event_time, event_id"""


def _rows(database: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    return run_query(database, sql).rows


def _decisions(database: Path) -> Iterator[Decision]:
    return (Decision(*row) for row in _rows(database, _DECISIONS))


def _is_on(days: Sequence[int]) -> str:
    """The SQL condition that an event is on one of these days since the epoch."""
    dates = ", ".join(f"DATE '{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y-%m-%d}'" for day in days)
    return f"DATE(event_time) IN ({dates})" if days else "FALSE"


def _reasons(database: Path, labels: Sequence[AttackLabel] | None, condition: str) -> tuple[ReasonCount, ...]:
    attacked = None if labels is None else {label.event_id for label in labels}
    events: dict[str, list[tuple[str, str]]] = {}
    for event_id, user_id, reason in _rows(database, _REASONS.format(condition=condition)):
        events.setdefault(reason, []).append((event_id, user_id))
    counts = [
        ReasonCount(
            reason=reason,
            alerts=len(alerts),
            users=len({user_id for _, user_id in alerts}),
            attacks=None if attacked is None else sum(event_id in attacked for event_id, _ in alerts),
        )
        for reason, alerts in events.items()
    ]
    return tuple(sorted(counts, key=lambda count: (-count.alerts, count.reason)))
