"""Bytes of what travels between the steps of the graph: explicit, versioned, the same everywhere. No pickle.

Importing this module registers the coders, so that type hints such as `tuple[str, Envelope]` find them.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec
from apache_beam import coders
from apache_beam.coders.typecoders import registry

from transforms.events import DeadLetter, Envelope, IntakeCount, Message
from transforms.parsing import decode_accepted

_StructT = TypeVar("_StructT", bound=msgspec.Struct)

_HEADER = struct.Struct(">BqQH")
_ENTITIES_HEADER = struct.Struct(">BqQHI?")
_MAX_SOURCE_BYTES = (1 << 16) - 1

_encode_features = msgspec.msgpack.Encoder().encode
_decode_features = msgspec.msgpack.Decoder(tuple[Any, ...]).decode


class EnvelopeCoder(coders.Coder):
    """An envelope as its payload and what is known beside it; the event is decoded from the payload again.

    Version 1, where nothing is known of entities: a byte 1; `received_ms`, 8 bytes signed; `digest`, 8 bytes; the
    length of `source` in UTF-8, 2 bytes; `source`; `payload`. Version 2: a byte 2; the same three; the length of
    the entity features, 4 bytes; `entity_approximate`, a byte; `source`; `entity_features` as a msgpack array;
    `payload`. Numbers are big-endian.
    """

    def encode(self, value: Envelope) -> bytes:
        """Raises ValueError where the source is longer than 65,535 bytes."""
        source = value.source.encode()
        if len(source) > _MAX_SOURCE_BYTES:
            raise ValueError(f"source has {len(source)} bytes; name it in at most {_MAX_SOURCE_BYTES}")
        if not value.entity_features and not value.entity_approximate:
            return b"".join((_HEADER.pack(1, value.received_ms, value.digest, len(source)), source, value.payload))
        features = _encode_features(value.entity_features)
        header = _ENTITIES_HEADER.pack(
            2, value.received_ms, value.digest, len(source), len(features), value.entity_approximate
        )
        return b"".join((header, source, features, value.payload))

    def decode(self, encoded: bytes) -> Envelope:
        """Raises ValueError where the bytes are of another version, or the payload is no accepted event."""
        version = encoded[0] if encoded else 0
        if version == 1:
            _, received_ms, digest, source_length = _HEADER.unpack_from(encoded)
            payload_start = _HEADER.size + source_length
            payload = encoded[payload_start:]
            source = encoded[_HEADER.size : payload_start].decode()
            return Envelope(decode_accepted(payload), payload, received_ms, source, digest)
        if version != 2:
            raise _unknown_version(Envelope, encoded)
        _, received_ms, digest, source_length, features_length, approximate = _ENTITIES_HEADER.unpack_from(encoded)
        features_start = _ENTITIES_HEADER.size + source_length
        payload_start = features_start + features_length
        payload = encoded[payload_start:]
        source = encoded[_ENTITIES_HEADER.size : features_start].decode()
        features = _decode_features(memoryview(encoded)[features_start:payload_start])
        return Envelope(decode_accepted(payload), payload, received_ms, source, digest, features, approximate)

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
