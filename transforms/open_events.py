"""The log of a user's open sessions: their events, kept so that one can be said again with other features.

Appending is cheap, reading is for repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, get_args

import msgspec

from transforms.events import Activity, Envelope


class Log(Protocol):
    """The bag of events of open sessions. Appending is cheap; reading is for repair."""

    def append(self, entry: bytes) -> None:
        """Adds one entry."""

    def read(self) -> Iterable[bytes]:
        """All entries, in any order."""

    def replace(self, entries: Sequence[bytes]) -> None:
        """Puts these entries in the place of all."""


class MemoryLog:
    """A log in memory."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self.entries = list(entries)

    def append(self, entry: bytes) -> None:
        """Adds one entry."""
        self.entries.append(entry)

    def read(self) -> list[bytes]:
        """All entries."""
        return list(self.entries)

    def replace(self, entries: Sequence[bytes]) -> None:
        """Puts these entries in the place of all."""
        self.entries = list(entries)


class LogEntry(NamedTuple):
    """An event of an open session, to say it again with other features. The attributes are as in `Envelope`."""

    event: Activity
    received_ms: int
    digest: int
    entity_features: tuple[Any, ...]
    entity_approximate: bool


_TYPES: tuple[type[Activity], ...] = get_args(Activity)
_NUMBERS = {event_type: number for number, event_type in enumerate(_TYPES)}
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, tuple[Any, ...], int, int, tuple[Any, ...], bool]).decode


def encode_entry(envelope: Envelope) -> bytes:
    """The entry of an event: without the names of its fields, which would be two thirds of it.

    The number of an event's type and the order of its fields are part of the format: new ones go to the end.
    """
    event: Activity = envelope.event  # type: ignore[assignment]
    return _encode(
        (
            _NUMBERS[type(event)],
            msgspec.structs.astuple(event),
            envelope.received_ms,
            envelope.digest,
            envelope.entity_features,
            envelope.entity_approximate,
        )
    )


def decode_entry(data: bytes) -> LogEntry:
    """The entry of `encode_entry`'s bytes, of this or an older release."""
    number, values, received_ms, digest, entity_features, entity_approximate = _decode(data)
    event_type = _TYPES[number]
    event = event_type(**dict(zip(event_type.__struct_fields__, values, strict=False)))
    return LogEntry(event, received_ms, digest, entity_features, entity_approximate)
