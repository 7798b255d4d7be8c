"""Scores made by hand, and a player of scores against the case machine, for the tests of cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from scored import MINUTE, NOON_MS, payment, record

from transforms.alerts import Alert
from transforms.case_state import CaseState, decode, encode
from transforms.cases import END_OF_TIME_MS, CaseConfig, Cases
from transforms.records import FiredRule, Score

SEVERITY = {"A": "high", "B": "medium", "C": "critical", "D": "low"}
"""Of the reasons that the tests use; each has one rule, of the same name in lower case."""


def suspicion(
    minute: float,
    event_id: str,
    codes: str = "A",
    *,
    action: str = "review",
    score: float = 0.6,
    version: int = 1,
    trigger: Any = "EVENT",
    received_minute: float = 0,
    **fields: Any,
) -> Score:
    """A score `minute` minutes after noon, where the rules of these reasons fired; without codes it is allowed."""
    event = payment(round(minute * MINUTE), event_id=event_id, **fields)
    fired = tuple(FiredRule(c.lower(), c, SEVERITY[c], 0.6, ("is_new_ip", "login_count_1h")) for c in codes)
    made = record(event, version, trigger, is_new_ip=True, login_count_1h=3)
    made = msgspec.structs.replace(made, received_ms=NOON_MS + round(received_minute * MINUTE))
    return Score(made, score if codes else 0.0, action if codes else "allow", fired, "rules-1")


class Player:
    """Plays scores and watermarks against the machine of one key, whose state is encoded and decoded in between."""

    def __init__(self, config: CaseConfig = CaseConfig()) -> None:
        self.machine = Cases(config)
        self.state: CaseState | None = None
        self.told: list[Alert] = []
        self.timer_ms: int | None = None
        self.largest_state = 0

    def play(self, *scores: Score) -> list[Alert]:
        """What these scores lead to."""
        return [alert for score in scores for alert in self._take(self.machine.on_score(self.state, score))]

    def watermark(self, minute: float) -> list[Alert]:
        """The watermark gets to `minute` minutes after noon: timers fire, and fire once more, which changes nothing."""
        return self.advance(NOON_MS + round(minute * MINUTE))

    def drain(self) -> list[Alert]:
        """The watermark gets to the end of time."""
        return self.advance(END_OF_TIME_MS)

    def advance(self, now_ms: int) -> list[Alert]:
        """The watermark gets to `now_ms`, epoch ms."""
        told: list[Alert] = []
        rounds = 0
        while self.timer_ms is not None and self.timer_ms <= now_ms:
            at_ms = self.timer_ms
            told += self._take(self.machine.on_watermark(self.state, at_ms))
            assert self._take(self.machine.on_watermark(self.state, at_ms)) == [], "said twice"
            rounds += 1
            assert rounds < 10_000, "a timer that sets itself forever"
        return told

    def _take(self, step: Any) -> list[Alert]:
        assert (step.timer_ms is None) == (step.state is None), "a state without an end, or an end without a state"
        self.state, self.timer_ms = step.state, step.timer_ms
        if self.state is not None:
            data = encode(self.state)
            self.largest_state = max(self.largest_state, len(data))
            self.state = decode(data)
        self.told += step.alerts
        return list(step.alerts)


def changes(alerts: Iterable[Alert]) -> list[str]:
    """What made each of the alerts."""
    return [alert.change for alert in alerts]


def current(alerts: Iterable[Alert]) -> dict[str, Alert]:
    """What a reader of the table sees: by id the highest version of the cases that stand."""
    newest: dict[str, Alert] = {}
    for alert in alerts:
        known = newest.get(alert.alert_id)
        assert known is None or known.version != alert.version, "two rows of one version"
        if known is None or alert.version > known.version:
            newest[alert.alert_id] = alert
    return {alert_id: a for alert_id, a in newest.items() if a.status in ("open", "closed")}


def essence(alerts: Iterable[Alert]) -> list[tuple[Any, ...]]:
    """What stands in the end, but for ids, versions and how it came about."""
    found = [
        (
            a.first_event_ms,
            a.last_event_ms,
            a.event_count,
            a.event_id,
            a.score,
            a.action,
            a.severity,
            a.reason_codes,
            a.fired_rules,
            a.features,
            a.events,
            a.status,
        )
        for a in current(alerts).values()
    ]
    return sorted(found, key=lambda each: each[:4])
