"""Bytes of what travels between the steps of the graph: explicit, versioned, the same everywhere. No pickle.

Importing this module registers the coders, so that type hints such as `tuple[str, Envelope]` find them.
"""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec
from apache_beam import coders
from apache_beam.coders.typecoders import registry

from transforms.events import DeadLetter, Envelope, IntakeCount, Message
from transforms.parsing import decode_accepted

_StructT = TypeVar("_StructT", bound=msgspec.Struct)

_ENVELOPE_VERSION = 1
_HEADER = struct.Struct(">BqQH")
_MAX_SOURCE_BYTES = (1 << 16) - 1


class EnvelopeCoder(coders.Coder):
    """An envelope as its payload and what is known beside it; the event is decoded from the payload again.

    Version 1: a byte 1; `received_ms`, 8 bytes signed; `digest`, 8 bytes; the length of `source` in UTF-8, 2
    bytes; `source`; `payload`. Numbers are big-endian.
    """

    def encode(self, value: Envelope) -> bytes:
        """Raises ValueError where the source is longer than 65,535 bytes."""
        source = value.source.encode()
        if len(source) > _MAX_SOURCE_BYTES:
            raise ValueError(f"source has {len(source)} bytes; name it in at most {_MAX_SOURCE_BYTES}")
        header = _HEADER.pack(_ENVELOPE_VERSION, value.received_ms, value.digest, len(source))
        return b"".join((header, source, value.payload))

    def decode(self, encoded: bytes) -> Envelope:
        """Raises ValueError where the bytes are of another version, or the payload is no accepted event."""
        if not encoded or encoded[0] != _ENVELOPE_VERSION:
            raise _unknown_version(Envelope, encoded)
        _, received_ms, digest, source_length = _HEADER.unpack_from(encoded)
        payload_start = _HEADER.size + source_length
        payload = encoded[payload_start:]
        source = encoded[_HEADER.size : payload_start].decode()
        return Envelope(decode_accepted(payload), payload, received_ms, source, digest)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[Envelope]:
        return Envelope

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class StructCoder(coders.Coder, Generic[_StructT]):
    """A struct as a version byte and the msgpack array of its fields, in their order.

    A struct may gain fields with defaults at its end: bytes of before are still read.
    """

    version = 1
    struct_type: type[_StructT]

    def encode(self, value: _StructT) -> bytes:
        return bytes((self.version,)) + msgspec.msgpack.encode(msgspec.structs.astuple(value))

    def decode(self, encoded: bytes) -> _StructT:
        """Raises ValueError where the bytes are of another version."""
        if not encoded or encoded[0] != self.version:
            raise _unknown_version(self.struct_type, encoded)
        return self.struct_type(*msgspec.msgpack.decode(memoryview(encoded)[1:]))

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type[_StructT]:
        return self.struct_type

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class MessageCoder(StructCoder[Message]):
    """A message's fields."""

    struct_type = Message


class DeadLetterCoder(StructCoder[DeadLetter]):
    """A dead letter's fields."""

    struct_type = DeadLetter


class IntakeCountCoder(StructCoder[IntakeCount]):
    """An intake count's fields."""

    struct_type = IntakeCount


def _unknown_version(struct_type: type, encoded: bytes) -> ValueError:
    found = encoded[0] if encoded else "no bytes"
    return ValueError(f"{struct_type.__name__} is encoded as version {found}, which this release can't read")


registry.register_coder(Envelope, EnvelopeCoder)
registry.register_coder(Message, MessageCoder)
registry.register_coder(DeadLetter, DeadLetterCoder)
registry.register_coder(IntakeCount, IntakeCountCoder)
