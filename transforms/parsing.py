"""From a message to an event or a dead letter: decoded and validated in one step, in less than 5 µs.

The normal message is decoded once into its wire type, whose constraints msgspec checks on the way. Encoding that
again gives the canonical form, without white space or a producer's key order: its hash is the digest, and by the
number of its commas it shows whether the message held anything else. Only then is the message looked at again,
for keys that are there twice, deep nesting and characters that can't be.
"""

from __future__ import annotations

import socket
import struct
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from transforms import payload_faults, rejection, rfc3339
from transforms.events import (
    Attributes,
    DeadLetter,
    Envelope,
    Event,
    Message,
    Reason,
)
from transforms.rejection import RejectionError, wrong_value
from transforms.wire import FIRST_MS, LAST_MS, Limits, Wire, known_wires, wire

__all__ = ["DEFAULT_LIMITS", "Limits", "decode_accepted", "parse"]

DEFAULT_LIMITS: Final = Limits()

_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode_any: Final = msgspec.json.Decoder().decode
_new_hash: Final = blake2b(digest_size=8).copy
_unpack_digest: Final = struct.Struct("<Q").unpack
_BACKSLASH: Final = 0x5C
_DELETE: Final = 0x7F
_inet_pton: Final = socket.inet_pton
_AF_INET: Final = socket.AF_INET


def parse(message: Message, limits: Limits = DEFAULT_LIMITS) -> Envelope | DeadLetter:
    """The event in a message, or the dead letter that says why there is none. Never raises.

    An accepted event keeps to this: ids have 1 to `max_id_length` characters; no string holds a control
    character; times are from 2000 to 9999, and the event's is at most `clock_skew_seconds` after
    `message.received_ms` (the time of receipt, not the clock, so that a replay decides alike); amounts are
    from 0 (a card check) to `max_amount_minor` (a refund is no payment); the currency is one of ISO 4217's;
    `ip` is an address, IPv6 in its canonical spelling; there are both coordinates or none; there are at most 32
    attributes, each with a key like `trip_km`, and text of at most `max_id_length` characters, a number within
    2^53 or a boolean.

    Fields that aren't known are ignored, except that the whole message must be JSON without a key twice. An
    optional field or an attribute that is null counts as absent, as does an object without attributes.

    The digest is BLAKE2b with 8 bytes of output over the canonical JSON of the known fields that are there,
    the time in epoch milliseconds: the same for any key order, white space, escaping, process and version.
    Python's own hash is none of that, and a checksum could be steered by whoever wants two events to look alike.
    """
    payload = message.payload
    if not 0 < len(payload) <= limits.max_message_bytes:
        return rejection.dead_letter(message, _wrong_size(payload, limits), limits)
    types = known_wires.get(limits) or wire(limits)
    try:
        decoded = types.decode(payload)
        event_time_ms = _normalize(decoded, types)
        kind = type(decoded)
        if (kind is types.payment or kind is types.label) and (card_id := decoded.card_id) and not card_id[0].isalpha():
            _refuse_card_number(card_id)
        if event_time_ms > message.received_ms + types.clock_skew_ms:
            raise _from_the_future(event_time_ms, message.received_ms, limits)
        canonical = _encode(decoded)
        # Without escapes a string has the same commas in both, and each key beyond the event's own adds one.
        escaped = _BACKSLASH in payload
        if escaped or payload.count(b",") != canonical.count(b","):
            _check_rest(payload, limits)
        # Control characters are escaped in JSON, or DEL, or begin with 0xC2 in UTF-8.
        if (
            _DELETE in canonical
            or (escaped and _BACKSLASH in canonical)
            or not (canonical.isascii() or canonical.find(b"\xc2") < 0)
        ):
            rejection.check_strings(decoded)
    except RejectionError as fault:
        return rejection.dead_letter(message, fault, limits)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return rejection.dead_letter(message, payload_faults.explain(payload, limits, error), limits)
    hashing = _new_hash()
    hashing.update(canonical)
    return Envelope(
        types.events[kind](*astuple(decoded)),
        payload,
        message.received_ms,
        message.source,
        _unpack_digest(hashing.digest())[0],
    )


def decode_accepted(payload: bytes) -> Event:
    """The event in a payload that `parse` has accepted, under whatever limits: nothing is checked again.

    Raises:
      ValueError: the payload was never accepted.
    """
    types = known_wires.get(None) or wire(None)
    try:
        decoded = types.decode(payload)
        _normalize(decoded, types)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"this payload of {len(payload)} bytes is no event: {error}") from error
    event: Event = types.events[type(decoded)](*astuple(decoded))
    return event


def _normalize(decoded: Any, types: Wire) -> int:
    """Checks what msgspec can't, and brings the event to its canonical form; returns its time in epoch ms.

    Raises:
      RejectionError: a value is wrong.
    """
    event_time_ms = decoded.event_time = _time_ms(decoded.event_time, "event_time")
    ip = decoded.ip
    if ip is not None:
        try:
            _inet_pton(_AF_INET, ip)
        except (OSError, ValueError):
            decoded.ip = _ipv6(ip)
    if type(decoded) is types.label:
        decoded.target_event_time = _time_ms(decoded.target_event_time, "target_event_time")
        return event_time_ms
    if decoded.attributes is not None:
        decoded.attributes = _canonical(decoded.attributes)
    if not (decoded.latitude and decoded.longitude):
        _normalize_place(decoded)
    return event_time_ms


