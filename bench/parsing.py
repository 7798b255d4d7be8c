"""Cost of parsing a message, beside `json.loads` of the same bytes, which checks nothing.

Run: python -m bench.parsing
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from transforms.event_coder import EnvelopeCoder
from transforms.events import Envelope, Message
from transforms.parsing import decode_accepted, parse

RECEIVED_MS = 1_772_368_500_000
ROUNDS = 200
CALLS = 250

_SURROUNDINGS = {
    "ip": "203.0.113.77",
    "device_id": "device-000123-1",
    "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 "
    "Safari/537.36",
    "country": "DE",
    "latitude": 52.52,
    "longitude": 13.405,
}
_COMMON = {
    "event_id": "6f1c1b1e-6a0e-4a39-9d2c-0d0d6c1f2a3b",
    "user_id": "user-000123",
    "event_time": "2026-03-01T12:34:56.789Z",
}
PAYMENT: dict[str, Any] = {
    "event_type": "payment",
    **_COMMON,
    **_SURROUNDINGS,
    "amount_minor": 12_999,
    "currency": "EUR",
    "merchant_id": "merchant-0042",
    "payee_id": "payee-0815",
    "card_id": "tok_8f14e45fceea167a",
}
LOGIN: dict[str, Any] = {"event_type": "login", **_COMMON, **_SURROUNDINGS, "outcome": "success"}


def cases() -> dict[str, bytes]:
    """Messages to time; the first two are what is called a normal event."""

    def text(event: dict[str, Any], **changes: Any) -> bytes:
        return json.dumps(event | changes, ensure_ascii=False).encode()

    return {
        "payment": text(PAYMENT),
        "login": text(LOGIN),
        "login, few fields": text({"event_type": "login", **_COMMON, "outcome": "success"}),
        "time with microseconds and offset": text(LOGIN, event_time="2026-03-01T13:34:56.789012+01:00"),
        "accents": text(LOGIN, user_id="Jürgen"),
        "IPv6": text(LOGIN, ip="2001:db8::8a2e:370:7334"),
        "an unknown field": text(LOGIN, session="s-1"),
        "a null": text(LOGIN, device_id=None),
        "escapes": text(LOGIN).replace(b"/", b"\\/"),
        "rejected: a wrong currency": text(PAYMENT, currency="XXX"),
        "rejected: cut off": text(PAYMENT)[:-20],
    }


def main() -> None:
    """Prints a table: microseconds of the fastest round, and the ratio to `json.loads`, measured turn about."""
    print(f"{'message':36} {'bytes':>5} {'parse us':>9} {'json.loads us':>14} {'ratio':>6}")
    for name, payload in cases().items():
        message = Message(payload, RECEIVED_MS, "bench:1")
        ours, floor = fastest([partial(parse, message), partial(_loads, payload)])
        print(f"{name:36} {len(payload):5} {ours:9.2f} {floor:14.2f} {ours / floor:6.2f}")
    message = Message(cases()["payment"], RECEIVED_MS, "bench:1")
    envelope = parse(message)
    if not isinstance(envelope, Envelope):
        raise SystemExit(f"the payment was rejected: {envelope.message}")
    coder = EnvelopeCoder()
    encoded = coder.encode(envelope)
    print(f"\n{'between steps, payment':36} {'us':>6}")
    for name, call in {
        "encode envelope": lambda: coder.encode(envelope),
        "decode envelope": lambda: coder.decode(encoded),
        "decode its event alone": lambda: decode_accepted(envelope.payload),
    }.items():
        print(f"{name:36} {fastest([call])[0]:6.2f}")


def _loads(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


def fastest(calls: list[Callable[[], Any]]) -> list[float]:
    """The time of each call in microseconds: of many short rounds the fastest, as others use the machine too."""
    best = [float("inf")] * len(calls)
    gc.disable()
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            best[i] = min(best[i], (time.perf_counter() - start) / CALLS * 1e6)
    gc.enable()
    return best


if __name__ == "__main__":
    main()
