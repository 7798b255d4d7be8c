"""Rows of the result tables, as JSON values: made of the graph's outputs, identified, split.

Times are RFC 3339 in UTC with milliseconds, bytes are base64, lists are never null: what BigQuery's streaming
inserts and its load jobs take, and DuckDB too.
"""

from __future__ import annotations

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from fraud_pipeline.tables.schema import TABLES
from fraud_pipeline.tables.validation import MAX_PART_BYTES, RowError, validate
from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.events import (
    Claim,
    DeadLetter,
    Envelope,
    IntakeCount,
    Label,
    Login,
    Payment,
    Signup,
    dead_letter_id,
    event_type,
)
from transforms.features import FEATURES
from transforms.records import Score, SessionRecord, session_id

if TYPE_CHECKING:
    from transforms.alerts import Alert
    from transforms.rollup import SessionRollup

__all__ = [
    "MAX_PART_BYTES",
    "ROW_BUILDERS",
    "Row",
    "RowError",
    "alert_evidence",
    "alert_row",
    "dead_letter_row",
    "intake_row",
    "label_row",
    "now_ms",
    "row_builders",
    "row_id",
    "score_row",
    "session_rollup_row",
    "session_row",
    "split_row",
    "timestamp",
    "validate",
]

Row: TypeAlias = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_999
_USER_FEATURES = tuple(feature.name for feature in FEATURES)
_SHIPPED = tuple(feature.name for feature in DEFAULT_ENTITIES.features)


def timestamp(ms: int) -> str:
    """Epoch milliseconds as RFC 3339: `timestamp(0)` is `1970-01-01T00:00:00.000Z`.

    Raises:
      OverflowError: the time isn't within the years 1 to 9999.
    """
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def now_ms() -> int:
    """This machine's clock, epoch ms."""
    return time.time_ns() // 1_000_000


def score_row(score: Score, scored_ms: int, entity_features: Sequence[str] = _SHIPPED) -> Row:
    """The row of `scores` for a decision made at `scored_ms`.

    Args:
      entity_features: names of the values that follow the user's features; those without a value are left out.

    Raises:
      ValueError: the record has another number of features.
    """
    record = score.record
    event = record.event
    row = {
        "event_id": event.event_id,
        "user_id": event.user_id,
        "event_type": event_type(event),
        "event_time": timestamp(event.event_time_ms),
        "received_time": timestamp(record.received_ms),
        "scored_time": timestamp(scored_ms),
        "lag_seconds": (scored_ms - event.event_time_ms) / 1000,
        "session_id": session_id(event.user_id, record.session_start_ms),
        "session_start": timestamp(record.session_start_ms),
        "version": record.version,
        "trigger": record.trigger,
        "approximate": record.approximate,
        "score": score.score,
        "action": score.action,
        "reason_codes": list(dict.fromkeys(rule.reason_code for rule in score.fired)),
        "fired_rules": [rule.rule_id for rule in score.fired],
        "rules_version": score.rules_version,
        "shadow_rules": [rule.rule_id for rule in score.shadow],
        "lists_version": score.lists_version or None,
        "outcome": None,
        "amount_minor": None,
        "currency": None,
        "expected_amount_minor": None,
        "ip": event.ip,
        "device_id": event.device_id,
        "user_agent": event.user_agent,
        "country": event.country,
        "latitude": event.latitude,
        "longitude": event.longitude,
        "merchant_id": None,
        "payee_id": None,
        "card_id": None,
        "referrer_id": None,
        "promotion_id": None,
        "attributes": json.dumps(event.attributes) if event.attributes else None,
    }
    if isinstance(event, Payment):
        row["amount_minor"] = event.amount_minor
        row["currency"] = event.currency
        row["expected_amount_minor"] = event.expected_amount_minor
        row["merchant_id"] = event.merchant_id
        row["payee_id"] = event.payee_id
        row["card_id"] = event.card_id
    elif isinstance(event, Login):
        row["outcome"] = event.outcome
    elif isinstance(event, Signup):
        row["referrer_id"] = event.referrer_id
    elif isinstance(event, Claim):
        row["promotion_id"] = event.promotion_id
    values = record.features
    row.update(zip(_USER_FEATURES, values, strict=False))
    if len(values) > len(_USER_FEATURES):
        of_entities = zip(entity_features, values[len(_USER_FEATURES) :], strict=True)
        row.update((name, value) for name, value in of_entities if value is not None)
    return row


