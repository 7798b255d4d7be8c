"""Cost of parsing a message, beside `json.loads` of the same bytes, which checks nothing.

The first rows are of messages that differ in ids, address, amount and time, as in a stream; the others repeat one.
Measured compiled to C, as `make setup` does where there is a C compiler, and interpreted.

Run: python -m bench.parsing
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any

from bench import compiled
from transforms.event_coder import EnvelopeCoder
from transforms.events import DeadLetter, Envelope, Message
from transforms.parsing import decode_accepted, parse

RECEIVED_MS = 1_772_409_600_000
"""The end of 2026-03-01, the day of all events."""

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


def different(event: dict[str, Any]) -> list[bytes]:
    """As many messages as are timed in a round, from over a day."""
    return [
        json.dumps(
            event
            | {
                "event_id": f"6f1c1b1e-6a0e-4a39-9d2c-{i:012x}",
                "user_id": f"user-{7_919 * i % 1_000_000:06}",
                "event_time": f"2026-03-01T{i % 24:02}:{7 * i % 60:02}:{11 * i % 60:02}.{37 * i % 1_000:03}Z",
                "ip": f"203.0.113.{i}",
                "device_id": f"device-{7_919 * i % 1_000_000:06}-1",
            }
            | ({"amount_minor": 100 + 37 * i} if "amount_minor" in event else {})
        ).encode()
        for i in range(CALLS)
    ]


def cases() -> dict[str, bytes]:
    """Messages to time, again and again."""

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


def measure() -> dict[str, dict[str, tuple[float, float]]]:
    """Microseconds of the fastest round: ours and `json.loads` by message, turn about; then what happens between steps.

    Raises:
      SystemExit: a message that is meant to be accepted is rejected.
    """
    streams = {"payments": different(PAYMENT), "logins": different(LOGIN)}
    streams |= {name: [payload] for name, payload in cases().items()}
    parsing = {}
    for name, payloads in streams.items():
        messages = [Message(payload, RECEIVED_MS, "bench:1") for payload in payloads]
        if any(isinstance(parse(m), DeadLetter) is not name.startswith("rejected") for m in messages):
            raise SystemExit(f"{name}: accepted, or rejected, against what it is meant to be")
        ours, floor = fastest([_each(parse, messages), _each(_loads, payloads)])
        parsing[f"{name}, {sum(map(len, payloads)) // len(payloads)} bytes"] = ours, floor
    envelope = parse(Message(cases()["payment"], RECEIVED_MS, "bench:1"))
    assert isinstance(envelope, Envelope)
    coder = EnvelopeCoder()
    encoded = coder.encode(envelope)
    steps: dict[str, Callable[[], Any]] = {
        "encode envelope": lambda: coder.encode(envelope),
        "decode envelope": lambda: coder.decode(encoded),
        "decode its event alone": lambda: decode_accepted(envelope.payload),
    }
    return {"parsing": parsing, "between steps": {name: (fastest([call])[0], 0.0) for name, call in steps.items()}}


def main() -> dict[str, Any]:
    """Prints and returns the figures, by form."""
    results = compiled.figures("bench.parsing")
    for how, found in results.items():
        print(f"{how + ': message':52} {'parse us':>9} {'json.loads us':>14} {'ratio':>6}")
        for name, (ours, floor) in found["parsing"].items():
            print(f"{name:52} {ours:9.2f} {floor:14.2f} {ours / floor:6.2f}")
        for name, (ours, _) in found["between steps"].items():
            print(f"{'between steps, payment: ' + name:52} {ours:9.2f}")
    return results


def _each(function: Callable[[Any], Any], arguments: list[Any]) -> Callable[[], Any]:
    """A call with the next of the arguments, over and over."""
    if len(arguments) == 1:
        return partial(function, arguments[0])
    following = cycle(arguments).__next__
    return lambda: function(following())


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
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(measure()))
    else:
        main()
