"""Valid messages to vary in tests."""

from __future__ import annotations

import json
from typing import Any

from transforms.events import Message

RECEIVED_MS = 1_772_368_500_000
EVENT_TIME = "2026-03-01T12:34:56.789Z"
EVENT_TIME_MS = 1_772_368_496_789

LOGIN = {
    "event_id": "e-1",
    "event_type": "login",
    "user_id": "u-1",
    "event_time": EVENT_TIME,
    "outcome": "success",
    "ip": "203.0.113.7",
    "device_id": "d-1",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
    "country": "DE",
    "latitude": 52.52,
    "longitude": 13.405,
}
PAYMENT = {
    "event_id": "e-2",
    "event_type": "payment",
    "user_id": "u-1",
    "event_time": EVENT_TIME,
    "amount_minor": 1250,
    "currency": "EUR",
    "merchant_id": "m-1",
    "payee_id": "p-1",
    "card_id": "tok_4f2a",
    "expected_amount_minor": 1300,
}
LABEL = {
    "event_id": "l-1",
    "event_type": "label",
    "user_id": "u-1",
    "event_time": EVENT_TIME,
    "target_event_id": "e-2",
    "target_event_time": 1_772_000_000_000,
    "is_fraud": True,
    "source": "chargeback",
}
SIGNUP = {
    "event_id": "s-1",
    "event_type": "signup",
    "user_id": "u-1",
    "event_time": EVENT_TIME,
    "ip": "2001:db8::7",
    "device_id": "d-1",
    "country": "DE",
    "referrer_id": "r-1",
    "attributes": {"channel": "app", "age_years": 31},
}
CLAIM = {
    "event_id": "p-1",
    "event_type": "claim",
    "user_id": "u-1",
    "event_time": EVENT_TIME,
    "promotion_id": "welcome-10",
    "ip": "203.0.113.7",
    "latitude": 52.52,
    "longitude": 13.405,
}
ABSENT = object()


def message(payload: bytes, received_ms: int = RECEIVED_MS) -> Message:
    return Message(payload, received_ms, "test.jsonl:1")


def with_fields(event: dict[str, Any], **changes: Any) -> bytes:
    changed = {name: value for name, value in (event | changes).items() if value is not ABSENT}
    return json.dumps(changed).encode()