def session_row(session: SessionRecord, emitted_ms: int) -> Row:
    """The row of `sessions` for a record made at `emitted_ms`."""
    return {
        "user_id": session.user_id,
        "session_id": session_id(session.user_id, session.start_ms),
        "session_start": timestamp(session.start_ms),
        "session_end": timestamp(session.end_ms),
        "version": session.version,
        "trigger": session.trigger,
        "retracted": session.retracted,
        "provisional": session.provisional,
        "approximate": session.approximate,
        "event_count": session.event_count,
        "login_count": session.login_count,
        "login_failure_count": session.login_failure_count,
        "payment_count": session.payment_count,
        "amount_minor": session.amount_minor,
        "distinct_ip_count": session.distinct_ip_count,
        "distinct_device_count": session.distinct_device_count,
        "emitted_time": timestamp(emitted_ms),
    }


def session_rollup_row(rollup: SessionRollup, emitted_ms: int) -> Row:
    """The row of `session_rollups` for a pane that fired at `emitted_ms`."""
    return {
        "user_id": rollup.user_id,
        "session_id": session_id(rollup.user_id, rollup.start_ms),
        "session_start": timestamp(rollup.start_ms),
        "session_end": timestamp(rollup.end_ms),
        "event_count": rollup.event_count,
        "max_score": rollup.max_score,
        "actions": list(rollup.actions),
        "fired_rules": list(rollup.fired_rules),
        "pane": rollup.pane,
        "pane_index": rollup.pane_index,
        "is_last": rollup.is_last,
        "emitted_time": timestamp(emitted_ms),
    }


def alert_row(alert: Alert, emitted_ms: int) -> Row:
    """The row of `alerts` for a version of a case told at `emitted_ms`."""
    return {
        "alert_id": alert.alert_id,
        "user_id": alert.user_id,
        "session_id": alert.session_id,
        "event_id": alert.event_id,
        "event_time": timestamp(alert.event_time_ms),
        "score": alert.score,
        "action": alert.action,
        "severity": alert.severity,
        "reason_codes": list(alert.reason_codes),
        "fired_rules": list(alert.fired_rules),
        "summary": alert.summary,
        "version": alert.version,
        "emitted_time": timestamp(emitted_ms),
        "status": alert.status,
        "change": alert.change,
        "case_field": alert.key_field,
        "case_key": alert.key,
        "first_event_time": timestamp(alert.first_event_ms),
        "last_event_time": timestamp(alert.last_event_ms),
        "event_count": alert.event_count,
        "approximate": alert.approximate,
        "event_ids": [event.event_id for event in alert.events],
        "evidence": msgspec.json.encode(alert_evidence(alert)).decode(),
        "rules_version": alert.rules_version,
        "merged_into": alert.merged_into,
    }


def alert_evidence(alert: Alert) -> dict[str, Any]:
    """Why an alert was raised, as JSON values: rules, features with units, events."""
    return {
        "rules": [msgspec.to_builtins(rule) for rule in alert.rules],
        "features": [msgspec.to_builtins(feature) for feature in alert.features],
        "events": [
            {
                "event_id": event.event_id,
                "user_id": event.user_id,
                "event_time": timestamp(event.event_time_ms),
                "what": event.what,
                "score": event.score,
                "action": event.action,
                "fields": event.fields,
            }
            for event in alert.events
        ],
    }


