"""From messages to events and dead letters: every hostile input gets its own precise dead letter."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from typing import Any

import pytest
from messages import (
    ABSENT,
    CLAIM,
    EVENT_TIME_MS,
    LABEL,
    LOGIN,
    PAYMENT,
    RECEIVED_MS,
    SIGNUP,
    message,
    with_fields,
)

from transforms.events import Claim, DeadLetter, Envelope, Label, Login, Payment, Reason, Signup, event_type
from transforms.parsing import Limits, decode_accepted, parse
from transforms.wire import wire


def accepted(payload: bytes, limits: Limits = Limits()) -> Envelope:
    parsed = parse(message(payload), limits)
    assert isinstance(parsed, Envelope), parsed
    return parsed


def rejected(payload: bytes, limits: Limits = Limits(), received_ms: int = RECEIVED_MS) -> DeadLetter:
    """The dead letter of a payload, with everything that holds for any of them."""
    parsed = parse(message(payload, received_ms), limits)
    assert isinstance(parsed, DeadLetter), parsed
    assert parsed.payload == payload
    assert (parsed.received_ms, parsed.source) == (received_ms, "test.jsonl:1")
    assert parsed.message.isascii()
    assert parsed.message.isprintable()
    assert len(parsed.message) < 400
    return parsed


def test_a_login_keeps_every_field() -> None:
    envelope = accepted(with_fields(LOGIN))

    assert envelope.event == Login(
        event_id="e-1",
        user_id="u-1",
        event_time_ms=EVENT_TIME_MS,
        outcome="success",
        ip="203.0.113.7",
        device_id="d-1",
        user_agent="Mozilla/5.0 (X11; Linux x86_64)",
        country="DE",
        latitude=52.52,
        longitude=13.405,
    )
    assert envelope.payload == with_fields(LOGIN)
    assert (envelope.received_ms, envelope.source) == (RECEIVED_MS, "test.jsonl:1")


def test_a_payment_keeps_every_field() -> None:
    assert accepted(with_fields(PAYMENT)).event == Payment(
        event_id="e-2",
        user_id="u-1",
        event_time_ms=EVENT_TIME_MS,
        amount_minor=1250,
        currency="EUR",
        merchant_id="m-1",
        payee_id="p-1",
        card_id="tok_4f2a",
        expected_amount_minor=1300,
    )


def test_a_label_keeps_every_field() -> None:
    entities = {"merchant_id": "m-1", "card_id": "tok_4f2a", "device_id": "d-1", "payee_id": "p-1"}

    assert accepted(with_fields(LABEL, ip="2001:DB8::7", **entities)).event == Label(
        event_id="l-1",
        user_id="u-1",
        event_time_ms=EVENT_TIME_MS,
        target_event_id="e-2",
        target_event_time_ms=1_772_000_000_000,
        is_fraud=True,
        source="chargeback",
        ip="2001:db8::7",
        **entities,
    )


def test_a_signup_keeps_every_field() -> None:
    assert accepted(with_fields(SIGNUP)).event == Signup(
        event_id="s-1",
        user_id="u-1",
        event_time_ms=EVENT_TIME_MS,
        ip="2001:db8::7",
        device_id="d-1",
        country="DE",
        referrer_id="r-1",
        attributes={"channel": "app", "age_years": 31},
    )


def test_a_claim_keeps_every_field() -> None:
    assert accepted(with_fields(CLAIM)).event == Claim(
        event_id="p-1",
        user_id="u-1",
        event_time_ms=EVENT_TIME_MS,
        promotion_id="welcome-10",
        ip="203.0.113.7",
        latitude=52.52,
        longitude=13.405,
    )


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_an_event_knows_its_type_on_the_wire(event: dict[str, Any]) -> None:
    assert event_type(accepted(with_fields(event)).event) == event["event_type"]


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM])
def test_attributes_are_kept_and_nulls_left_out(event: dict[str, Any]) -> None:
    attributes = {"a": "x", "trip_km": 12.5, "stops": -3, "shared": True, "b" * 64: 2**53, "gone": None}
    parsed = accepted(with_fields(event, attributes=attributes)).event

    assert parsed.attributes == {key: value for key, value in attributes.items() if value is not None}  # type: ignore[union-attr]
    none = [accepted(with_fields(event, attributes=empty)) for empty in ({}, None, {"gone": None}, ABSENT)]
    assert {(e.digest, e.event.attributes) for e in none} == {(none[0].digest, None)}  # type: ignore[union-attr]


def test_the_digest_of_attributes_is_of_their_content() -> None:
    first = accepted(with_fields(LOGIN, attributes={"a": 12, "b": 0}))
    other = accepted(with_fields(LOGIN, attributes={"b": -0.0, "a": 12.0, "c": None}))

    assert other.digest == first.digest
    assert type(other.event.attributes["a"]) is int  # type: ignore[union-attr, index]
    for changed in ({"a": 12, "b": 1}, {"a": 12, "b": False}, {"a": 12}, {"a": "12", "b": 0}, {"a": 12.5, "b": 0}):
        assert accepted(with_fields(LOGIN, attributes=changed)).digest != first.digest


@pytest.mark.parametrize(
    ("attributes", "reason", "field"),
    [
        ([1], Reason.WRONG_TYPE, "attributes"),
        ("secret", Reason.WRONG_TYPE, "attributes"),
        ({f"a{i}": i for i in range(33)}, Reason.WRONG_VALUE, "attributes"),
        ({"a": [1]}, Reason.WRONG_TYPE, "attributes.a"),
        ({"a": {"b": 1}}, Reason.WRONG_TYPE, "attributes.a"),
        ({"a": 1, "trip_km": 2**53 + 1}, Reason.WRONG_VALUE, "attributes.trip_km"),
        ({"a": -1e300}, Reason.WRONG_VALUE, "attributes.a"),
        ({"a": 10**400}, Reason.WRONG_VALUE, "attributes.a"),
        ({"a": "secret" * 43}, Reason.WRONG_VALUE, "attributes.a"),
        ({"a": "secret\x00"}, Reason.WRONG_VALUE, "attributes.a"),
        ({"a": "secret\x7f"}, Reason.WRONG_VALUE, "attributes.a"),
        ({"a": "secret\x85"}, Reason.WRONG_VALUE, "attributes.a"),
        ({"": 1}, Reason.WRONG_VALUE, "attributes."),
        ({"A": 1}, Reason.WRONG_VALUE, "attributes.A"),
        ({"1a": 1}, Reason.WRONG_VALUE, "attributes.1a"),
        ({"é": 1}, Reason.WRONG_VALUE, "attributes.\\u00e9"),
        ({"a\n": 1}, Reason.WRONG_VALUE, "attributes.a\\n"),
        ({"a" * 65: 1}, Reason.WRONG_VALUE, "attributes." + "a" * 48),
    ],
    ids=lambda value: str(value)[:20],
)
def test_each_wrong_attribute_is_named_and_its_text_not_shown(attributes: Any, reason: str, field: str) -> None:
    letter = rejected(with_fields(PAYMENT, attributes=attributes))

    assert (letter.reason, letter.field) == (reason, field)
    if field != "attributes":
        assert letter.message.startswith(f"{field} is ")
        assert "secret" not in letter.message
    assert (letter.event_id, letter.user_id) == ("e-2", "u-1")


def test_an_attribute_that_is_there_twice_is_named() -> None:
    payload = with_fields(LOGIN, attributes={"a": 1, "b": 2}).replace(b'"b"', b'"a"')

    assert (rejected(payload).reason, rejected(payload).field) == (Reason.DUPLICATE_KEY, "a")


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_optional_fields_may_be_absent_null_or_unknown(event: dict[str, Any]) -> None:
    required = {
        "outcome",
        "amount_minor",
        "currency",
        "target_event_id",
        "target_event_time",
        "is_fraud",
        "source",
        "promotion_id",
    }
    required |= {"event_id", "event_type", "user_id", "event_time"}
    optional = event.keys() - required
    absent = accepted(with_fields(event, **dict.fromkeys(optional, ABSENT)))
    null = accepted(with_fields(event, **dict.fromkeys(optional)))
    unknown = {"trace": {"parent": [1, {"x": None}], "n": 2**70}, "city": 'say "hi"\\ \u00e9\u2603'}
    extended = accepted(with_fields(event, **dict.fromkeys(optional, ABSENT), **unknown))

    assert absent.event == null.event == extended.event
    assert absent.digest == null.digest == extended.digest


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_each_required_field_is_missed_by_name(event: dict[str, Any]) -> None:
    required = ["event_type", "event_id", "user_id", "event_time"]
    required += {
        "login": ["outcome"],
        "payment": ["amount_minor", "currency"],
        "signup": [],
        "claim": ["promotion_id"],
        "label": ["target_event_id", "target_event_time", "is_fraud", "source"],
    }[event["event_type"]]
    for name in required:
        for payload in (with_fields(event, **{name: ABSENT}), with_fields(event, **{name: None})):
            letter = rejected(payload)
            assert (letter.reason, letter.field) == (Reason.MISSING_FIELD, name)
            assert letter.message.startswith(f"{name} is ")
            assert "; give " in letter.message


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_each_field_of_a_wrong_type_is_named(event: dict[str, Any]) -> None:
    for name in event.keys() - {"attributes"}:
        for wrong in ({"a": 1}, [1], 1.5 if name not in ("latitude", "longitude") else "1.5"):
            letter = rejected(with_fields(event, **{name: wrong}))
            assert (letter.reason, letter.field) == (Reason.WRONG_TYPE, name)
            assert "; give " in letter.message


WRONG_VALUES: list[tuple[dict[str, Any], str, Any]] = [
    (LOGIN, "event_type", "logout"),
    (LOGIN, "event_type", ""),
    (LOGIN, "event_id", ""),
    (LOGIN, "user_id", ""),
    (LOGIN, "user_id", "u" * 257),
    (LOGIN, "user_id", "u" * 30_000),
    (LOGIN, "user_id", "u\x00"),
    (LOGIN, "user_id", "\n"),
    (LOGIN, "user_id", "u\x7f"),
    (LOGIN, "user_id", "u\x85"),
    (LOGIN, "device_id", ""),
    (LOGIN, "device_id", "d\x1f"),
    (LOGIN, "user_agent", "a\x00"),
    (LOGIN, "user_agent", "a" * 2049),
    (LOGIN, "outcome", "SUCCESS"),
    (LOGIN, "ip", ""),
    (LOGIN, "ip", "localhost"),
    (LOGIN, "ip", "203.0.113.256"),
    (LOGIN, "ip", "203.0.113"),
    (LOGIN, "ip", "203.0.113.07"),
    (LOGIN, "ip", " 203.0.113.7"),
    (LOGIN, "ip", "203.0.113.7:443"),
    (LOGIN, "ip", "2001:db8::g"),
    (LOGIN, "ip", "fe80::1%eth0"),
    (LOGIN, "ip", "1" * 10_000),
    (LOGIN, "ip", "1\x00"),
    (LOGIN, "ip", "\u0661.2.3.4"),
    (LOGIN, "country", "de"),
    (LOGIN, "country", "DEU"),
    (LOGIN, "country", "D1"),
    (LOGIN, "country", ""),
    (LOGIN, "latitude", 90.000001),
    (LOGIN, "latitude", -91),
    (LOGIN, "longitude", 180.5),
    (LOGIN, "longitude", -1e300),
    (LOGIN, "longitude", 10**400),
    (PAYMENT, "currency", "XXX"),
    (PAYMENT, "currency", "ABC"),
    (PAYMENT, "currency", "eur"),
    (PAYMENT, "currency", ""),
    (PAYMENT, "amount_minor", -1),
    (PAYMENT, "amount_minor", 10**12 + 1),
    (PAYMENT, "amount_minor", 2**53 + 1),
    (PAYMENT, "amount_minor", 2**64),
    (PAYMENT, "amount_minor", 10**400),
    (PAYMENT, "expected_amount_minor", -1),
    (PAYMENT, "merchant_id", "m\x00"),
    (PAYMENT, "payee_id", ""),
    (PAYMENT, "card_id", ""),
    (SIGNUP, "referrer_id", ""),
    (SIGNUP, "ip", "::1%1"),
    (CLAIM, "promotion_id", ""),
    (CLAIM, "promotion_id", "p" * 257),
    (LABEL, "ip", "1.2.3"),
    (LABEL, "card_id", ""),
    (LABEL, "device_id", "d\x00"),
    (LABEL, "payee_id", ""),
    (LABEL, "source", "rumour"),
    (LABEL, "target_event_id", ""),
    (LABEL, "target_event_time", 0),
    (LABEL, "target_event_time", "yesterday"),
]


@pytest.mark.parametrize(
    ("event", "field", "value"), WRONG_VALUES, ids=[f"{f}-{str(v)[:12]!r}" for _, f, v in WRONG_VALUES]
)
def test_each_wrong_value_is_named_and_shown(event: dict[str, Any], field: str, value: Any) -> None:
    letter = rejected(with_fields(event, **{field: value}))

    assert (letter.reason, letter.field) == (Reason.WRONG_VALUE, field)
    assert letter.message.startswith(f"{field} is ")
    assert letter.event_id == (event["event_id"] if field != "event_id" else None)
    assert letter.user_id == (event["user_id"] if field != "user_id" else None)
    assert letter.event_time_ms == EVENT_TIME_MS


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("2026-03-01T12:34:56", "no offset"),
        ("2026-03-01", "not RFC 3339"),
        ("1772368496789", "not RFC 3339"),
        ("2026-02-29T12:34:56Z", "no day and time of the calendar"),
        ("1999-12-31T23:59:59.999Z", "before the year 2000"),
        ("9999-12-31T23:59:60Z", "after the year 9999"),
        (946_684_799_999, "before the year 2000"),
        (1_772_368_496, "give milliseconds, not seconds"),
        (0, "check the clock"),
        (-1, "check the clock"),
        (1_772_368_496_789_000, "not micro- or nanoseconds"),
        (2**63, "not micro- or nanoseconds"),
        (10**399, "not micro- or nanoseconds"),
    ],
)
def test_times_that_cannot_be_say_why(value: Any, fault: str) -> None:
    letter = rejected(with_fields(LOGIN, event_time=value))

    assert (letter.reason, letter.field) == (Reason.WRONG_VALUE, "event_time")
    assert fault in letter.message
    assert letter.event_time_ms is None


@pytest.mark.parametrize("value", [EVENT_TIME_MS, "2026-03-01T13:34:56.789+01:00", "2026-03-01T12:34:56.7899999999Z"])
def test_spellings_of_the_same_time_are_the_same_event(value: Any) -> None:
    envelope = accepted(with_fields(LOGIN, event_time=value))

    assert envelope.event.event_time_ms == EVENT_TIME_MS
    assert envelope.digest == accepted(with_fields(LOGIN)).digest


def test_the_future_begins_after_the_clock_skew() -> None:
    skew_ms = 5_000
    limits = Limits(clock_skew_seconds=5)
    payload = with_fields(LOGIN)

    assert isinstance(parse(message(payload, EVENT_TIME_MS - skew_ms), limits), Envelope)
    letter = rejected(payload, limits, received_ms=EVENT_TIME_MS - skew_ms - 1)
    assert (letter.reason, letter.field) == (Reason.FROM_THE_FUTURE, "event_time")
    assert "2026-03-01T12:34:56.789Z, 5.001 s after" in letter.message
    assert letter.event_time_ms == EVENT_TIME_MS


def test_no_clock_is_read_so_that_a_replay_decides_alike() -> None:
    far_ms = 32_503_680_000_000

    assert isinstance(parse(message(with_fields(LOGIN, event_time=far_ms), far_ms)), Envelope)


@pytest.mark.parametrize(
    ("payload", "reason", "says"),
    [
        (b"", Reason.EMPTY, "is empty"),
        (b" \r\n\t", Reason.EMPTY, "is empty"),
        (b"\x00\x01\x02\xfe\xff", Reason.NOT_UTF8, "byte 3 is 0xfe"),
        (b"\x80\x04\x95pickle", Reason.NOT_UTF8, "byte 0 is 0x80"),
        (b"\x00", Reason.NOT_JSON, "found"),
        (b'{"event_id": "\xed\xa0\x80"}', Reason.NOT_UTF8, "byte 14 is 0xed"),
        (with_fields(LOGIN)[:-1] + b', "x": "\xff"}', Reason.NOT_UTF8, "0xff"),
        (with_fields(LOGIN)[:-1] + b', "\xff": 1}', Reason.NOT_UTF8, "0xff"),
        (with_fields(LOGIN).decode().encode("utf-16"), Reason.NOT_UTF8, "0xff"),
        (b"\xef\xbb\xbf" + with_fields(LOGIN), Reason.NOT_JSON, "byte order mark"),
        (b"event_id=1&user_id=2", Reason.NOT_JSON, "is not JSON"),
        (b"{'event_id': 1}", Reason.NOT_JSON, "character 1"),
        (with_fields(LOGIN) + b"}", Reason.NOT_JSON, "Extra data"),
        (with_fields(LOGIN) * 2, Reason.NOT_JSON, "Extra data"),
        (with_fields(LOGIN).replace(b"success", b"suc\ncess"), Reason.NOT_JSON, "control character"),
        (with_fields(LOGIN).replace(b"e-1", b"\\x00"), Reason.NOT_JSON, "escape"),
        (with_fields(LOGIN)[:-1] + b",}", Reason.NOT_JSON, "is not JSON"),
        (with_fields(LOGIN)[:-1] + b', "x": 01}', Reason.NOT_JSON, "is not JSON"),
        (with_fields(LOGIN, latitude=float("nan")), Reason.NOT_JSON, "holds NaN"),
        (with_fields(LOGIN, latitude=float("inf")), Reason.NOT_JSON, "holds Infinity"),
        (with_fields(LOGIN, latitude=float("-inf")), Reason.NOT_JSON, "holds -Infinity"),
        (with_fields(LOGIN, x=float("nan")), Reason.NOT_JSON, "holds NaN"),
        (b"null", Reason.WRONG_TYPE, "the message is null"),
        (b"17", Reason.WRONG_TYPE, "the message is a number"),
        (b'"login"', Reason.WRONG_TYPE, "the message is a string"),
        (b"[" + with_fields(LOGIN) + b"]", Reason.WRONG_TYPE, "the message is an array"),
        (b"[" * 10_000, Reason.TOO_DEEP, "deeper than 32"),
        (b'{"a":' * 10_000, Reason.TOO_DEEP, "deeper than 32"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, Reason.TOO_DEEP, "deeper than 32"),
        (b"a" * 10_000_000, Reason.TOO_LARGE, "10000000 bytes; send at most 65536"),
        (with_fields(LOGIN, user_id="u" * 100_000), Reason.TOO_LARGE, "send at most 65536"),
    ],
)
def test_messages_that_hold_no_event(payload: bytes, reason: str, says: str) -> None:
    letter = rejected(payload)

    assert (letter.reason, letter.field) == (reason, None)
    assert says in letter.message


@pytest.mark.parametrize("length", range(1, len(with_fields(PAYMENT))))
def test_a_message_cut_off_anywhere_is_said_to_break_off(length: int) -> None:
    letter = rejected(with_fields(PAYMENT)[:length])

    assert (letter.reason, letter.field) == (Reason.NOT_JSON, None)
    assert f"breaks off after {length} characters" in letter.message


def test_nesting_is_allowed_up_to_the_limit_and_not_beyond() -> None:
    limits = Limits(max_nesting_depth=5)

    def nested(depth: int) -> bytes:
        return with_fields(LOGIN)[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"

    accepted(nested(4), limits)
    assert rejected(nested(5), limits).reason == Reason.TOO_DEEP
    accepted(with_fields(LOGIN, x=[[[[]], [[]], [[]]]], y="[[[[[[{{{{"), limits)


def test_nesting_within_the_recursion_limit_of_this_process_is_still_too_deep() -> None:
    nested = with_fields(LOGIN)[:-1] + b', "x": ' + b"[" * 200 + b"]" * 200 + b"}"

    assert rejected(nested).reason == Reason.TOO_DEEP


@pytest.mark.parametrize(
    ("addition", "field"),
    [
        (b', "user_id": "u-1"', "user_id"),
        (b', "user_id": "u-2"', "user_id"),
        (b', "user_id": 7', "user_id"),
        (b', "latitude": 52.52', "latitude"),
        (b', "latitude": 1, "device_id": "\\u0022\\u0022"', "latitude"),
        (b', "event_type": "login"', "event_type"),
        (b', "event_type": "payment"', "event_type"),
        (b', "user\\u005fid": "u-1"', "user_id"),
        (b', "x": 1, "x": 1', "x"),
        (b', "x": null, "x": null', "x"),
        (b', "x": 100000000000000000000000, "x": 1', "x"),
        (b', "x": 1, "x": 100000000000000000000000', "x"),
        (b', "x": "\\\\", "x": "\\\\"', "x"),
        (b', "x": [{"y": 1, "y": 2}]', "y"),
        (b', "": 1, "": 2', ""),
        (b', "x\\"": 1, "x\\u0022": 2', 'x\\"'),
    ],
)
def test_a_key_that_is_there_twice_is_named(addition: bytes, field: str) -> None:
    letter = rejected(with_fields(LOGIN)[:-1] + addition + b"}")

    assert (letter.reason, letter.field) == (Reason.DUPLICATE_KEY, field)


def test_an_escaped_comma_does_not_hide_a_key_that_is_there_twice() -> None:
    payload = with_fields(LOGIN).replace(b"Mozilla/5.0", rb"Mozilla\u002c")
    accepted(payload)

    assert rejected(payload[:-1] + b', "latitude": 1}').field == "latitude"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (rb'"user_id": "\ud800"', "user_id"),
        (rb'"user_id": "u\udc00x"', "user_id"),
        (rb'"user_id": "\ud83d\u0041"', "user_id"),
        (rb'"user_id": "u", "x": {"y": ["\udfff"]}', "x"),
        (rb'"user_id": "u", "x": {"\udfff": 1}', "x"),
        (rb'"user_id": "u", "\ud800": 1', r"\ud800"),
    ],
)
def test_half_a_surrogate_pair_is_refused_where_it_is(text: bytes, field: str) -> None:
    payload = with_fields(LOGIN).replace(b'"user_id": "u-1"', text)
    letter = rejected(payload)

    assert (letter.reason, letter.field) == (Reason.WRONG_VALUE, field)
    assert "half of a surrogate pair" in letter.message
    assert letter.event_id == "e-1"


def test_whole_surrogate_pairs_and_other_scripts_are_fine() -> None:
    payload = with_fields(LOGIN).replace(b"u-1", rb"\ud83d\ude00")

    assert accepted(payload).event.user_id == "😀"
    assert accepted(with_fields(LOGIN, user_id="Jürgen ©")).event.user_id == "Jürgen ©"


def test_a_number_that_overflows_in_an_ignored_field_is_refused_by_name() -> None:
    letter = rejected(with_fields(LOGIN)[:-1] + b', "x": [1e999]}')

    assert (letter.reason, letter.field) == (Reason.WRONG_VALUE, "x")


@pytest.mark.parametrize(("present", "absent"), [("latitude", "longitude"), ("longitude", "latitude")])
def test_half_a_place_is_refused(present: str, absent: str) -> None:
    letter = rejected(with_fields(LOGIN, **{absent: ABSENT}))

    assert (letter.reason, letter.field) == (Reason.MISSING_FIELD, absent)
    assert "give both or none" in letter.message


@pytest.mark.parametrize(
    "card_number",
    ["4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6759649826438453"],
)
@pytest.mark.parametrize("event", [PAYMENT, LABEL])
def test_card_numbers_are_refused_and_not_shown(card_number: str, event: dict[str, Any]) -> None:
    letter = rejected(with_fields(event, card_id=card_number))

    assert (letter.reason, letter.field) == (Reason.WRONG_VALUE, "card_id")
    assert "card number" in letter.message
    assert not any(group in letter.message for group in card_number.replace("-", " ").split())


@pytest.mark.parametrize("token", ["4111111111111112", "411111111111", "tok_4111111111111111", "-", "9" * 20])
def test_tokens_that_are_no_card_numbers_are_accepted(token: str) -> None:
    assert accepted(with_fields(PAYMENT, card_id=token)).event.card_id == token  # type: ignore[union-attr]


@pytest.mark.parametrize("card_id", ["secret\x00token", "secret" * 100, ["secret"], {"secret": 1}])
def test_card_tokens_are_never_shown(card_id: Any) -> None:
    letter = rejected(with_fields(PAYMENT, card_id=card_id))

    assert letter.field == "card_id"
    assert "secret" not in letter.message


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("12345678901234567890", "is 12345678901234567890;"),
        ("9" * 3999, "is " + "9" * 48 + "...;"),
        ("9" * 5000, "is a number too large to be represented;"),
        ("1e999", "is a number too large to be represented;"),
    ],
)
def test_amounts_beyond_the_range_are_shown_shortened(amount: str, shown: str) -> None:
    letter = rejected(with_fields(PAYMENT).replace(b"1250", amount.encode()))

    assert (letter.reason, letter.field) == (Reason.WRONG_VALUE, "amount_minor")
    assert shown in letter.message


@pytest.mark.parametrize("amount", [0, 1, 10**12])
def test_amounts_of_the_whole_range_are_exact(amount: int) -> None:
    assert accepted(with_fields(PAYMENT, amount_minor=amount)).event.amount_minor == amount  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("ip", "canonical"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::", "::"),
    ],
)
def test_an_address_has_one_spelling(ip: str, canonical: str) -> None:
    envelope = accepted(with_fields(LOGIN, ip=ip))

    assert envelope.event.ip == canonical  # type: ignore[union-attr]
    assert envelope.digest == accepted(with_fields(LOGIN, ip=canonical)).digest


def test_limits_are_kept_as_configured() -> None:
    limits = Limits(max_message_bytes=500, max_id_length=10, max_text_length=40, max_amount_minor=2000)

    accepted(with_fields(LOGIN, user_id="u" * 10, user_agent="a" * 40), limits)
    accepted(with_fields(PAYMENT, amount_minor=2000), limits)
    assert rejected(with_fields(LOGIN, user_id="u" * 11), limits).field == "user_id"
    assert rejected(with_fields(LOGIN, user_agent="a" * 41), limits).field == "user_agent"
    assert rejected(with_fields(PAYMENT, amount_minor=2001), limits).field == "amount_minor"
    padded = with_fields(LOGIN)
    accepted(padded + b" " * (500 - len(padded)), limits)
    assert rejected(padded + b" " * (501 - len(padded)), limits).reason == Reason.TOO_LARGE


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="max_id_length is 0; give 1 or more"):
        Limits(max_id_length=0)
    with pytest.raises(ValueError, match="clock_skew_seconds is -1; give 0 or more"):
        Limits(clock_skew_seconds=-1)


def test_identity_is_found_in_what_is_cut_off() -> None:
    letter = rejected(with_fields(LOGIN)[:-30])

    assert (letter.event_id, letter.user_id, letter.event_time_ms) == ("e-1", "u-1", None)


def test_the_digest_is_of_the_content_alone() -> None:
    digest = accepted(with_fields(PAYMENT)).digest
    reordered = json.dumps(dict(reversed(PAYMENT.items())), indent=2).encode()
    escaped = with_fields(PAYMENT).replace(b"tok_", rb"\u0074ok_").replace(b"m-1", b"m\\u002d1")

    assert accepted(reordered).digest == accepted(escaped).digest == digest
    assert accepted(with_fields(LOGIN, latitude=-0.0)).digest == accepted(with_fields(LOGIN, latitude=0)).digest
    assert 0 <= digest < 2**64


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_each_field_changes_the_digest(event: dict[str, Any]) -> None:
    changed = {
        "event_time": EVENT_TIME_MS - 1,
        "outcome": "failure",
        "ip": "203.0.113.8",
        "country": "FR",
        "currency": "USD",
        "is_fraud": False,
        "source": "analyst",
        "target_event_time": 1_772_000_000_001,
        "attributes": {"channel": "web"},
    }
    digests = {accepted(with_fields(event)).digest}
    for name, value in event.items():
        if name == "event_type":
            continue
        other = changed.get(name, value + 1 if isinstance(value, (int, float)) else f"{value}x")
        digests.add(accepted(with_fields(event, **{name: other})).digest)

    assert len(digests) == len(event)


@pytest.mark.parametrize("limits", [None, Limits()])
def test_what_is_decoded_has_the_fields_of_the_event_in_their_order(limits: Limits | None) -> None:
    for decoded, event in wire(limits).events.items():
        names = [name.replace("event_time", "event_time_ms") for name in decoded.__struct_fields__]

        assert names == list(event.__struct_fields__)


GOLDEN_DIGESTS = {
    "login": 13_628_581_658_279_404_300,
    "payment": 8_302_521_986_575_012_110,
    "label": 316_612_242_410_353_171,
    "signup": 10_997_401_992_925_178_926,
    "claim": 15_130_751_445_831_512_154,
}


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_golden_digests(event: dict[str, Any]) -> None:
    """Digests are kept in running jobs: another value here makes conflicts of redeliveries after an update."""
    assert accepted(with_fields(event)).digest == GOLDEN_DIGESTS[event["event_type"]]


def test_the_digest_is_the_same_in_another_process() -> None:
    program = (
        "import sys; from transforms.events import Message; from transforms.parsing import parse;"
        f"print(parse(Message(sys.stdin.buffer.read(), {RECEIVED_MS}, 'x')).digest)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program],
        input=with_fields(LOGIN),
        capture_output=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "1"},
    ).stdout

    assert int(printed) == accepted(with_fields(LOGIN)).digest


@pytest.mark.parametrize("event", [LOGIN, PAYMENT, SIGNUP, CLAIM, LABEL])
def test_what_was_accepted_is_decoded_again_under_any_limits(event: dict[str, Any]) -> None:
    payload = with_fields(event, user_id="u" * 300)

    assert decode_accepted(payload) == accepted(payload, Limits(max_id_length=300)).event


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", b"[" * 10_000, b'{"event_type": "login"}'])
def test_what_was_never_accepted_is_an_error_to_decode_again(payload: bytes) -> None:
    with pytest.raises(ValueError, match="is no event"):
        decode_accepted(payload)


@pytest.mark.parametrize("event", [LOGIN, PAYMENT])
def test_parsing_costs_little_more_than_reading_json(event: dict[str, Any]) -> None:
    """By the fastest of many rounds taken in turn; `bench/parsing.py` measures 1.0 to 1.1 times."""
    payload = with_fields(LOGIN | event)
    to_parse, best = message(payload), [float("inf")] * 2
    for _ in range(60):
        for i, call in enumerate((partial(parse, to_parse), partial(json.loads, payload))):
            start = time.perf_counter()
            for _ in range(100):
                call()
            best[i] = min(best[i], time.perf_counter() - start)

    assert isinstance(parse(to_parse), Envelope)
    assert best[0] < 2 * best[1]
