"""The event model: what a valid event is, once decoded. `transforms.parsing` makes these from bytes."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, TypeAlias

import msgspec

Attributes: TypeAlias = dict[str, str | int | float | bool]
"""What a producer knows of an event beyond its fields. A whole number is an int, however it was spelled."""


class Login(msgspec.Struct, frozen=True, tag="login", tag_field="event_type", gc=False):
    """A login attempt of a user, successful or not."""

    event_id: str
    user_id: str
    event_time_ms: int
    outcome: Literal["success", "failure"]
    ip: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    attributes: Attributes | None = None


class Payment(msgspec.Struct, frozen=True, tag="payment", tag_field="event_type", gc=False):
    """A payment by a user. Amounts are integers in the currency's minor unit; `card_id` is a token.

    A ride is one too: `payee_id` is the driver's account, `expected_amount_minor` the fare by the route, and the
    attributes `driver_id`, `driver_device_id`, `trip_km` and `direct_km` say what was driven.
    """

    event_id: str
    user_id: str
    event_time_ms: int
    amount_minor: int
    currency: str
    ip: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    merchant_id: str | None = None
    payee_id: str | None = None
    card_id: str | None = None
    expected_amount_minor: int | None = None
    attributes: Attributes | None = None


class Signup(msgspec.Struct, frozen=True, tag="signup", tag_field="event_type", gc=False):
    """An account is made; `referrer_id` is who brought the user: a customer's code or a partner's."""

    event_id: str
    user_id: str
    event_time_ms: int
    ip: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    referrer_id: str | None = None
    attributes: Attributes | None = None


class Claim(msgspec.Struct, frozen=True, tag="claim", tag_field="event_type", gc=False):
    """A user claims a promotion: a welcome bonus, a voucher, a free ride."""

    event_id: str
    user_id: str
    event_time_ms: int
    promotion_id: str
    ip: str | None = None
    device_id: str | None = None
    user_agent: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    attributes: Attributes | None = None


class Label(msgspec.Struct, frozen=True, tag="label", tag_field="event_type", gc=False):
    """What later turned out about an earlier event: a chargeback, an analyst's or a customer's verdict.

    `is_fraud: false` takes an earlier verdict back; of several on one event the latest by event time counts. The
    payment's entities are repeated here, so that a verdict reaches them without a join.
    """

    event_id: str
    user_id: str
    event_time_ms: int
    target_event_id: str
    target_event_time_ms: int
    is_fraud: bool
    source: Literal["chargeback", "analyst", "customer"]
    merchant_id: str | None = None
    card_id: str | None = None
    device_id: str | None = None
    ip: str | None = None
    payee_id: str | None = None


Activity: TypeAlias = Login | Payment | Signup | Claim
"""Events that make up sessions and are scored."""

ACTIVITY_TYPES: tuple[str, ...] = ("login", "payment", "signup", "claim")
"""`event_type` of each `Activity`."""

Event: TypeAlias = Activity | Label


def event_type(event: Event) -> str:
    """The event's `event_type` on the wire: `login`, `payment`, `signup`, `claim` or `label`."""
    return str(event.__struct_config__.tag)


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message as it came in, before anything is known of it: what enters the graph.

    Attributes:
      payload: the message's bytes, exactly as received.
      received_ms: when it was received (Pub/Sub publish time; arrival time in a file), epoch ms.
      source: where it came from, for people: a subscription, or `file.jsonl:17`.
    """

    payload: bytes
    received_ms: int
    source: str


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A valid event together with the message that brought it, so that it can still become a dead letter.

    Attributes:
      event: the decoded event.
      payload: the message's bytes, exactly as received.
      received_ms: when the message was received (Pub/Sub publish time; arrival time in a file), epoch ms.
      source: where it came from, for people: a subscription, or `file.jsonl:17`.
      digest: 64-bit hash of the event's content (all known fields but none of the message), which tells a
        redelivery from a conflict.
      entity_features: features of the event's entities (address, device, card ...) at its time, in the order of the
        entity declaration; empty as long as no entity stage has seen it.
      entity_approximate: whether a bound of some entity's state made one of them inexact.
    """

    event: Event
    payload: bytes
    received_ms: int
    source: str
    digest: int
    entity_features: tuple[Any, ...] = ()
    entity_approximate: bool = False


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A message that was not scored, with the reason, whole enough to be replayed after a fix.

    Attributes:
      reason: one of `Reason`'s values.
      field: the field at fault, or None when the whole message is.
      message: what is wrong, the value shown (shortened), and the fix, for a tired person.
      payload: the message's bytes, exactly as received.
      received_ms, source: as in `Envelope`.
      event_id, user_id, event_time_ms: as far as they are known.
    """

    reason: str
    field: str | None
    message: str
    payload: bytes
    received_ms: int
    source: str
    event_id: str | None = None
    user_id: str | None = None
    event_time_ms: int | None = None


class IntakeCount(msgspec.Struct, frozen=True, gc=False):
    """How many messages came in, counted apart from what becomes of them: the ledger's left side.

    Attributes:
      count_id: unique, so that a count that is written twice can be counted once.
      received_ms: when the last of them was received, epoch ms; all were on the same day, UTC.
      message_count: messages.
    """

    count_id: str
    received_ms: int
    message_count: int


def dead_letter_id(dead_letter: DeadLetter) -> str:
    """The id of a dead letter: 32 hex digits, the same for the same message and reason everywhere.

    Payload, source, time of receipt and reason make it. So a bundle that is processed twice gives the same id
    twice, and a message that is replayed and rejected again gives a new one, as it was received anew.
    """
    content = hashlib.blake2b(digest_size=16)
    for part in (
        dead_letter.payload,
        dead_letter.source.encode("utf-8", "surrogatepass"),
        str(dead_letter.received_ms).encode(),
        dead_letter.reason.encode(),
    ):
        content.update(len(part).to_bytes(8, "little"))
        content.update(part)
    return content.hexdigest()


class Reason:
    """Reason codes of dead letters: public API, as analysts filter by them."""

    EMPTY = "EMPTY"
    TOO_LARGE = "TOO_LARGE"
    NOT_UTF8 = "NOT_UTF8"
    NOT_JSON = "NOT_JSON"
    TOO_DEEP = "TOO_DEEP"
    DUPLICATE_KEY = "DUPLICATE_KEY"
    MISSING_FIELD = "MISSING_FIELD"
    WRONG_TYPE = "WRONG_TYPE"
    WRONG_VALUE = "WRONG_VALUE"
    FROM_THE_FUTURE = "FROM_THE_FUTURE"
    TOO_LATE = "TOO_LATE"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    SINK_REJECTED = "SINK_REJECTED"
    DELIVERY_FAILED = "DELIVERY_FAILED"
    RULES_REJECTED = "RULES_REJECTED"
    RULES_UNREADABLE = "RULES_UNREADABLE"