def _normalize_place(decoded: Any) -> None:
    """Makes a zero of a place a positive one.

    Raises:
      RejectionError: there is half a place.
    """
    if decoded.latitude is None and decoded.longitude is None:
        return
    if decoded.latitude is None or decoded.longitude is None:
        raise _half_a_place(decoded)
    decoded.latitude += 0.0
    decoded.longitude += 0.0


def _canonical(attributes: dict[str, str | int | float | bool | None]) -> Attributes | None:
    """Attributes that are there, whole numbers as integers: many producers can't tell 12 from 12.0."""
    return {
        key: int(value) if type(value) is float and value.is_integer() else value
        for key, value in attributes.items()
        if value is not None
    } or None


def _time_ms(value: int | str, field: str) -> int:
    if type(value) is str:
        try:
            ms = rfc3339.epoch_ms(value)
        except ValueError as fault:
            raise wrong_value(field, value, f"which {fault}") from None
    else:
        ms = value  # type: ignore[assignment]
    if FIRST_MS <= ms <= LAST_MS:
        return ms
    raise wrong_value(field, value, _time_fault(ms))


def _time_fault(ms: int) -> str:
    if ms > LAST_MS:
        return "after the year 9999; give milliseconds, not micro- or nanoseconds"
    if FIRST_MS <= ms * 1000 <= LAST_MS:
        return "before the year 2000; give milliseconds, not seconds"
    return "before the year 2000; check the clock that it comes from"


def _ipv6(ip: str) -> str:
    """The canonical spelling of an IPv6 address; an IPv4 address mapped into IPv6 becomes itself."""
    try:
        packed = _inet_pton(socket.AF_INET6, ip)
    except (OSError, ValueError):
        raise wrong_value("ip", ip, "which is no IPv4 or IPv6 address; correct it or leave it out") from None
    if packed.startswith(b"\0\0\0\0\0\0\0\0\0\0\xff\xff"):
        return socket.inet_ntop(_AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _half_a_place(decoded: Any) -> RejectionError:
    present, absent = "latitude", "longitude"
    if decoded.latitude is None:
        present, absent = absent, present
    return RejectionError(
        Reason.MISSING_FIELD, absent, f"{absent} is missing though {present} is there; give both or none"
    )


def _refuse_card_number(card_id: str) -> None:
    """Raises RejectionError where a token is a card number: 13 to 19 digits with a valid check digit (ISO 7812)."""
    digits = card_id.replace(" ", "").replace("-", "")
    if not (13 <= len(digits) <= 19 and digits.isdecimal()):
        return
    total = sum(
        digit if position % 2 == 0 else sum(divmod(2 * digit, 10))
        for position, digit in enumerate(int(character) for character in reversed(digits))
    )
    if total % 10 == 0:
        raise RejectionError(
            Reason.WRONG_VALUE,
            "card_id",
            "card_id looks like a card number (13 to 19 digits with a valid check digit; not shown here, but "
            "kept in the payload: restrict who reads that); send a token instead",
        )


def _check_rest(payload: bytes, limits: Limits) -> None:
    """Checks a message that holds more than the event's canonical form: nesting and keys that are there twice.

    Decoding keeps one of two equal keys, so that encoding again gives fewer quotation marks.

    Raises:
      RejectionError: it is nested too deep or holds a key twice.
      msgspec.MsgspecError, UnicodeDecodeError, RecursionError: it isn't JSON.
    """
    is_flat = payload.find(b"{", 1) < 0 and payload.find(b"[") < 0
    if not is_flat and payload.count(b"{") + payload.count(b"[") > limits.max_nesting_depth:
        payload_faults.check_depth(payload.decode(), limits)
    if _quotation_marks(payload) != _quotation_marks(_encode(_decode_any(payload))):
        payload_faults.load(payload.decode(), limits)


def _quotation_marks(text: bytes) -> int:
    """The number of quotation marks around strings in valid JSON."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return text.count(b'"')


def _wrong_size(payload: bytes, limits: Limits) -> RejectionError:
    if not payload:
        return RejectionError(Reason.EMPTY, None, "the message is empty; send one JSON object a message")
    return RejectionError(
        Reason.TOO_LARGE,
        None,
        f"the message has {len(payload)} bytes; send at most {limits.max_message_bytes}",
    )


def _from_the_future(event_time_ms: int, received_ms: int, limits: Limits) -> RejectionError:
    ahead_s = (event_time_ms - received_ms) / 1000
    return RejectionError(
        Reason.FROM_THE_FUTURE,
        "event_time",
        f"event_time is {rfc3339.format_ms(event_time_ms)}, {ahead_s:,.3f} s after the message was received; "
        f"at most {limits.clock_skew_seconds} s are allowed: check the producer's clock and time zone",
    )
