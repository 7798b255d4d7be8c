"""From scores to findings, from findings to groups: what `transforms.cases` does without a case's past."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from transforms.alert_words import describe
from transforms.case_state import Finding, FiredRuleParts
from transforms.entity_keys import FieldReader
from transforms.features import Feature
from transforms.records import FeatureRecord, FiredRule, Score
from transforms.rules import SEVERITIES

ACTIONS = ("allow", "review", "block")
"""From the mildest to the strictest."""
MAX_EVIDENCE = 12
"""Features of an event that are remembered: those of its most severe rules first."""
MAX_RULES = 64
"""Rules of an event or of folded events that are remembered, the most severe first."""
WHOLE_EVENT = "event"
"""Asks for all fields of an event."""
NETWORK = "network"
"""No field of its own, but the /24 or /64 of the field `ip`."""

Grouping: TypeAlias = Literal["reasons", "key"]


class Content(NamedTuple):
    """What a group of findings says, whatever the order in which they came."""

    lead: Finding
    action: int
    severity: int
    rules: list[FiredRuleParts]
    event_count: int
    first_ms: int
    last_ms: int
    approximate: bool

    @property
    def reasons(self) -> tuple[str, ...]:
        """Reason codes, the most severe first, each once."""
        return reasons(self.rules)


def finding(score: Score, features: Mapping[str, int], include: Sequence[str]) -> Finding:
    """A score as a case remembers it.

    Args:
      features: position of each feature in a record's values, by name.
      include: fields of the event to remember as well.
    """
    record, event = score.record, score.record.event
    at_ms = event.event_time_ms
    digest = event_digest(event.user_id, event.event_id)
    is_correction = record.trigger != "EVENT"
    if score.action == "allow":
        return Finding(
            digest,
            record.version,
            at_ms,
            at_ms,
            0,
            score=score.score,
            is_correction=is_correction,
            received_ms=record.received_ms,
        )
    return Finding(
        digest=digest,
        version=record.version,
        start_ms=at_ms,
        end_ms=at_ms,
        count=1,
        action=ACTIONS.index(score.action),
        score=score.score,
        rules=ranked([_parts(rule) for rule in score.fired]),
        user_id=event.user_id,
        event_id=event.event_id,
        event_ms=at_ms,
        session_start_ms=record.session_start_ms,
        what=describe(event),
        place=event.country,
        values=_values(record, score.fired, features),
        fields=_fields(event, include),
        rules_version=score.rules_version,
        is_correction=is_correction,
        received_ms=record.received_ms,
    )


def event_digest(user_id: str, event_id: str) -> int:
    """64 bits of an event's identity. The length keeps ("a", "bc") and ("ab", "c") apart."""
    key = f"{len(user_id)}:{user_id}{event_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def groups(findings: Sequence[Finding], cooldown_ms: int, grouping: Grouping) -> list[list[Finding]]:
    """Findings parted into cases: a function of their set. Groups and findings come in order of time.

    In order of time, a finding joins each group whose last event is at most a cool-down before it and which, under
    `reasons`, has a reason in common with it; groups that it joins become one.
    """
    parted: list[_Group] = []
    closed: list[_Group] = []
    for each in sorted(findings, key=lambda f: (f.start_ms, f.digest)):
        codes = {rule[1] for rule in each.rules} or {""}
        joined = _Group([each], codes, each.end_ms)
        still_open = []
        for group in parted:
            if each.start_ms - group.last_ms > cooldown_ms:
                closed.append(group)
            elif grouping == "key" or group.codes & codes:
                joined.findings = group.findings + joined.findings
                joined.codes |= group.codes
                joined.last_ms = max(joined.last_ms, group.last_ms)
            else:
                still_open.append(group)
        parted = [*still_open, joined]
    found = [sorted(g.findings, key=lambda f: (f.start_ms, f.digest)) for g in closed + parted]
    return sorted(found, key=lambda group: (group[0].start_ms, group[0].digest))


class _Group:
    __slots__ = ("codes", "findings", "last_ms")

    def __init__(self, findings: list[Finding], codes: set[str], last_ms: int) -> None:
        self.findings = findings
        self.codes = codes
        self.last_ms = last_ms


def content(group: Sequence[Finding]) -> Content:
    """What a group says."""
    rules = ranked([rule for each in group for rule in each.rules])
    return Content(
        lead=max(group, key=priority),
        action=max(each.action for each in group),
        severity=max((rule[2] for rule in rules), default=SEVERITIES.index("medium")),
        rules=rules,
        event_count=sum(each.count for each in group),
        first_ms=min(each.start_ms for each in group),
        last_ms=max(each.end_ms for each in group),
        approximate=any(each.count > 1 for each in group),
    )


def priority(each: Finding) -> tuple[Any, ...]:
    """Orders findings by suspicion; of equal ones the earliest is first."""
    return each.action, each.score, -each.event_ms, each.digest


def fold(a: Finding, b: Finding) -> Finding:
    """Two findings as one, which shows the more suspicious of them."""
    lead = max(a, b, key=priority)
    return msgspec.structs.replace(
        lead,
        version=max(a.version, b.version),
        start_ms=min(a.start_ms, b.start_ms),
        end_ms=max(a.end_ms, b.end_ms),
        count=a.count + b.count,
        action=max(a.action, b.action),
        rules=ranked(a.rules + b.rules),
        received_ms=max(a.received_ms, b.received_ms),
    )


def ranked(rules: Sequence[FiredRuleParts]) -> list[FiredRuleParts]:
    """Rules by severity, then weight, then id, each id once."""
    by_id: dict[str, FiredRuleParts] = {}
    for rule in rules:
        known = by_id.get(rule[0])
        if known is None or rule[2:] > known[2:]:
            by_id[rule[0]] = rule
    return sorted(by_id.values(), key=lambda rule: (-rule[2], -rule[3], rule[0]))[:MAX_RULES]


def reasons(rules: Sequence[FiredRuleParts]) -> tuple[str, ...]:
    """Reason codes of rules in their order, each once."""
    return tuple(dict.fromkeys(rule[1] for rule in rules))


def feature_index(features: Sequence[Feature]) -> dict[str, int]:
    """Position of each feature by name."""
    return {feature.name: i for i, feature in enumerate(features)}


def _parts(rule: FiredRule) -> FiredRuleParts:
    return rule.rule_id, rule.reason_code, SEVERITIES.index(rule.severity), rule.weight


def _values(
    record: FeatureRecord, fired: Sequence[FiredRule], index: Mapping[str, int]
) -> list[tuple[str, bool | int | float]]:
    names = dict.fromkeys(name for rule in fired for name in rule.inputs if name in index)
    known = [(name, record.features[index[name]]) for name in names if index[name] < len(record.features)]
    return [(name, value) for name, value in known if value is not None][:MAX_EVIDENCE]


def _fields(event: Any, include: Sequence[str]) -> dict[str, Any]:
    if WHOLE_EVENT in include:
        given = msgspec.to_builtins(event)
        return {name: value for name, value in given.items() if value is not None}
    values = {name: FieldReader((name,))(event) if name == NETWORK else getattr(event, name, None) for name in include}
    return {name: value for name, value in values.items() if value is not None}
