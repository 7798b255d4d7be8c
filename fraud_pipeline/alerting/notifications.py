"""What is sent of an alert: JSON with a `text` that chat programs show, and all fields for programs.

The bytes are all that there is of a notification: what is delivered, what is signed, and what a dead letter keeps.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from fraud_pipeline.tables.rows import alert_evidence, timestamp
from transforms.alerts import QUIET, Alert
from transforms.case_findings import WHOLE_EVENT

SCHEMA = "fraud-pipeline/alert/1"
"""Name and version of the format; a field may be added without a new one."""

_MENTION = re.compile(r"@(?=(?:all|channel|everyone|here)\b)", re.IGNORECASE)


class Head(msgspec.Struct, frozen=True):
    """What delivery needs to know of a notification.

    Attributes:
      event_time, last_event_time: RFC 3339.
    """

    alert_id: str
    version: int
    status: str
    change: str
    action: str
    severity: str
    user_id: str
    event_id: str
    event_time: str
    last_event_time: str

    @property
    def idempotency_key(self) -> str:
        """The same for the same version of an alert, however often it is sent."""
        return f"{self.alert_id}-{self.version}"


class _Body(msgspec.Struct):
    alert: Head


_decode = msgspec.json.Decoder(_Body).decode


def notification(alert: Alert, include: Collection[str] = (), *, is_last: bool = False) -> bytes | None:
    """The notification of an alert, as JSON; None where the change is nothing to tell people of.

    Args:
      is_last: whether the case is told once, when it is over: then that is told, whatever the change.
      include: fields of events that may be told. The value that a case is about is told if it is a user's or one
        of these.
    """
    if alert.change in QUIET and not is_last:
        return None
    shows_key = alert.key_field == "user_id" or alert.key_field in include or WHOLE_EVENT in include
    fields: dict[str, Any] = {
        "alert_id": alert.alert_id,
        "version": alert.version,
        "status": alert.status,
        "change": alert.change,
        "action": alert.action,
        "severity": alert.severity,
        "score": alert.score,
        "reason_codes": alert.reason_codes,
        "fired_rules": alert.fired_rules,
        "summary": alert.summary,
        "case_field": alert.key_field,
        "case_key": alert.key if shows_key else None,
        "user_id": alert.user_id,
        "session_id": alert.session_id,
        "event_id": alert.event_id,
        "event_time": timestamp(alert.event_time_ms),
        "first_event_time": timestamp(alert.first_event_ms),
        "last_event_time": timestamp(alert.last_event_ms),
        "event_count": alert.event_count,
        "approximate": alert.approximate,
        "rules_version": alert.rules_version,
        "merged_into": alert.merged_into,
        "evidence": alert_evidence(alert),
    }
    return msgspec.json.encode({"text": chat_text(alert), "schema": SCHEMA, "alert": fields})


def chat_text(alert: Alert) -> str:
    """An alert as a chat message, in Slack's markup. Nothing from outside in it links, mentions or pings.

    Slack takes `&`, `<` and `>` for markup (https://docs.slack.dev/messaging/formatting-message-text); others ping a
    whole channel for `@all` and the like.
    """
    said = alert.summary.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    said = _MENTION.sub("@\u200b", said)
    stands = alert.status in ("open", "closed")
    return f"*{(alert.severity if stands else alert.status).upper()}* {said}\nAlert `{alert.alert_id}`"


def head(body: bytes) -> Head:
    """What delivery needs to know of a notification.

    Raises:
      msgspec.DecodeError: these bytes are no notification.
    """
    return _decode(body).alert
