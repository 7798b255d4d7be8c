"""Events, feature records and rules for the tests of rules, scores and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

from oracle_features import features

from transforms.events import Activity, Login, Payment
from transforms.features import FEATURES
from transforms.records import FeatureRecord, Trigger
from transforms.rule_file import load_rules
from transforms.rules import RuleSet

NOON_MS = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""
GAP_MS = 300_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

_ids = count()


def login(at_ms: int = 0, outcome: str = "success", **fields: Any) -> Login:
    """A login `at_ms` after noon."""
    return Login(**{**_HOME, **_common(at_ms), "outcome": outcome, **fields})


def payment(at_ms: int = 0, amount_minor: int = 2_000, **fields: Any) -> Payment:
    """A payment `at_ms` after noon."""
    return Payment(**{**_HOME, **_common(at_ms), "amount_minor": amount_minor, "currency": "EUR", **fields})


_HOME: dict[str, Any] = {
    "ip": "192.0.2.1",
    "device_id": "phone",
    "country": "DE",
    "latitude": 52.52,
    "longitude": 13.40,
}


def _common(at_ms: int) -> dict[str, Any]:
    return {"event_id": f"e{next(_ids)}", "user_id": "u1", "event_time_ms": NOON_MS + at_ms}


_EMPTY = {"int": 0, "float": 0.0, "bool": False}


def record(event: Activity | None = None, version: int = 1, trigger: Trigger = "EVENT", **values: Any) -> FeatureRecord:
    """A record with the given feature values; the others are unknown where they may be, else 0."""
    assert set(values) <= {f.name for f in FEATURES}
    row = [values.get(f.name, None if f.nullable else _EMPTY[f.type]) for f in FEATURES]
    return FeatureRecord(event or login(), row, NOON_MS, version, trigger, False, NOON_MS)


def record_of(event: Activity, past: Sequence[Activity]) -> FeatureRecord:
    """A record with the features that the declaration gives an event with that past."""
    return FeatureRecord(event, features(event, [*past, event], GAP_MS), NOON_MS, 1, "EVENT", False, NOON_MS)


def rules(*conditions: str, weight: float = 0.5, head: str = "") -> RuleSet:
    """Rules `r0`, `r1`, ... with these conditions and all else alike."""
    return load_rules(head + "rules:\n" + "".join(rule(f"r{i}", c, weight) for i, c in enumerate(conditions)))


def rule(id: str, when: str, weight: float = 0.5, severity: str = "high") -> str:
    """A rule as YAML."""
    return (
        f"  - id: {id}\n    description: What it finds.\n    reason_code: {id.upper()}\n"
        f"    severity: {severity}\n    weight: {weight}\n    when: |-\n      {when}\n"
    )
