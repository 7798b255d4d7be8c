"""Whatever is sent, parsing gives one event or one dead letter, and never anything that isn't as documented.

Mutated messages, 50,000 unless the environment says otherwise: `FUZZ_MESSAGES=1000000 pytest tests/test_parse_fuzz.py`.
"""

from __future__ import annotations

import ipaddress
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import CLAIM, LABEL, LOGIN, PAYMENT, RECEIVED_MS, SIGNUP, message, with_fields

from transforms.events import DeadLetter, Envelope, Label, Message, Payment, Reason
from transforms.parsing import Limits, decode_accepted, parse

MESSAGE_COUNT = int(os.environ.get("FUZZ_MESSAGES", "50000"))
PARTS = 8
LIMITS = Limits(max_message_bytes=6000, max_nesting_depth=8, max_id_length=40, max_text_length=120)
REASONS = {value for name, value in vars(Reason).items() if name.isupper()}
MADE_BY_PARSING = REASONS - {
    Reason.TOO_LATE,
    Reason.DUPLICATE,
    Reason.CONFLICT,
    Reason.SINK_REJECTED,
    Reason.DELIVERY_FAILED,
    Reason.RULES_REJECTED,
    Reason.RULES_UNREADABLE,
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

EVENTS = [LOGIN, PAYMENT, PAYMENT | LOGIN | {"event_type": "payment"}, LABEL]
EVENTS += [LABEL | {"merchant_id": "m", "ip": "::1", "card_id": "tok"}, SIGNUP, CLAIM]
EVENTS += [PAYMENT | {"attributes": {"trip_km": 12.5, "driver_device_id": "d-2", "shared": False}}]
FIELDS = sorted({name for event in EVENTS for name in event} | {"x", "", "user\u005fid", "é"})
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        1.5,
        -0.0,
        1e308,
        5e-324,
        2**31,
        2**53 + 1,
        2**63,
        2**64,
        10**12,
        10**12 + 1,
    ),
    *(10**30, -(10**400), float("nan"), float("inf"), -float("inf")),
    *(
        "",
        " ",
        "\x00",
        "u\x00",
        "\x7f",
        "\x80",
        "é",
        "\u2028",
        "😀",
        "\ud800",
        "x\udfff",
        "a" * 41,
        "a" * 121,
        '"',
    ),
    *("\\", '\\"', ",", ",,,", "{[", "true", "null", "a" * 5000),
    *("success", "failure", "chargeback", "EUR", "USD", "XXX", "eur", "DE", "de", "ZZ", "D", "é€"),
    *("1.2.3.4", "::1", "::ffff:1.2.3.4", "2001:DB8::0:1", "1.2.3", "256.1.1.1", "1.2.3.4%0", "fe80::1%1"),
    *("4111111111111111", "4111 1111-1111 1111", "4111111111111112", "٤١١١١١١١١١١١١١١١", "tok"),
    *(
        1_772_368_496_789,
        1_772_368_496,
        946_684_799_999,
        946_684_800_000,
        253_402_300_800_000,
        RECEIVED_MS + 60_001,
    ),
    *(
        "2026-03-01T12:34:56Z",
        "2026-03-01T12:34:60.9999Z",
        "2026-03-01 12:34:56.1+02:00",
        "2026-03-01T12:34:56",
    ),
    *("2026-02-30T12:34:56Z", "1999-12-31T23:59:59.999Z", "9999-12-31T23:59:60Z", "2027-01-01T00:00:00Z"),
    *(
        [],
        {},
        [1],
        {"a": 1},
        {"é": 1},
        {"a": 1, "b": "x\x00"},
        {"a": 1e16},
        {"a": "y" * 41},
        {"a": {}},
        {"driver_id": "d", "n": None},
        [[[[[[]]]]]],
        [[[[[[[[[]]]]]]]]],
        {"a": [{"b": [None, "x,y"]}]},
        89.999,
        91,
        180,
        -180.1,
    ),
]
FRAGMENTS = [
    *(
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"01",
        b"-",
        b"1.",
        b'"',
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b" ",
        b"\n",
    ),
    *(
        b'"\\ud800"',
        b"\\u0000",
        b"\\u002c",
        b"\\u0022",
        b"\\x",
        b"\x00",
        b"\x7f",
        b"\xc2\x80",
        b"\xff",
        b"\xed\xa0\x80",
    ),
    *(
        b"\xef\xbb\xbf",
        b'{"a":' * 20,
        b"[" * 300,
        b"9" * 400,
        b"9" * 4400,
        b'"user_id": "u-1", ',
        b'"x": 1, ',
        b"null",
        b"//",
        b"a" * 4096,
    ),
]


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Messages that begin as valid events and are then changed as values, as text and as bytes."""
    rng = random.Random(seed)
    for _ in range(count):
        fields = list(rng.choice(EVENTS).items())
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            change, at = rng.random(), rng.randrange(len(fields))
            if change < 0.6:
                fields[at] = (fields[at][0], rng.choice(VALUES))
            elif change < 0.7:
                del fields[at]
            elif change < 0.8:
                fields[at] = (rng.choice(FIELDS), fields[at][1])
            else:
                fields.insert(at, (rng.choice(FIELDS), rng.choice(VALUES)))
        if rng.random() < 0.03:
            fields.append(("event_time", RECEIVED_MS + rng.randrange(10**9)))
            fields.remove(next((pair for pair in fields if pair[0] == "event_time"), fields[-1]))
        text = json.dumps(_Pairs(fields), ensure_ascii=rng.random() < 0.7, separators=rng.choice(SEPARATORS))
        payload = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(rng.choice((0, 0, 0, 1, 2, 6))):
            _change_bytes(rng, payload)
        yield bytes(payload)


SEPARATORS = [(", ", ": "), (",", ":"), (" ,\n", "\t: ")]


class _Pairs(dict[str, Any]):
    """An object for `json.dumps` that may hold a key twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs

    def items(self) -> Any:
        return self._pairs


