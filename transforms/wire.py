"""Events as they are on the wire: the fields of each type and what each may hold, checked as they are decoded."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from string import ascii_uppercase
from typing import Annotated, Any, Literal

import msgspec

from transforms.currencies import CURRENCIES, WITHDRAWN_CURRENCIES
from transforms.events import Claim, Label, Login, Payment, Signup


class Limits(msgspec.Struct, frozen=True, cache_hash=True, kw_only=True):
    """What a message may hold at most.

    Attributes:
      max_message_bytes: a larger message is refused unread.
      max_nesting_depth: how deep objects and arrays may be nested, in fields that are ignored too.
      max_id_length: characters of an id.
      max_text_length: characters of `user_agent`.
      max_amount_minor: the largest amount. A sum of a user's amounts stays exact: a million of the default's
        fit into a 64-bit integer.
      clock_skew_seconds: how far an event's time may be after the time its message was received.

    Raises:
      ValueError: one is negative or, other than the clock skew, zero; or beyond 64 bits.
    """

    max_message_bytes: int = 64 * 1024
    max_nesting_depth: int = 32
    max_id_length: int = 256
    max_text_length: int = 2048
    max_amount_minor: int = 10**12
    clock_skew_seconds: int = 60

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            lowest = 0 if name == "clock_skew_seconds" else 1
            value = getattr(self, name)
            if not lowest <= value < 1 << 63:
                raise ValueError(f"{name} is {value}; give {lowest} or more")


@dataclass(frozen=True, slots=True)
class Wire:
    """How events are decoded, and into what: mutable structs that omit absent fields when they are encoded.

    Attributes:
      decode: from bytes to one of these structs.
      payment, label: the structs of two types that need checks of their own.
      events: what each struct becomes; its fields are the same, in the same order.
      clock_skew_ms: how far an event's time may be after the time its message was received.
    """

    decode: Callable[[bytes], Any]
    payment: Any
    label: Any
    events: dict[type, Any]
    clock_skew_ms: int


_EVENTS = {"login": Login, "payment": Payment, "signup": Signup, "claim": Claim, "label": Label}

EVENT_TYPES = tuple(_EVENTS)

ATTRIBUTE_KEY = r"^[a-z][a-z0-9_]{0,63}\Z"
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_NUMBER = 2**53
"""Numbers beyond it are not exact everywhere (RFC 8259, section 6)."""

FIRST_MS = 946_684_800_000
"""2000-01-01T00:00:00Z: an event before this is a unit error or a clock that was never set."""

LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""

_KEPT_WIRES = 64

COUNTRIES = tuple("".join(letters) for letters in product(ascii_uppercase, repeat=2))
"""Everything of the shape of ISO 3166-1 alpha-2: the list itself changes, and has user-assigned codes."""


known_wires: dict[Limits | None, Wire] = {}
"""What `wire` has made: looked up here first, as `functools.lru_cache` takes three times as long."""


def wire(limits: Limits | None) -> Wire:
    """Makes the wire types within the limits; with None unchecked, for payloads that were accepted before."""
    types = {
        event_type: msgspec.defstruct(
            event_type.title() + "Wire",
            fields,
            tag=event_type,
            tag_field="event_type",
            kw_only=True,
            omit_defaults=True,
            gc=False,
        )
        for event_type, fields in _fields_by_event_type(limits).items()
    }
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(reduce(operator.or_, types.values()))
    if len(known_wires) >= _KEPT_WIRES:
        known_wires.clear()
    made = known_wires[limits] = Wire(
        decode=decoder.decode,
        payment=types["payment"],
        label=types["label"],
        events={types[event_type]: event for event_type, event in _EVENTS.items()},
        clock_skew_ms=(limits or Limits()).clock_skew_seconds * 1000,
    )
    return made


def _fields_by_event_type(
    limits: Limits | None,
) -> dict[str, Sequence[tuple[str, Any] | tuple[str, Any, None]]]:
    """Name, type and, where it is optional, the default of each field; a struct's order is the digest's."""

    def meta(base: Any, **constraints: Any) -> Any:
        return base if limits is None else Annotated[base, msgspec.Meta(**constraints)]

    def one_of(choices: Sequence[str]) -> Any:
        return str if limits is None else operator.getitem(Literal, tuple(choices))

    bounds = limits or Limits()
    identifier = meta(str, min_length=1, max_length=bounds.max_id_length)
    amount = meta(int, ge=0, le=bounds.max_amount_minor)
    number = {"ge": -MAX_ATTRIBUTE_NUMBER, "le": MAX_ATTRIBUTE_NUMBER}
    value = bool | meta(int, **number) | meta(float, **number) | meta(str, max_length=bounds.max_id_length) | None
    attributes = meta(dict[meta(str, pattern=ATTRIBUTE_KEY), value], max_length=MAX_ATTRIBUTES)  # type: ignore[misc]
    common = [("event_id", identifier), ("user_id", identifier), ("event_time", int | str)]
    surroundings = [
        ("ip", str | None, None),
        ("device_id", identifier | None, None),
        ("user_agent", meta(str, max_length=bounds.max_text_length) | None, None),
        ("country", one_of(COUNTRIES) | None, None),
        ("latitude", meta(float, ge=-90, le=90) | None, None),
        ("longitude", meta(float, ge=-180, le=180) | None, None),
    ]
    return {
        "login": [
            *common,
            ("outcome", one_of(("success", "failure"))),
            *surroundings,
            ("attributes", attributes | None, None),
        ],
        "payment": [
            *common,
            ("amount_minor", amount),
            ("currency", one_of(sorted(CURRENCIES | WITHDRAWN_CURRENCIES))),
            *surroundings,
            ("merchant_id", identifier | None, None),
            ("payee_id", identifier | None, None),
            ("card_id", identifier | None, None),
            ("expected_amount_minor", amount | None, None),
            ("attributes", attributes | None, None),
        ],
        "signup": [
            *common,
            *surroundings,
            ("referrer_id", identifier | None, None),
            ("attributes", attributes | None, None),
        ],
        "claim": [
            *common,
            ("promotion_id", identifier),
            *surroundings,
            ("attributes", attributes | None, None),
        ],
        "label": [
            *common,
            ("target_event_id", identifier),
            ("target_event_time", int | str),
            ("is_fraud", bool),
            ("source", one_of(("chargeback", "analyst", "customer"))),
            ("merchant_id", identifier | None, None),
            ("card_id", identifier | None, None),
            ("device_id", identifier | None, None),
            ("ip", str | None, None),
            ("payee_id", identifier | None, None),
        ],
    }