def label_row(envelope: Envelope) -> Row:
    """The row of `labels` for a label.

    Raises:
      TypeError: the envelope holds another event.
    """
    label = envelope.event
    if not isinstance(label, Label):
        raise TypeError(f"a label was expected, not a {type(label).__name__}")
    return {
        "event_id": label.event_id,
        "user_id": label.user_id,
        "event_time": timestamp(label.event_time_ms),
        "received_time": timestamp(envelope.received_ms),
        "message_source": envelope.source,
        "target_event_id": label.target_event_id,
        "target_event_time": timestamp(label.target_event_time_ms),
        "is_fraud": label.is_fraud,
        "source": label.source,
        "merchant_id": label.merchant_id,
        "card_id": label.card_id,
        "device_id": label.device_id,
        "ip": label.ip,
        "payee_id": label.payee_id,
    }


def dead_letter_row(dead_letter: DeadLetter) -> Row:
    """The row of `dead_letters` for a dead letter, whole."""
    known_ms = dead_letter.event_time_ms
    return {
        "dead_letter_id": dead_letter_id(dead_letter),
        "reason": dead_letter.reason,
        "field": _text(dead_letter.field),
        "message": _text(dead_letter.message),
        "payload": b64encode(dead_letter.payload).decode(),
        "event_id": _text(dead_letter.event_id),
        "user_id": _text(dead_letter.user_id),
        "event_time": timestamp(known_ms) if known_ms is not None and _FIRST_MS <= known_ms <= _LAST_MS else None,
        "received_time": timestamp(dead_letter.received_ms),
        "source": _text(dead_letter.source),
        "part": 0,
        "part_count": 1,
    }


def _text(text: str | None) -> str | None:
    """Text that can be encoded: what a broken message left in it must not break its dead letter too."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def intake_row(count: IntakeCount) -> Row:
    """The row of `intake` for a count of messages."""
    return {
        "count_id": count.count_id,
        "received_time": timestamp(count.received_ms),
        "message_count": count.message_count,
    }


def _score_row_now(score: Score, entity_features: Sequence[str] = _SHIPPED) -> Row:
    return score_row(score, now_ms(), entity_features)


def _session_row_now(session: SessionRecord) -> Row:
    return session_row(session, now_ms())


def _session_rollup_row_now(rollup: SessionRollup) -> Row:
    return session_rollup_row(rollup, now_ms())


def _alert_row_now(alert: Alert) -> Row:
    return alert_row(alert, now_ms())


ROW_BUILDERS: Mapping[str, Callable[[Any], Row]] = {
    "scores": _score_row_now,
    "sessions": _session_row_now,
    "session_rollups": _session_rollup_row_now,
    "alerts": _alert_row_now,
    "labels": label_row,
    "dead_letters": dead_letter_row,
    "intake": intake_row,
}
"""For each table, what makes a row of an element of the graph's output of that name, by this machine's clock."""


def row_builders(entities: EntityConfig) -> Mapping[str, Callable[[Any], Row]]:
    """`ROW_BUILDERS` for scores whose records have the features of these entities."""
    names = tuple(feature.name for feature in entities.features)
    return {**ROW_BUILDERS, "scores": partial(_score_row_now, entity_features=names)}


def row_id(table: str, row: Mapping[str, Any]) -> str:
    """The id of a row by its table's key, 32 hex digits: for BigQuery's own de-duplication of inserts."""
    key = msgspec.json.encode([row[column] for column in TABLES[table].key])
    return blake2b(key, digest_size=16).hexdigest()


def split_row(table: str, row: Row) -> list[Row]:
    """The rows that BigQuery can hold: the row itself, or the parts of a dead letter with a large payload."""
    if table != "dead_letters" or len(row["payload"]) <= _base64_length(MAX_PART_BYTES):
        return [row]
    payload = b64decode(row["payload"])
    starts = range(0, len(payload), MAX_PART_BYTES)
    return [
        {
            **row,
            "payload": b64encode(payload[start : start + MAX_PART_BYTES]).decode(),
            "part": part,
            "part_count": len(starts),
        }
        for part, start in enumerate(starts)
    ]


def _base64_length(size: int) -> int:
    return -(-size // 3) * 4
