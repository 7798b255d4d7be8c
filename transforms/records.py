"""What the aggregation and the scoring hand on: typed, frozen, free of Beam and of any sink."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from transforms.events import Activity

Trigger: TypeAlias = Literal["EVENT", "ON_TIME", "INACTIVITY", "LATE", "FORCED"]
"""What made a record: the event itself; the watermark; a silence while the watermark stalls; an event after the
watermark but within the grace period; the bound on a user's open sessions."""


class FeatureRecord(msgspec.Struct, frozen=True, gc=False):
    """One event with its features, as of its own event time, over the events accepted so far.

    Attributes:
      event: the event itself.
      features: values in the order of `transforms.features.FEATURES`; None where there is nothing to say.
      session_start_ms: start of the session it belongs to; with the user it makes the session's id.
      version: strictly increasing within a user, over all their records.
      trigger: EVENT for the immediate answer; otherwise this replaces an earlier one for the same event.
      approximate: whether a bound of the state made any feature inexact.
      received_ms: when the event was received, epoch ms.
      session_last_ms: time of the newest event of its session as known when this is said, epoch ms; 0 in a record that
        no aggregation made.
    """

    event: Activity
    features: Sequence[Any]
    session_start_ms: int
    version: int
    trigger: Trigger
    approximate: bool
    received_ms: int
    session_last_ms: int = 0


class SessionRecord(msgspec.Struct, frozen=True, gc=False):
    """A session as it is known when it is finalized, corrected or retracted. It spans [start_ms, end_ms).

    Attributes:
      end_ms: time of the last event plus the gap.
      retracted: this session no longer exists (it was joined into another); its counts are zero.
      provisional: the watermark has not passed yet; an ON_TIME record will follow.
      amount_minor: sum over payments, across currencies, each in its minor unit.
    """

    user_id: str
    start_ms: int
    end_ms: int
    version: int
    trigger: Trigger
    retracted: bool = False
    provisional: bool = False
    approximate: bool = False
    event_count: int = 0
    login_count: int = 0
    login_failure_count: int = 0
    payment_count: int = 0
    amount_minor: int = 0
    distinct_ip_count: int = 0
    distinct_device_count: int = 0


class FiredRule(msgspec.Struct, frozen=True, gc=False):
    """A rule that matched an event.

    Attributes:
      inputs: names of the features and event fields that its condition looks at, sorted.
      action: what it demands of itself (`allow`, `review`, `block`); None where its weight alone counts.
    """

    rule_id: str
    reason_code: str
    severity: str
    weight: float
    inputs: tuple[str, ...] = ()
    action: str | None = None


class Score(msgspec.Struct, frozen=True, gc=False):
    """The decision on one event, and all that explains it later.

    Attributes:
      score: in [0, 1].
      action: `allow`, `review` or `block`.
      fired: live rules that matched, and lists that the event is on, the most severe first.
      rules_version: content hash of the rules that decided.
      shadow: rules and lists on trial that matched; they have no part in score and action.
      lists_version: content hash of the lists in use; empty without any.
    """

    record: FeatureRecord
    score: float
    action: str
    fired: tuple[FiredRule, ...]
    rules_version: str
    shadow: tuple[FiredRule, ...] = ()
    lists_version: str = ""


def session_id(user_id: str, start_ms: int) -> str:
    """The public id of a session: the user and the session's start, so that it is a function of the events alone."""
    return f"{user_id}@{start_ms}"
