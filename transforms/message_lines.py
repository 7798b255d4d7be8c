"""Messages as lines of a JSONL file: plain where a line can hold the payload, else wrapped.

A wrapped line is a JSON object with either `payload` (text) or `payload_base64`, and optionally
`received_ms` and `source`, and no other key.
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode, b64encode
from typing import Annotated

import msgspec

from transforms.events import Message

_END_OF_9999_MS = 253_402_300_799_999


class _Wrapped(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    received_ms: Annotated[int, msgspec.Meta(ge=0, le=_END_OF_9999_MS)] | None = None
    source: str | None = None
    payload: str | None = None
    payload_base64: str | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Wrapped).decode


def wrap_line(message: Message) -> bytes:
    """The wrapped line of a message, without a newline: any payload, with its time and source."""
    return _wrap(message.payload, message.received_ms, message.source)


def timed_line(payload: bytes, received_ms: int) -> bytes:
    """The wrapped line of any payload with its time (epoch ms); the source is left to the reader."""
    return _wrap(payload, received_ms, None)


def plain_or_wrapped_line(payload: bytes) -> bytes:
    """The line of a payload alone: the payload itself where `unwrap_line` gives that back, else wrapped.

    Wrapped are payloads that hold line breaks or aren't UTF-8, that begin or end with white space (or are
    empty), as readers of lines strip it, and those that look like a wrapped line themselves.
    """
    if payload and payload.strip() == payload and len(payload.splitlines()) == 1 and _unwrap(payload) is None:
        try:
            payload.decode()
        except UnicodeDecodeError:
            pass
        else:
            return payload
    return _wrap(payload, None, None)


def unwrap_line(line: bytes, received_ms: int | None, source: str) -> Message:
    """The message in a line of a file; never fails: a line that isn't a wrapped message is a payload itself.

    Args:
      line: the line, without its newline.
      received_ms: when it counts as received where the line doesn't say so, epoch ms; None for now.
      source: where it came from where the line doesn't say so, such as `file.jsonl:17`.
    """
    if received_ms is None:
        received_ms = time.time_ns() // 1_000_000
    unwrapped = _unwrap(line)
    if unwrapped is None:
        return Message(line, received_ms, source)
    payload, wrapped = unwrapped
    return Message(
        payload,
        received_ms if wrapped.received_ms is None else wrapped.received_ms,
        source if wrapped.source is None else wrapped.source,
    )


def _wrap(payload: bytes, received_ms: int | None, source: str | None) -> bytes:
    try:
        return _encode(_Wrapped(received_ms, source, payload=payload.decode()))
    except UnicodeDecodeError:
        return _encode(_Wrapped(received_ms, source, payload_base64=b64encode(payload).decode()))


def _unwrap(line: bytes) -> tuple[bytes, _Wrapped] | None:
    if b'"payload' not in line:
        return None
    try:
        wrapped = _decode(line)
        if wrapped.payload_base64 is None:
            return None if wrapped.payload is None else (wrapped.payload.encode(), wrapped)
        if wrapped.payload is not None:
            return None
        return b64decode(wrapped.payload_base64, validate=True), wrapped
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        return None
