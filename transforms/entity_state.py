"""The state of one entity, and its bytes: compact, explicit and versioned, so that it outlives a release.

Byte 0 is the format version, the rest MessagePack of `_State`; columns are little-endian. The layout says what the
columns hold, four bytes of a hash for each name, so that a declaration can change under a running job: columns that are
still wanted are kept, new ones start empty, and answers that would need their past are approximate.

A change of format raises `VERSION`, keeps a decoder for the one before, and adds its golden bytes to the tests.
"""

from __future__ import annotations

import sys
from array import array
from typing import Any

import msgspec

from transforms.entity_checkpoints import Checkpoints
from transforms.entity_distinct import RecentValues
from transforms.entity_keys import hash_of
from transforms.entity_verdicts import Verdicts

VERSION = 1
_NAME_BYTES = 4
NEVER = -(1 << 62)
"""A time before all others."""

if sys.byteorder != "little":
    raise ImportError("state is stored little-endian: run workers on x86-64 or ARM64")


class Layout(msgspec.Struct, frozen=True):
    """What the columns of a state hold, by name.

    Attributes:
      tracks: per-event columns of values of which different ones are counted.
      sums: per-event columns of running sums.
      totals: columns of the checkpoints.
      samples: samples of values given up with their points.
    """

    tracks: tuple[str, ...]
    sums: tuple[str, ...]
    totals: tuple[str, ...]
    samples: tuple[str, ...]


class EntityState:
    """What is remembered of an entity. Points are in the order of event time, ties by the hash of the event id.

    Attributes:
      newest_ms: event time of the newest event or label.
      floor_ms: no event after this time has been given up; windows that begin here or later are exact.
      verdict_floor_ms: the same of verdicts.
      times, ids, kinds: of each point its time, id hash (8 bytes) and kind (a byte, `FED` added for the second role).
      tracks: of each point the hash of a value, 8 bytes each, zeros for none.
      bases, sums: the running sum up to the point, modulo 2**64, and before the first.
      checkpoints, samples: what is left of points that were given up; None as long as none was.
      verdicts: labels; None as long as there are none.
    """

    __slots__ = (
        "bases",
        "checkpoints",
        "floor_ms",
        "ids",
        "kinds",
        "newest_ms",
        "samples",
        "sums",
        "times",
        "tracks",
        "verdict_floor_ms",
        "verdicts",
    )

    def __init__(self, layout: Layout) -> None:
        self.newest_ms = NEVER
        self.floor_ms = NEVER
        self.verdict_floor_ms = NEVER
        self.times: array[int] = array("q")
        self.ids = b""
        self.kinds = b""
        self.tracks = [b""] * len(layout.tracks)
        self.bases = [0] * len(layout.sums)
        self.sums: list[array[int]] = [array("Q") for _ in layout.sums]
        self.checkpoints: Checkpoints | None = None
        self.samples: list[RecentValues] | None = None
        self.verdicts: Verdicts | None = None


class _State(msgspec.Struct, array_like=True, gc=False):
    layout: bytes
    newest_ms: int
    floor_ms: int
    times: bytes
    ids: bytes
    kinds: bytes
    tracks: list[bytes]
    bases: list[int]
    sums: list[bytes]
    verdict_floor_ms: int = NEVER
    verdicts: tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, int] | None = None
    ends: bytes = b""
    totals: list[bytes] | None = None
    samples: list[tuple[int, bytes, bytes, bytes]] | None = None
    wide_layout: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode
_VERSION_BYTE = bytes((VERSION,))


