"""What is wrong with a payload that is no event: it is read again, strictly, for its most fundamental fault."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from transforms.events import Reason
from transforms.rejection import RejectionError, bounded_integer, kind_of, shown, shown_key
from transforms.wire import ATTRIBUTE_KEY, EVENT_TYPES, MAX_ATTRIBUTE_NUMBER, MAX_ATTRIBUTES, Limits

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_FIELD_OF_ERROR = re.compile(r"(?:required field `|(?:at|in) `\$\.)(\w+)[^`]*`$")
_ATTRIBUTE_KEY = re.compile(ATTRIBUTE_KEY)

_ID_EXPECTED = "a string of 1 to {limits.max_id_length} characters, none of them a control character"
_TIME_EXPECTED = "RFC 3339 with an offset like 2026-03-01T12:34:56.789Z, or integer epoch milliseconds, since 2000"
_AMOUNT_EXPECTED = (
    "an integer from 0 to {limits.max_amount_minor} in the currency's minor unit, like 1250 for 12.50 EUR"
)
_EXPECTED = {
    "event_type": "login, payment, signup, claim or label",
    "event_id": _ID_EXPECTED,
    "user_id": _ID_EXPECTED,
    "event_time": _TIME_EXPECTED,
    "outcome": "success or failure",
    "ip": "an IPv4 or IPv6 address, or leave it out",
    "device_id": _ID_EXPECTED + ", or leave it out",
    "user_agent": "a string of at most {limits.max_text_length} characters, or leave it out",
    "country": "two capital letters as in ISO 3166-1, like DE, or leave it out",
    "latitude": "degrees from -90 to 90, or leave it out",
    "longitude": "degrees from -180 to 180, or leave it out",
    "amount_minor": _AMOUNT_EXPECTED,
    "currency": "an ISO 4217 code in capital letters, like EUR",
    "merchant_id": _ID_EXPECTED + ", or leave it out",
    "payee_id": _ID_EXPECTED + ", or leave it out",
    "card_id": _ID_EXPECTED + ", or leave it out",
    "expected_amount_minor": _AMOUNT_EXPECTED + ", or leave it out",
    "target_event_id": _ID_EXPECTED,
    "target_event_time": _TIME_EXPECTED,
    "is_fraud": "true or false",
    "source": "chargeback, analyst or customer",
    "referrer_id": _ID_EXPECTED + ", or leave it out",
    "promotion_id": _ID_EXPECTED,
    "attributes": f"an object of at most {MAX_ATTRIBUTES} entries, or leave it out",
}


def explain(payload: bytes, limits: Limits, error: Exception) -> RejectionError:
    """What is wrong with a payload that the decoder refused with the error, the most fundamental fault first."""
    try:
        text = payload.decode()
        document = load(text, limits)
        _check_characters_exist(document)
        return _too_deep(limits) if isinstance(error, RecursionError) else _explain_field(document, limits, error)
    except UnicodeDecodeError as fault:
        return RejectionError(
            Reason.NOT_UTF8,
            None,
            f"byte {fault.start} is 0x{payload[fault.start]:02x}, which is not UTF-8 there; send JSON in UTF-8",
        )
    except RejectionError as rejection:
        return rejection


def load(text: str, limits: Limits) -> dict[str, Any]:
    """Decodes a JSON object, numbers beyond all use as infinite.

    Raises:
      RejectionError: it is empty, no JSON object, nested too deep, or holds a key twice.
    """
    if not text.strip():
        raise RejectionError(Reason.EMPTY, None, "the message is empty; send one JSON object a message")
    if text[0] == "\ufeff":
        raise RejectionError(Reason.NOT_JSON, None, "begins with a byte order mark; send UTF-8 without one")
    check_depth(text, limits)
    try:
        document = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_int=bounded_integer
        )
    except RecursionError:
        raise _too_deep(limits) from None
    except json.JSONDecodeError as fault:
        raise RejectionError(Reason.NOT_JSON, None, _syntax_fault(text, fault)) from None
    if not isinstance(document, dict):
        kind = kind_of(document)
        raise RejectionError(Reason.WRONG_TYPE, None, f"the message is {kind}; send one JSON object a message")
    return document


def check_depth(text: str, limits: Limits) -> None:
    """Raises RejectionError where brackets, those within strings aside, nest deeper than the limit."""
    if text.count("{") + text.count("[") <= limits.max_nesting_depth:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "{[" else -1
        if depth > limits.max_nesting_depth:
            raise _too_deep(limits)


def _explain_field(document: dict[str, Any], limits: Limits, error: Exception) -> RejectionError:
    event_type = document.get("event_type")
    named = _FIELD_OF_ERROR.search(str(error))
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        field = "event_type"
    elif named is not None:
        field = named[1]
    else:
        return _unexplained(document, error)
    expected = _EXPECTED[field].format(limits=limits)
    if field not in document:
        return RejectionError(Reason.MISSING_FIELD, field, f"{field} is missing; give {expected}")
    value = document[field]
    if value is None:
        return RejectionError(Reason.MISSING_FIELD, field, f"{field} is null; give {expected}")
    text = f"{field} is {shown(field, value)}; give {expected}"
    if field == "attributes" and isinstance(value, dict):
        return _explain_attributes(value, limits) or _unexplained(document, error)
    wrong_type = ", got `" in str(error) or (field == "event_type" and not isinstance(value, str))
    return RejectionError(Reason.WRONG_TYPE if wrong_type else Reason.WRONG_VALUE, field, text)


def _explain_attributes(attributes: dict[str, Any], limits: Limits) -> RejectionError | None:
    if len(attributes) > MAX_ATTRIBUTES:
        return RejectionError(
            Reason.WRONG_VALUE,
            "attributes",
            f"attributes has {len(attributes)} entries; give at most {MAX_ATTRIBUTES}",
        )
    for key, value in attributes.items():
        field = f"attributes.{shown_key(key)}"
        fault = _attribute_fault(key, value, limits)
        if fault is not None:
            reason, text = fault
            return RejectionError(reason, field, f"{field} is {shown(field, value)}; {text}")
    return None


def _attribute_fault(key: str, value: Any, limits: Limits) -> tuple[str, str] | None:
    if not _ATTRIBUTE_KEY.match(key):
        return Reason.WRONG_VALUE, "give it a name of 1 to 64 letters a-z, digits and _, the first one a letter"
    if isinstance(value, (dict, list)):
        return Reason.WRONG_TYPE, "give a string, a number or a boolean"
    if isinstance(value, str) and len(value) > limits.max_id_length:
        return Reason.WRONG_VALUE, f"give at most {limits.max_id_length} characters"
    if isinstance(value, (int, float)) and not abs(value) <= MAX_ATTRIBUTE_NUMBER:
        return Reason.WRONG_VALUE, "give one from -2^53 to 2^53, or a string"
    return None


def _unexplained(document: dict[str, Any], error: Exception) -> RejectionError:
    for key, value in document.items():
        if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in _leaves(value)):
            field = shown_key(key)
            return RejectionError(
                Reason.WRONG_VALUE,
                field,
                f"{field} holds a number too large to be represented; make it smaller",
            )
    return RejectionError(Reason.NOT_JSON, None, f"can't be decoded: {error}; check it against RFC 8259")


def _check_characters_exist(document: dict[str, Any]) -> None:
    for key, value in document.items():
        for leaf in (key, *_leaves(value)):
            if isinstance(leaf, str):
                try:
                    leaf.encode()
                except UnicodeEncodeError as fault:
                    field = shown_key(key)
                    raise RejectionError(
                        Reason.WRONG_VALUE,
                        field,
                        f"{field} holds \\u{ord(leaf[fault.start]):04x}, half of a surrogate pair and no "
                        "character; don't cut text between the halves of a pair",
                    ) from None


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                field = shown_key(key)
                raise RejectionError(Reason.DUPLICATE_KEY, field, f"the key {field} is there twice; send each key once")
            seen.add(key)
    return document


def _refuse_constant(name: str) -> None:
    raise RejectionError(
        Reason.NOT_JSON, None, f"holds {name}, which JSON doesn't have; send null, or leave the field out"
    )


def _syntax_fault(text: str, fault: json.JSONDecodeError) -> str:
    if fault.pos >= len(text.rstrip()) or fault.msg.startswith("Unterminated string"):
        return f"the JSON breaks off after {len(text)} characters; look for what cuts messages short"
    found = json.dumps(text[fault.pos])
    return f"is not JSON: {fault.msg} at character {fault.pos}, found {found}; check it against RFC 8259"


def _too_deep(limits: Limits) -> RejectionError:
    return RejectionError(
        Reason.TOO_DEEP,
        None,
        f"objects and arrays are nested deeper than {limits.max_nesting_depth}; send a flat object",
    )
