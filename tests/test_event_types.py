"""Signups and claims of promotions go the way of logins and payments: rows, alerts, labels with their entities."""

from __future__ import annotations

import json
from typing import Any

from messages import CLAIM, LABEL, PAYMENT, SIGNUP, message, with_fields
from scored import rules

from fraud_pipeline.tables.rows import label_row, score_row
from fraud_pipeline.tables.validation import validate
from transforms.alert_words import describe
from transforms.entities import DEFAULT_ENTITIES
from transforms.events import Claim, Envelope, Payment, Signup
from transforms.features import FEATURES
from transforms.parsing import parse
from transforms.records import FeatureRecord, FiredRule, Score


def envelope(event: dict[str, Any]) -> Envelope:
    parsed = parse(message(with_fields(event)))
    assert isinstance(parsed, Envelope)
    return parsed


def scored(fields: dict[str, Any]) -> Score:
    """A score of an event about whose user nothing is known, suspected by one rule."""
    event = envelope(fields).event
    assert isinstance(event, Signup | Claim | Payment)
    unknown = [None if feature.nullable else 0 for feature in (*FEATURES, *DEFAULT_ENTITIES.features)]
    record = FeatureRecord(event, unknown, event.event_time_ms, 1, "EVENT", False, event.event_time_ms)
    fired = FiredRule("many_signups", "BONUS_ABUSE", "high", 0.9, ())
    return Score(record, 0.9, "review", (fired,), rules("is_new_ip").version)


def test_each_type_has_its_own_fields_in_a_score_row() -> None:
    signup, claim, payment = (score_row(scored(event), 0) for event in (SIGNUP, CLAIM, PAYMENT))

    assert (signup["event_type"], signup["referrer_id"], signup["promotion_id"]) == ("signup", "r-1", None)
    assert (claim["event_type"], claim["promotion_id"], claim["referrer_id"]) == ("claim", "welcome-10", None)
    assert (payment["event_type"], payment["referrer_id"], payment["promotion_id"]) == ("payment", None, None)
    assert (payment["card_id"], signup["card_id"], claim["amount_minor"]) == ("tok_4f2a", None, None)
    assert json.loads(signup["attributes"]) == {"channel": "app", "age_years": 31}
    assert claim["attributes"] is None
    for row in (signup, claim):
        assert row["outcome"] is None


def test_alerts_say_what_happened() -> None:
    signup, claim = (scored(event).record.event for event in (SIGNUP, CLAIM))

    assert describe(signup) == "sign-up"
    assert describe(claim) == "claim of promotion welcome-10"


def test_a_label_row_has_the_entities_of_the_payment() -> None:
    entities = {"merchant_id": "m-1", "card_id": "tok", "device_id": "d-1", "ip": "203.0.113.7", "payee_id": "p-1"}
    row = label_row(envelope(LABEL | entities))

    assert row.items() >= entities.items()
    assert validate("labels", row) is None
