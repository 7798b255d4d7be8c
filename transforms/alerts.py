"""Alerts: what a person is told about an event that isn't simply allowed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from transforms.conditions import shorten
from transforms.events import Activity, Login, Payment, Signup
from transforms.features import FEATURE_INDEX, FEATURES, WINDOW_WORDS, Feature
from transforms.records import FeatureRecord, Score, session_id
from transforms.rules import SEVERITIES

MAX_EVIDENCE = 12
"""Features named in a summary, those of the most severe rules first."""


class Alert(msgspec.Struct, frozen=True, gc=False):
    """An event that is reviewed or blocked, as far as it is known at `version`.

    Attributes:
      alert_id: 32 hex digits, a function of user and event: a corrected or repeated alert has the same.
      event_time_ms: time of the event, epoch ms.
      score: in [0, 1].
      action: `review` or `block`.
      severity: the highest among the fired rules.
      reason_codes: of the fired rules, the most severe first, each once.
      fired_rules: ids of the fired rules, in the same order.
      summary: a sentence for people, without card tokens, addresses or devices.
      version: the version of the score; the highest one of an `alert_id` is the one that counts.
    """

    alert_id: str
    user_id: str
    session_id: str
    event_id: str
    event_time_ms: int
    score: float
    action: str
    severity: str
    reason_codes: tuple[str, ...]
    fired_rules: tuple[str, ...]
    summary: str
    version: int


def alert(score: Score) -> Alert | None:
    """The alert that a score raises, or None where the event is allowed.

    An event is scored again when late events change its features. If it still alerts, this is the same alert with a
    higher version. If it no longer does, there is no alert that says so: the newer score says `allow`, and a reader
    of current alerts keeps those whose event's latest score isn't (the view `current_alerts` does).
    """
    if score.action == "allow":
        return None
    event = score.record.event
    severity = max((rule.severity for rule in score.fired), key=SEVERITIES.index)
    return Alert(
        alert_id=alert_id(event.user_id, event.event_id),
        user_id=event.user_id,
        session_id=session_id(event.user_id, score.record.session_start_ms),
        event_id=event.event_id,
        event_time_ms=event.event_time_ms,
        score=score.score,
        action=score.action,
        severity=severity,
        reason_codes=tuple(dict.fromkeys(rule.reason_code for rule in score.fired)),
        fired_rules=tuple(rule.rule_id for rule in score.fired),
        summary=_summary(score, severity),
        version=score.record.version,
    )


def alert_id(user_id: str, event_id: str) -> str:
    """The id of the alert on an event: 32 hex digits, the same whenever and wherever it is computed."""
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    key = f"{len(user_id)}:{user_id}{event_id}".encode()
    return hashlib.blake2b(key, digest_size=16).hexdigest()


_VERBS = {"review": "Review", "block": "Block"}


def _summary(score: Score, severity: str) -> str:
    event = score.record.event
    when = datetime.fromtimestamp(event.event_time_ms / 1000, UTC)
    where = f" from {_plain(event.country, 8)}" if event.country else ""
    reasons = ", ".join(dict.fromkeys(_words(rule.reason_code) for rule in score.fired))
    seen = _evidence(score.record, (name for rule in score.fired for name in rule.inputs))
    return (
        f"{_VERBS[score.action]} the {_what(event)} of user {_plain(event.user_id, 64)} at {when:%Y-%m-%d %H:%M:%S} "
        f"UTC{where}: {reasons} (score {score.score:.2f}, {severity}){f'. Seen: {seen}' if seen else ''}."
    )


def _what(event: Activity) -> str:
    if isinstance(event, Login):
        return "successful login" if event.outcome == "success" else "failed login"
    if isinstance(event, Payment):
        return f"payment of {money(event.amount_minor, event.currency)}"
    return "signup" if isinstance(event, Signup) else f"claim of promotion {_plain(event.promotion_id, 64)}"


def _evidence(record: FeatureRecord, names: Iterable[str]) -> str:
    known = [
        _wording(FEATURES[FEATURE_INDEX[name]], record.features[FEATURE_INDEX[name]])
        for name in dict.fromkeys(names)
        if name in FEATURE_INDEX and record.features[FEATURE_INDEX[name]] is not None
    ]
    more = f", and {len(known) - MAX_EVIDENCE} more" if len(known) > MAX_EVIDENCE else ""
    return ", ".join(known[:MAX_EVIDENCE]) + more


def _wording(feature: Feature, value: Any) -> str:
    """`login_failure_count_10m`, 12 -> `login failure count in the last 10 minutes: 12 events`."""
    name, _, window = feature.name.rpartition("_")
    span = f" in the last {WINDOW_WORDS[window]}" if window in WINDOW_WORDS else ""
    words = (name if span else feature.name).replace("_minor", "").removesuffix("_kmh").removesuffix("_km")
    words = words.removeprefix("is_").replace("_", " ") + span
    if feature.type == "bool":
        return f"{words}: {'yes' if value else 'no'}"
    number = f"{value:,}" if feature.type == "int" else f"{value:,.1f}"
    return f"{words}: {number}" + ("" if feature.unit == "ratio" else f" {feature.unit}")


_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS = "CLF UYW"
_DECIMALS = {
    currency: decimals
    for decimals, currencies in ((0, _NO_DECIMALS), (3, _THREE_DECIMALS), (4, _FOUR_DECIMALS))
    for currency in currencies.split()
}
"""Decimals of the minor unit where they aren't 2 (ISO 4217)."""


def money(amount_minor: int, currency: str) -> str:
    """An amount for people: `money(129900, "EUR")` is `1,299.00 EUR`."""
    decimals = _DECIMALS.get(currency, 2)
    whole, part = divmod(abs(amount_minor), 10**decimals)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole:,}{f'.{part:0{decimals}d}' if decimals else ''} {currency}"


def _words(reason_code: str) -> str:
    return reason_code.replace("_", " ").lower()


def _plain(text: str, limit: int) -> str:
    """Text from outside, safe to show: on one line, short, without control or direction characters."""
    return shorten("".join(c if c.isprintable() else " " for c in text), limit)
