"""Refusals: the error, what of a value may be shown in it, and the dead letter that a message becomes.

Everything here is off the hot path: it takes its time to be precise.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from transforms import rfc3339
from transforms.events import DeadLetter, Message, Reason
from transforms.wire import FIRST_MS, LAST_MS, Limits

_SHOWN_CHARACTERS = 48
_SEARCHED_BYTES = 64 * 1024
_MAX_NUMBER_DIGITS = 4000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ID = {name: re.compile(rb'"%s"\s*:\s*"([^"\\\x00-\x1f]+)"' % name.encode()) for name in ("event_id", "user_id")}
_NEVER_SHOWN = frozenset({"card_id"})


class RejectionError(ValueError):
    """A message that can't become an event; reason and field as in `DeadLetter`, the text its `message`."""

    def __init__(self, reason: str, field: str | None, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.field = field
        self.text = text


def dead_letter(message: Message, rejection: RejectionError, limits: Limits) -> DeadLetter:
    """The dead letter of a refused message, with its ids and time as far as they can be found in it."""
    event_id, user_id, event_time_ms = _identity(message.payload, limits)
    return DeadLetter(
        rejection.reason,
        rejection.field,
        rejection.text,
        message.payload,
        message.received_ms,
        message.source,
        event_id,
        user_id,
        event_time_ms,
    )


def wrong_value(field: str, value: Any, fault: str) -> RejectionError:
    """The rejection of a field's value; the fault ends with the fix."""
    return RejectionError(Reason.WRONG_VALUE, field, f"{field} is {shown(field, value)}, {fault}")


def shown(field: str, value: Any) -> str:
    """A value for people: shortened, in ASCII; a card token or an attribute's text only by its length."""
    if field in _NEVER_SHOWN or field.startswith("attributes."):
        return f"a value of {len(value)} characters" if isinstance(value, str) else kind_of(value)
    if isinstance(value, (dict, list)):
        return kind_of(value)
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        return f"{json.dumps(value[:_SHOWN_CHARACTERS])}... ({len(value)} characters)"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number too large to be represented"
    text = json.dumps(value)
    return text if len(text) <= 2 * _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def shown_key(key: str) -> str:
    """A key of the document as a field name: shortened, in ASCII."""
    return json.dumps(key[:_SHOWN_CHARACTERS])[1:-1]


def check_strings(event: Any) -> None:
    """Raises RejectionError where a string of a decoded event holds a control character (Unicode's Cc)."""
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if type(value) is dict:
            for key, text in value.items():
                _check_controls(f"attributes.{key}", text)
        else:
            _check_controls(name, value)


def _check_controls(field: str, value: Any) -> None:
    if type(value) is str and (match := _CONTROL.search(value)):
        raise RejectionError(
            Reason.WRONG_VALUE,
            field,
            f"{field} is {shown(field, value)}, with the control character U+{ord(match[0]):04X} "
            f"at position {match.start()}; send text without any",
        )


def _identity(payload: bytes, limits: Limits) -> tuple[str | None, str | None, int | None]:
    """What a refused payload says of its event id, user id and time; None where it doesn't, or not validly."""
    if len(payload) <= limits.max_message_bytes:
        try:
            document = json.loads(payload.decode(), parse_int=bounded_integer)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            return (
                _valid_id(document.get("event_id"), limits),
                _valid_id(document.get("user_id"), limits),
                _valid_time(document.get("event_time")),
            )
    searched = payload[:_SEARCHED_BYTES]
    found = {name: pattern.search(searched) for name, pattern in _ID.items()}
    event_id, user_id = (
        _valid_id(match[1].decode(errors="surrogateescape"), limits) if match else None
        for match in (found["event_id"], found["user_id"])
    )
    return event_id, user_id, None


def _valid_id(value: Any, limits: Limits) -> str | None:
    if not isinstance(value, str) or not 1 <= len(value) <= limits.max_id_length or _CONTROL.search(value):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _valid_time(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            value = rfc3339.epoch_ms(value)
        except ValueError:
            return None
    return value if type(value) is int and FIRST_MS <= value <= LAST_MS else None


def bounded_integer(digits: str) -> float | int:
    """The integer, or infinity where it has more digits than any use."""
    return int(digits) if len(digits) <= _MAX_NUMBER_DIGITS else math.inf


def kind_of(value: Any) -> str:
    """A JSON value's type for people, like `an array`."""
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
