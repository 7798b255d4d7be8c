"""Messages that are no valid events, as broken clients, proxies and exporters send them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec

from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import Draft
from fraud_pipeline.simulate.wire import encode, fields, format_time

_json = msgspec.json.encode

_REQUIRED = {
    "login": ("event_id", "event_type", "user_id", "event_time", "outcome"),
    "payment": ("event_id", "event_type", "user_id", "event_time", "amount_minor", "currency"),
    "signup": ("event_id", "event_type", "user_id", "event_time"),
    "claim": ("event_id", "event_type", "user_id", "event_time", "promotion_id"),
    "label": ("event_id", "event_type", "user_id", "event_time", "target_event_id", "is_fraud"),
}


def malform(rng: Random, draft: Draft) -> bytes:
    """A message that should have been this event, spoiled in one of the ways of `MALFORMATIONS`, by chance."""
    return rng.choice(_KINDS)(rng, draft)


def _truncated(rng: Random, draft: Draft) -> bytes:
    payload = encode(draft)
    return payload[: rng.randrange(1, len(payload))]


def _empty(rng: Random, draft: Draft) -> bytes:
    return b""


def _binary(rng: Random, draft: Draft) -> bytes:
    return b"\x1f\x8b\x08\x00" + rng.randbytes(rng.randrange(60, 250))


def _not_utf8(rng: Random, draft: Draft) -> bytes:
    return _with(draft, user_agent="PayApp/8.2.3 (café)").decode().encode("latin-1", "replace")


def _text(rng: Random, draft: Draft) -> bytes:
    return b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def _batch(rng: Random, draft: Draft) -> bytes:
    return b"[" + encode(draft) + b"]"


def _two_in_one(rng: Random, draft: Draft) -> bytes:
    payload = encode(draft)
    return payload + payload


def _nested(rng: Random, draft: Draft) -> bytes:
    return b'{"event_id":' + b"[" * 10_000 + b"]" * 10_000 + b"}"


def _duplicate_key(rng: Random, draft: Draft) -> bytes:
    return encode(draft)[:-1] + b',"user_id":"' + f"u-{rng.getrandbits(20):07d}".encode() + b'"}'


def _missing_field(rng: Random, draft: Draft) -> bytes:
    event = fields(draft)
    del event[rng.choice(_REQUIRED[event["event_type"]])]
    return _json(event)


def _wrong_type(rng: Random, draft: Draft) -> bytes:
    name, value = rng.choice(
        (("user_id", 4711), ("event_id", None), ("event_time", True), ("event_time", {"seconds": 5}))
    )
    return _with(draft, **{name: value})


def _amount_as_text(rng: Random, draft: Draft) -> bytes:
    return _with(draft, event_type="payment", currency="EUR", amount_minor="12.50")


def _unknown_currency(rng: Random, draft: Draft) -> bytes:
    code = rng.choice(("EURO", "XYZ", "usd", "", "BITCOIN"))
    return _with(draft, event_type="payment", amount_minor=1250, currency=code)


def _unknown_type(rng: Random, draft: Draft) -> bytes:
    return _with(draft, event_type=rng.choice(("purchase", "LOGIN", "logout")))


def _unknown_outcome(rng: Random, draft: Draft) -> bytes:
    return _with(draft, event_type="login", outcome=rng.choice(("ok", "SUCCESS", "")))


def _impossible_place(rng: Random, draft: Draft) -> bytes:
    return _with(_activity(draft), latitude=round(rng.uniform(100, 900), 4), longitude=0.5)


def _not_a_number(rng: Random, draft: Draft) -> bytes:
    return _with(_activity(draft), latitude=0.5, longitude="?").replace(b'"?"', b"NaN")


def _naive_time(rng: Random, draft: Draft) -> bytes:
    return _with(draft, event_time=str(format_time(draft.event.event_time_ms, 0, 0)).rstrip("Z"))


def _no_such_day(rng: Random, draft: Draft) -> bytes:
    return _with(draft, event_time=rng.choice(("2025-02-30T10:00:00Z", "0000-00-00T00:00:00Z", "yesterday")))


def _future(rng: Random, draft: Draft) -> bytes:
    ahead = draft.event.event_time_ms + rng.randrange(300, 4_000) * DAY_MS
    return _with(draft, event_time=format_time(ahead, 0, 0))


def _nul_in_id(rng: Random, draft: Draft) -> bytes:
    return _with(draft, user_id=draft.event.user_id + "\0")


def _lone_surrogate(rng: Random, draft: Draft) -> bytes:
    return _with(draft, user_id="?").replace(b'"?"', b'"u-\\ud800"')


def _with(draft: Draft | Mapping[str, Any], **changes: Any) -> bytes:
    event = fields(draft) if isinstance(draft, Draft) else dict(draft)
    return _json(event | changes)


def _activity(draft: Draft) -> dict[str, Any]:
    """The event as a login where it is a label, which has no place."""
    event = fields(draft)
    return event | {"event_type": "login", "outcome": "failure"} if event["event_type"] == "label" else event


MALFORMATIONS: dict[str, Callable[[Random, Draft], bytes]] = {
    "truncated": _truncated,
    "empty": _empty,
    "binary": _binary,
    "not UTF-8": _not_utf8,
    "text": _text,
    "a batch": _batch,
    "two events in one": _two_in_one,
    "nested 10,000 deep": _nested,
    "duplicate key": _duplicate_key,
    "missing field": _missing_field,
    "wrong type": _wrong_type,
    "amount as text": _amount_as_text,
    "unknown currency": _unknown_currency,
    "unknown event type": _unknown_type,
    "unknown outcome": _unknown_outcome,
    "impossible place": _impossible_place,
    "not a number": _not_a_number,
    "naive time": _naive_time,
    "no such day": _no_such_day,
    "from the future": _future,
    "NUL in an id": _nul_in_id,
    "lone surrogate": _lone_surrogate,
}
"""Each way to spoil an event, by name."""

_KINDS = tuple(MALFORMATIONS.values())