def _change_bytes(rng: random.Random, payload: bytearray) -> None:
    change, at = rng.random(), rng.randrange(len(payload) + 1)
    if change < 0.3:
        payload[at:at] = rng.choice(FRAGMENTS)
    elif change < 0.5:
        payload[at : at + 1] = bytes((rng.randrange(256),))
    elif change < 0.7:
        del payload[at : at + rng.choice((1, 1, 2, 20))]
    elif change < 0.8:
        payload[at:at] = payload[: rng.randrange(len(payload) + 1)]
    elif change < 0.9:
        del payload[at:]
    else:
        payload[at:at] = payload[at : at + rng.randrange(60)]


def check(payload: bytes) -> str:
    """Parses a message and checks all that is promised of the result; returns what became of it."""
    parsed = parse(message(payload), LIMITS)
    assert parsed.payload is payload
    assert (parsed.received_ms, parsed.source) == (RECEIVED_MS, "test.jsonl:1")
    if isinstance(parsed, DeadLetter):
        check_dead_letter(parsed)
        return parsed.reason
    assert isinstance(parsed, Envelope)
    check_envelope(parsed)
    return "accepted"


def check_dead_letter(letter: DeadLetter) -> None:
    assert letter.reason in MADE_BY_PARSING
    assert letter.message.isascii()
    assert letter.message.isprintable()
    assert 20 < len(letter.message) < 500
    for text in (letter.field, letter.event_id, letter.user_id):
        assert text is None or len(text.encode()) <= 400
    if letter.event_time_ms is not None:
        assert 946_684_800_000 <= letter.event_time_ms <= 253_402_300_799_999


def check_envelope(envelope: Envelope) -> None:
    """The documented ranges, and that the standard library reads the same from the message."""
    sent = json.loads(envelope.payload, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    event = envelope.event
    assert type(event).__name__.lower() == sent["event_type"]
    assert 0 <= envelope.digest < 2**64
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name.endswith("_time_ms"):
            assert 946_684_800_000 <= value <= 253_402_300_799_999
            assert value == _time_ms(sent[name.removesuffix("_ms")])
            continue
        if name == "ip" and value is not None:
            assert str(ipaddress.ip_address(value)) == value
            assert ipaddress.ip_address(value) in _meanings(sent["ip"])
            continue
        if name == "attributes":
            check_attributes(value, sent.get(name))
            continue
        assert value == sent.get(name), name
        if isinstance(value, str):
            limit = LIMITS.max_text_length if name == "user_agent" else LIMITS.max_id_length
            assert len(value.encode()) >= (name != "user_agent")
            assert len(value) <= limit
            assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value)
    assert event.event_time_ms <= envelope.received_ms + LIMITS.clock_skew_seconds * 1000
    if isinstance(event, Label):
        return
    assert (event.latitude is None) == (event.longitude is None)
    if event.latitude is not None and event.longitude is not None:
        assert abs(event.latitude) <= 90
        assert abs(event.longitude) <= 180
    if isinstance(event, Payment):
        assert type(event.amount_minor) is int
        assert 0 <= event.amount_minor <= 10**12
        assert event.currency in ("EUR", "USD")
        assert event.card_id not in ("4111111111111111", "4111 1111-1111 1111")