class StateCodec:
    """Writes and reads states of one layout.

    Args:
      layout: of the states that are written, and that are given back.
    """

    def __init__(self, layout: Layout) -> None:
        self._narrow = _names(layout.tracks, layout.sums)
        self._wide = _names(layout.totals, layout.samples)
        self._layout = layout

    def encode(self, state: EntityState) -> bytes:
        """A state as bytes of the newest version."""
        packed = _State(
            self._narrow,
            state.newest_ms,
            state.floor_ms,
            state.times.tobytes(),
            state.ids,
            state.kinds,
            state.tracks,
            state.bases,
            [column.tobytes() for column in state.sums],
        )
        verdicts = state.verdicts
        if verdicts is not None:
            packed.verdict_floor_ms = state.verdict_floor_ms
            packed.verdicts = (
                verdicts.targets.tobytes(),
                verdicts.target_ids,
                verdicts.times.tobytes(),
                verdicts.ids,
                verdicts.flags,
                verdicts.labelled.tobytes(),
                verdicts.fraud.tobytes(),
                verdicts.newest_ms,
            )
        if state.checkpoints is not None:
            packed.wide_layout = self._wide
            packed.ends = state.checkpoints.ends.tobytes()
            packed.totals = [column.tobytes() for column in state.checkpoints.totals]
        if state.samples is not None:
            packed.wide_layout = self._wide
            packed.samples = [(s.level, s.seen.tobytes(), s.hashes, s.levels) for s in state.samples]
        return _VERSION_BYTE + _encode(packed)

    def decode(self, data: bytes) -> EntityState:
        """A state from bytes of this or an older version, brought to this layout.

        Raises:
          ValueError: the bytes are of a version that this release does not know.
        """
        if not data or data[0] != VERSION:
            found = data[0] if data else "no bytes"
            raise ValueError(f"entity state is of version {found}, which this release can't read; it knows {VERSION}")
        packed = _decode(memoryview(data)[1:])
        if packed.layout != self._narrow:
            _adapt(packed, self._narrow, len(self._layout.tracks))
        if packed.wide_layout and packed.wide_layout != self._wide:
            _adapt_wide(packed, self._wide, len(self._layout.totals))
        state = EntityState.__new__(EntityState)
        state.newest_ms = packed.newest_ms
        state.floor_ms = packed.floor_ms
        state.verdict_floor_ms = packed.verdict_floor_ms
        state.times = array("q", packed.times)
        state.ids = packed.ids
        state.kinds = packed.kinds
        state.tracks = packed.tracks
        state.bases = packed.bases
        state.sums = [array("Q", column) for column in packed.sums]
        verdicts = packed.verdicts
        state.verdicts = None
        if verdicts is not None:
            targets, target_ids, times, ids, flags, labelled, fraud, newest_ms = verdicts
            state.verdicts = Verdicts(
                array("q", targets),
                target_ids,
                array("q", times),
                ids,
                flags,
                array("q", labelled),
                array("q", fraud),
                newest_ms,
            )
        state.checkpoints = None
        if packed.totals is not None:
            state.checkpoints = Checkpoints(array("q", packed.ends), [array("Q", c) for c in packed.totals])
        state.samples = None
        if packed.samples is not None:
            state.samples = [RecentValues(level, array("q", seen), h, lv) for level, seen, h, lv in packed.samples]
        return state


def _names(*columns: tuple[str, ...]) -> bytes:
    return b"".join(hash_of(name)[:_NAME_BYTES] for names in columns for name in names)


def _adapt(packed: _State, wanted: bytes, tracks: int) -> None:
    """Brings the columns of points to another layout. Where one starts anew, nothing before now is known exactly."""
    empty = bytes(8 * len(packed.kinds))
    split, at = _NAME_BYTES * len(packed.tracks), _NAME_BYTES * tracks
    old_tracks, old_sums = packed.layout[:split], packed.layout[split:]
    new_tracks, new_sums = wanted[:at], wanted[at:]
    packed.tracks = _pick(packed.tracks, old_tracks, new_tracks, empty)
    packed.bases = _pick(packed.bases, old_sums, new_sums, 0)
    packed.sums = _pick(packed.sums, old_sums, new_sums, empty)
    if not (set(_cut(new_tracks)) <= set(_cut(old_tracks)) and set(_cut(new_sums)) <= set(_cut(old_sums))):
        packed.floor_ms = max(packed.floor_ms, packed.newest_ms)


def _adapt_wide(packed: _State, wanted: bytes, totals: int) -> None:
    """The same for what is left of points that were given up."""
    split, at = _NAME_BYTES * len(packed.totals or ()), _NAME_BYTES * totals
    if packed.totals is not None:
        packed.totals = _pick(packed.totals, packed.wide_layout[:split], wanted[:at], bytes(len(packed.ends)))
    if packed.samples is not None:
        packed.samples = _pick(packed.samples, packed.wide_layout[split:], wanted[at:], (0, b"", b"", b""))


def _pick(columns: list[Any], old: bytes, new: bytes, empty: Any) -> list[Any]:
    known = dict(zip(_cut(old), columns, strict=True))
    return [known.get(name, empty) for name in _cut(new)]


def _cut(names: bytes) -> list[bytes]:
    return [names[i : i + _NAME_BYTES] for i in range(0, len(names), _NAME_BYTES)]
