"""The log of a user's open sessions: their events, kept so that one can be said again with other features.

Appending is cheap, reading is for repair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from transforms.events import Activity


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


class LogEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event of an open session, to say it again with other features."""

    event: Activity
    received_ms: int
    digest: int
    entity_features: tuple[Any, ...] = ()
    entity_approximate: bool = False


encode_entry = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(LogEntry).decode
