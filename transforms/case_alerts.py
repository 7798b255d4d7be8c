"""From a case to what is told of it, and what there is to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transforms.alert_words import feature_evidence, summary
from transforms.alerts import Alert, Change, EventEvidence, RuleEvidence, Status
from transforms.case_findings import ACTIONS, Content, priority, reasons
from transforms.case_state import CLOSED, MERGED, OPEN, WITHDRAWN, Case, Finding
from transforms.features import Feature
from transforms.records import session_id
from transforms.rules import SEVERITIES

_STATUS: dict[int, Status] = {OPEN: "open", CLOSED: "closed", WITHDRAWN: "withdrawn", MERGED: "merged"}
_PREFIXES: dict[Change, str] = {
    "ESCALATED": "Escalated: ",
    "EXTENDED": "More reasons: ",
    "CORRECTED": "Corrected: ",
    "REOPENED": "Suspicious again: ",
    "WITHDRAWN": "Nothing is suspicious any more, as late events change the picture; it was: ",
}


def change_of(case: Case, says: Content) -> Change | None:
    """What there is to tell of a case whose events now say this; None where nothing."""
    if case.version == 0:
        return "OPENED"
    if case.status in (WITHDRAWN, MERGED):
        return "REOPENED"
    if says.action > case.action or says.severity > case.severity:
        return "ESCALATED"
    before, now = set(reasons(case.rules)), set(says.reasons)
    if now - before:
        return "EXTENDED"
    if says.action < case.action or says.severity < case.severity or before - now or says.event_count < case.count:
        return "CORRECTED"
    return "GREW" if says.event_count >= 2 * case.count else None


def tell(case: Case, says: Content, version: int) -> None:
    """Has the case remember that this was told of it."""
    case.version = max(case.version + 1, version)
    case.action, case.severity, case.rules = says.action, says.severity, says.rules
    case.count, case.lead = says.event_count, says.lead


def alert(
    case: Case,
    key: str,
    change: Change,
    features: Mapping[str, Feature],
    events: Sequence[Finding] = (),
    max_shown: int = 0,
) -> Alert:
    """The alert of a case, as it remembers it.

    Args:
      key: what it is about: a field's name, a colon, its value.
      features: those declared, by name.
      events: the case's findings; none where it is withdrawn or merged.
      max_shown: how many of them to show, the most suspicious.
    """
    lead, severity = case.lead, SEVERITIES[case.severity]
    key_field, _, value = key.partition(":")
    stands = case.status in (OPEN, CLOSED)
    approximate = any(f.count > 1 for f in events)
    evidence = tuple(feature_evidence(name, seen, features) for name, seen in lead.values)
    sentence = summary(
        action=ACTIONS[case.action],
        severity=severity,
        reason_codes=reasons(case.rules),
        key_field=key_field,
        user_id=lead.user_id,
        what=lead.what,
        place=lead.place,
        event_ms=lead.event_ms,
        score=lead.score,
        event_count=case.count,
        first_ms=case.first_ms,
        last_ms=case.last_ms,
        users=_users(events, approximate),
        features=evidence if stands else (),
    )
    prefix = f"Now part of alert {case.into}; it was: " if change == "MERGED" else _PREFIXES.get(change, "")
    shown = sorted(sorted(events, key=priority)[-max_shown:], key=lambda f: (f.event_ms, f.digest))
    return Alert(
        alert_id=case.alert_id,
        version=case.version,
        status=_STATUS[case.status],
        change=change,
        key_field=key_field,
        key=value,
        user_id=lead.user_id,
        session_id=session_id(lead.user_id, lead.session_start_ms),
        event_id=lead.event_id,
        event_time_ms=lead.event_ms,
        score=lead.score,
        rules_version=lead.rules_version,
        action="allow" if case.status == WITHDRAWN else ACTIONS[case.action],
        severity=severity,
        reason_codes=reasons(case.rules),
        fired_rules=tuple(rule[0] for rule in case.rules),
        summary=prefix + sentence,
        first_event_ms=case.first_ms,
        last_event_ms=case.last_ms,
        event_count=case.count if stands else 0,
        approximate=approximate,
        rules=tuple(RuleEvidence(rule[0], rule[1], SEVERITIES[rule[2]]) for rule in case.rules),
        features=evidence,
        events=tuple(
            EventEvidence(f.event_id, f.user_id, f.event_ms, f.what, f.score, ACTIONS[f.action], f.fields)
            for f in shown
        ),
        merged_into=case.into or None,
    )


def _users(events: Sequence[Finding], approximate: bool) -> str:
    count = len({each.user_id for each in events})
    if not count:
        return ""
    return f"{count:,} user{'s' if count > 1 else ''}{' or more' if approximate else ''}"
