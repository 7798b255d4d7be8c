"""Rows of all tables, made of messages by the pipeline's own functions: two days in which much goes wrong.

Sessions are joined by a late event, decisions corrected, an alert withdrawn; messages are malformed, repeated,
contradicted and too late; rows are rejected by the sink, and some are written twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any

from fraud_pipeline.tables import rows as build
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.case_state import CaseState
from transforms.cases import CaseConfig, Cases, matters
from transforms.events import DeadLetter, Envelope, IntakeCount, Label, Message
from transforms.parsing import parse
from transforms.records import FeatureRecord, Score, SessionRecord
from transforms.rollup import SessionRollup
from transforms.rule_file import load_rules
from transforms.scoring import score

RULES = load_rules(
    """
rules:
  - id: many_failures
    description: Failed logins in a row.
    reason_code: CREDENTIAL_STUFFING
    severity: high
    weight: 0.6
    when: event_type == 'login' && outcome == 'failure' && failures_in_a_row >= 4
  - id: payment_after_takeover
    description: A payment after failed logins and a success from a new device.
    reason_code: ACCOUNT_TAKEOVER
    severity: critical
    weight: 0.95
    when: event_type == 'payment' && failures_before_login >= 3 && login_from_new_device
  - id: too_fast
    description: Faster than an airliner.
    reason_code: IMPOSSIBLE_TRAVEL
    severity: high
    weight: 0.7
    when: has_travel_speed_kmh && travel_speed_kmh > 900.0 && travel_km > 100.0
  - id: many_payments
    description: Many payments in minutes.
    reason_code: CARD_TESTING
    severity: medium
    weight: 0.8
    when: event_type == 'payment' && payment_count_10m >= 5
  - id: far_above_mean
    description: Far above the user's mean.
    reason_code: SPENDING_SPIKE
    severity: medium
    weight: 0.55
    when: has_amount_to_mean_ratio_30d && amount_to_mean_ratio_30d > 5.0
  - id: many_payments_sooner
    description: Some payments in minutes. On trial.
    reason_code: CARD_TESTING_SOONER
    severity: medium
    weight: 0.8
    mode: shadow
    when: event_type == 'payment' && payment_count_10m >= 3
