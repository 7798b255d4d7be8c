"""Alerts: what a person is told of a case."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

Status: TypeAlias = Literal["open", "closed", "withdrawn", "merged"]
Change: TypeAlias = Literal[
    "OPENED", "ESCALATED", "EXTENDED", "CORRECTED", "REOPENED", "GREW", "CLOSED", "WITHDRAWN", "MERGED"
]
"""What made a version: the first event; a higher severity or action; a new reason; a late event that changed a verdict;
suspicious again after it was withdrawn; twice as many events as told before; the cool-down has passed; no event of it
is suspicious any more; a later event showed that it is part of another case."""

QUIET: frozenset[str] = frozenset({"GREW", "CLOSED"})
"""Changes that go to the table only: there is nothing in them to act on."""


class RuleEvidence(msgspec.Struct, frozen=True, gc=False):
    """A rule that fired on an event of the case."""

    rule_id: str
    reason_code: str
    severity: str


class FeatureEvidence(msgspec.Struct, frozen=True, gc=False):
    """A feature that the rules looked at: its value for the leading event, its unit, and both in words."""

    name: str
    value: bool | int | float
    unit: str
    text: str


class EventEvidence(msgspec.Struct, frozen=True, gc=False):
    """An event of the case.

    Attributes:
      what: such as `payment of 1,299.00 EUR`.
      fields: those of the event's fields that were asked for, by name.
    """

    event_id: str
    user_id: str
    event_time_ms: int
    what: str
    score: float
    action: str
    fields: dict[str, Any]


class Alert(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A case as it is known at `version`.

    Attributes:
      alert_id: 32 hex digits; the same in all versions, and the same again where the job runs again.
      version: the highest one of an `alert_id` is the one that counts.
      status: `open`, `closed` (no event for the length of the cool-down), `withdrawn`, or `merged` into another.
      change: what made this version.
      key_field, key: what the case is about: `user_id` and the user, unless configured otherwise.
      user_id, session_id, event_id, event_time_ms, score, rules_version: of the leading event, the most suspicious.
      action: the strictest among its events: `review` or `block`; `allow` when it is withdrawn.
      severity: the highest among the fired rules.
      reason_codes: of the fired rules, the most severe first, each once.
      fired_rules: ids of the rules that fired on any of its events, in the same order.
      summary: a sentence for people, without card tokens, addresses or devices.
      first_event_ms, last_event_ms: time of the first and of the last event, epoch ms.
      event_count: how many events.
      approximate: there were more events than are remembered one by one; corrections of old ones may not count.
      rules, features, events: the evidence; at most some events, the most suspicious ones, in order of time.
      merged_into: where it is merged, the alert that it is part of now.
    """

    alert_id: str
    version: int
    status: Status
    change: Change
    key_field: str
    key: str
    user_id: str
    session_id: str
    event_id: str
    event_time_ms: int
    score: float
    rules_version: str
    action: str
    severity: str
    reason_codes: tuple[str, ...]
    fired_rules: tuple[str, ...]
    summary: str
    first_event_ms: int
    last_event_ms: int
    event_count: int
    approximate: bool
    rules: tuple[RuleEvidence, ...]
    features: tuple[FeatureEvidence, ...]
    events: tuple[EventEvidence, ...]
    merged_into: str | None = None