def check_attributes(attributes: dict[str, Any] | None, sent: dict[str, Any] | None) -> None:
    assert (attributes or {}) == {key: value for key, value in (sent or {}).items() if value is not None}
    for key, value in (attributes or {}).items():
        assert key.isascii()
        assert key.replace("_", "a").isalnum()
        if isinstance(value, str):
            assert len(value) <= LIMITS.max_id_length
            assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value)
        else:
            assert abs(value) <= 2**53


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise AssertionError(name)


def _meanings(ip: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address | None]:
    address = ipaddress.ip_address(ip)
    return [address, getattr(address, "ipv4_mapped", None)]


def _time_ms(sent: int | str) -> int:
    if isinstance(sent, int):
        return sent
    # RFC 3339 lets `z` be a small letter (section 5.6), `fromisoformat` doesn't.
    sent = sent.upper()
    leap = sent[17:19] == "60"
    moment = datetime.fromisoformat(f"{sent[:17]}59{sent[19:]}" if leap else sent)
    return (moment - EPOCH) // timedelta(milliseconds=1) + 1000 * leap


@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_messages(part: int) -> None:
    outcomes = Counter(check(payload) for payload in mutants(part, MESSAGE_COUNT // PARTS))

    print(f"part {part}: {sum(outcomes.values()):,} messages, {dict(outcomes.most_common())}")
    assert sum(outcomes.values()) == MESSAGE_COUNT // PARTS
    assert outcomes["accepted"] > MESSAGE_COUNT // PARTS // 5
    assert set(outcomes) - {"accepted"} == MADE_BY_PARSING


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_any_bytes(payload: bytes) -> None:
    assert check(payload) != "accepted"


@given(json_values)
def test_any_json(value: Any) -> None:
    assert check(json.dumps(value).encode()) != "accepted"


@given(
    st.sampled_from(EVENTS),
    st.dictionaries(st.sampled_from(FIELDS), json_values | st.sampled_from(VALUES), max_size=3),
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=3),
)
def test_events_with_any_json_in_their_fields(event: Any, changes: Any, additions: Any) -> None:
    check(with_fields(additions | event | changes))


@given(st.sampled_from(EVENTS), st.permutations(range(20)), st.sampled_from(SEPARATORS), st.booleans())
def test_key_order_white_space_and_escapes_change_nothing(
    event: dict[str, Any], order: list[int], separators: tuple[str, str], escaped: bool
) -> None:
    pairs = list(event.items())
    reordered = dict(pairs[i] for i in order if i < len(pairs))
    text = json.dumps(reordered, separators=separators)
    if escaped:
        text = "".join(f"\\u{ord(c):04x}" if c.isalpha() and text[i - 1] == '"' else c for i, c in enumerate(text))
    as_sent, as_changed = parse(message(with_fields(event))), parse(message(text.encode()))

    assert isinstance(as_sent, Envelope)
    assert isinstance(as_changed, Envelope)
    assert (as_changed.event, as_changed.digest) == (as_sent.event, as_sent.digest)
    assert decode_accepted(as_changed.payload) == as_sent.event


@given(st.integers(0, 253_402_300_799_999))
def test_any_time_of_receipt(received_ms: int) -> None:
    parsed = parse(Message(with_fields(LOGIN), received_ms, "s"))

    assert isinstance(parsed, DeadLetter) == (parsed.payload == b"" or received_ms < RECEIVED_MS - 63_211)