"""
)
BERLIN: dict[str, Any] = {"country": "DE", "latitude": 52.52, "longitude": 13.4}
NEW_YORK: dict[str, Any] = {"country": "US", "latitude": 40.71, "longitude": -74.01}
ATTACKER: dict[str, Any] = {"ip": "203.0.113.9", "device_id": "bot", "country": "RU"}
_CONFIG = AggregationConfig(gap_seconds=300, grace_seconds=600, retention_seconds=30 * 86_400)
_WATERMARK_BEHIND_MS = 30_000
_ids = count(1)


def ms(time: str) -> int:
    """Epoch milliseconds of a time in March 2026: `ms("01 12:30:00")`."""
    return round(datetime.fromisoformat(f"2026-03-{time}+00:00").timestamp() * 1000)


def _message(time: str, user: str, delay_ms: int = 400, **fields: Any) -> Message:
    event = {
        "event_id": f"e{next(_ids)}",
        "user_id": user,
        "event_time": f"2026-03-{time.replace(' ', 'T')}Z",
    }
    payload = json.dumps({**event, **fields}).encode()
    return Message(payload, ms(time) + delay_ms, "day.jsonl")


def _login(time: str, user: str, outcome: str = "success", **fields: Any) -> Message:
    place = {"ip": f"198.51.100.{len(user)}", "device_id": f"{user}-phone", **BERLIN}
    return _message(time, user, **{"event_type": "login", "outcome": outcome, **place, **fields})


def _payment(time: str, user: str, amount_minor: int, **fields: Any) -> Message:
    place = {"ip": f"198.51.100.{len(user)}", "device_id": f"{user}-phone", "country": "DE"}
    what = {"event_type": "payment", "amount_minor": amount_minor, "currency": "EUR", "merchant_id": "m1"}
    return _message(time, user, **{**what, **place, **fields})


def _label(time: str, message: Message, is_fraud: bool, source: str) -> Message:
    target = json.loads(message.payload)
    return _message(
        time,
        target["user_id"],
        event_type="label",
        target_event_id=target["event_id"],
        target_event_time=target["event_time"],
        is_fraud=is_fraud,
        source=source,
    )


def _messages() -> list[Message]:
    first = _payment("01 09:02:00", "alice", 2_500)
    spike = _payment("02 11:00:00", "erin", 15_000, payee_id="p7")
    joined = _payment("02 12:08:00", "alice", 16_000)
    taken = _payment("01 13:03:00", "bob", 90_000, payee_id="p9", **{**ATTACKER, "device_id": "burner"})
    tests = [
        _payment(f"01 20:00:{10 + 5 * i}", "dave", 100 + i, card_id=f"tok_{i}", merchant_id=f"m{i % 3}")
        for i in range(7)
    ]
    messages = [
        _login("01 09:00:00", "alice"),
        first,
        _payment("01 09:04:00", "alice", 3_000),
        _login("01 18:00:00", "alice"),
        _payment("01 18:01:00", "alice", 2_800, delay_ms=75_000),
        _login("02 12:00:00", "alice"),
        joined,
        # Between two sessions that are finalized by then: it joins them, and raises the mean of the payment after it.
        _payment("02 12:04:00", "alice", 12_000, delay_ms=600_000),
        _login("01 08:00:00", "bob"),
        *[_login(f"01 13:00:{10 + 5 * i}", "bob", "failure", **ATTACKER) for i in range(8)],
        _login("01 13:01:30", "bob", **{**ATTACKER, "device_id": "burner"}),
        taken,
        _login("01 08:00:00", "carol"),
        _login("01 08:40:00", "carol", **{**NEW_YORK, "ip": ATTACKER["ip"], "device_id": "carol-laptop"}),
        _login("01 20:00:00", "dave"),
        *tests,
        _payment("01 20:02:00", "dave", 25_000, card_id="tok_6"),
        *[_payment(f"01 1{i}:00:00", "erin", 1_000 + 100 * i, payee_id="p1") for i in range(3)],
        spike,
        *[_login(f"01 13:02:{10 + 5 * i}", "frank", "failure", **ATTACKER) for i in range(4)],
        _login("02 23:50:00", "grace"),
        _label("02 08:00:00", taken, True, "chargeback"),
        *[_label("02 09:00:00", test, True, "customer") for test in tests[4:]],
        _label("02 13:00:00", spike, False, "analyst"),
        _label("02 19:00:00", spike, True, "chargeback"),
        _label("02 19:30:00", joined, False, "analyst"),
        Message(b'{"event_id": "e9', ms("01 10:00:00"), "day.jsonl:7"),
        Message(b"\xff\xfe", ms("01 10:00:01"), "day.jsonl:8"),
        Message(b"", ms("02 10:00:01"), "day.jsonl:9"),
        _message("02 10:00:02", "zoe", event_type="login"),
        _message("02 10:00:03", "zoe", event_type="login", outcome="success", delay_ms=-86_400_000),
        Message(first.payload, first.received_ms + 1_000, "again.jsonl:1"),
        Message(first.payload, first.received_ms + 2_000, "again.jsonl:2"),
        Message(first.payload.replace(b"2500", b"9900"), first.received_ms + 3_000, "again.jsonl:3"),
        _payment("01 09:03:00", "alice", 700, delay_ms=86_400_000),
    ]
    return sorted(messages, key=lambda message: message.received_ms)


def _records(messages: list[Message]) -> Iterator[tuple[int, Any]]:
    """What the aggregation says, each with the time it is said; the watermark follows the arrivals."""
    machine = Aggregation(_CONFIG)
    states: dict[str, Any] = {}
    logs: dict[str, MemoryLog] = {}
    timers: dict[str, int | None] = {}

    def advance(watermark_ms: int) -> Iterator[tuple[int, Any]]:
        for user in sorted(timers):
            while (timer_ms := timers[user]) is not None and timer_ms <= watermark_ms:
                states[user], new, timers[user] = machine.on_watermark(states[user], timer_ms, logs[user])
                yield from ((timer_ms + _WATERMARK_BEHIND_MS, record) for record in new)

    for message in messages:
        yield from advance(message.received_ms - _WATERMARK_BEHIND_MS)
        parsed = parse(message)
        if isinstance(parsed, DeadLetter) or isinstance(parsed.event, Label):
            yield message.received_ms, parsed
            continue
        user = parsed.event.user_id
        log = logs.setdefault(user, MemoryLog())
        states[user], new, timers[user] = machine.on_event(states.get(user), parsed, log)
        yield from ((message.received_ms + 20, record) for record in new)
    step = machine.on_inactivity(states["grace"], logs["grace"])
    yield from ((messages[-1].received_ms + 300_000, record) for record in step.records)


def sample() -> dict[str, list[dict[str, Any]]]:
    """The rows by table, in the order in which they would be written."""
    global _ids
    _ids = count(1)
    messages = _messages()
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in build.ROW_BUILDERS}
    latest: dict[tuple[str, str], Score] = {}
    cases = Cases(CaseConfig())
    case_states: dict[str, CaseState | None] = {}
    for at_ms, record in _records(messages):
        if isinstance(record, FeatureRecord):
            decision = score(record, RULES)
            latest[record.event.user_id, record.event.event_id] = decision
            tables["scores"].append(build.score_row(decision, at_ms))
            if matters(decision):
                step = cases.on_score(case_states.get(decision.record.event.user_id), decision)
                case_states[decision.record.event.user_id] = step.state
                tables["alerts"] += [build.alert_row(told, at_ms) for told in step.alerts]
        elif isinstance(record, SessionRecord):
            tables["sessions"].append(build.session_row(record, at_ms))
            tables["session_rollups"] += [build.session_rollup_row(r, at_ms) for r in _rollups(record, latest)]
        elif isinstance(record, Envelope):
            tables["labels"].append(build.label_row(record))
        else:
            tables["dead_letters"].append(build.dead_letter_row(record))
    days = Counter(message.received_ms // 86_400_000 for message in messages)
    tables["intake"] = [
        build.intake_row(IntakeCount(f"count-{day}", day * 86_400_000 + 86_399_000, n)) for day, n in days.items()
    ]
    _reject_rows(tables)
    for table, rows in tables.items():
        rows += [_again(table, row) for row in rows[::4]]
    return tables


def _rollups(session: SessionRecord, latest: dict[tuple[str, str], Score]) -> Iterator[SessionRollup]:
    decisions = [
        decision
        for (user, _), decision in latest.items()
        if user == session.user_id and session.start_ms <= decision.record.event.event_time_ms < session.end_ms
    ]
    if session.retracted:
        return
    panes = [("EARLY", 0)] if session.provisional or session.login_failure_count > 4 else []
    if not session.provisional:
        panes.append(("LATE", 0) if session.trigger == "LATE" else ("ON_TIME", len(panes)))
    for pane, index in panes:
        yield SessionRollup(
            user_id=session.user_id,
            start_ms=session.start_ms,
            end_ms=session.end_ms,
            event_count=len(decisions),
            max_score=max(decision.score for decision in decisions),
            actions=tuple(sorted({decision.action for decision in decisions})),
            fired_rules=tuple(sorted({rule.rule_id for decision in decisions for rule in decision.fired})),
            pane=pane,
            pane_index=index,
            is_last=False,
        )


def _reject_rows(tables: dict[str, list[dict[str, Any]]]) -> None:
    """One row of scores, and one of sessions, is refused by the sink and becomes a dead letter."""
    refused = next(row for row in tables["scores"] if row["user_id"] == "carol")
    tables["scores"].remove(refused)
    session = next(row for row in tables["sessions"] if row["user_id"] == "frank")
    tables["sessions"].remove(session)
    for table, row in (("scores", refused), ("sessions", session)):
        tables["dead_letters"].append(
            build.dead_letter_row(
                DeadLetter(
                    reason="SINK_REJECTED",
                    field=None,
                    message=f"BigQuery refused a row of {table}: backend error",
                    payload=json.dumps(row).encode(),
                    received_ms=ms("01 08:00:00") + 400,
                    source=f"table {table}",
                    event_id=row.get("event_id"),
                    user_id=row["user_id"],
                )
            )
        )


def _again(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row as a retry writes it: the clock has gone on."""
    clock = {"scores": "scored_time"}.get(table, "emitted_time")
    return {**row, clock: row[clock].replace(".", ".9")[:23] + "Z"} if clock in row else dict(row)
