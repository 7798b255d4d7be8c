"""What is remembered of a key's cases, and its bytes: compact, explicit and versioned.

Byte 0 is the format version; the rest is MessagePack, of a `Finding` on its way to its key, and deflated of a
`CaseState`. A field that is added at the end and has a default is read by releases before and after. Any other change
of format raises `VERSION` and keeps a decoder for the one before. Either adds golden bytes to the tests.
"""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

import msgspec

VERSION = 1

OPEN, CLOSED, WITHDRAWN, MERGED = range(4)
"""Of a case: more may come; the cool-down has passed; none of its events is suspicious any more; part of another."""

FiredRuleParts: TypeAlias = tuple[str, str, int, float]
"""Id, reason code, rank of the severity, weight."""


class Finding(msgspec.Struct, array_like=True, gc=False):
    """A suspicious event; one that was, or was scored again, and is allowed; or several that were folded into one.

    Attributes:
      digest: 64-bit hash of user and event.
      version: of the score. What the digest's newest version says counts.
      start_ms, end_ms: time of the earliest and of the latest of the events, epoch ms.
      count: events that it stands for; 0 where the event is allowed.
      case: number of the case that it is in; -1 for none.
      action: rank of the action: 0 allow, 1 review, 2 block.
      rules: the rules that fired, the most severe first; of folded events, of any of them.
      user_id, event_id, event_ms, session_start_ms, score, what, place, values, fields, rules_version: of the event,
        or of the most suspicious of several; `values` are features by name, `fields` those that were asked for.
      is_correction: whether it came of an event that had been scored before.
      received_ms: when the event was received, epoch ms; of folded events the latest; 0 where that doesn't count.
    """

    digest: int
    version: int
    start_ms: int
    end_ms: int
    count: int
    case: int = -1
    action: int = 0
    score: float = 0.0
    rules: list[FiredRuleParts] = []
    user_id: str = ""
    event_id: str = ""
    event_ms: int = 0
    session_start_ms: int = 0
    what: str = ""
    place: str | None = None
    values: list[tuple[str, bool | int | float]] = []
    fields: dict[str, Any] = {}
    rules_version: str = ""
    is_correction: bool = False
    received_ms: int = 0


class Case(msgspec.Struct, array_like=True, gc=False):
    """A case as it was told last.

    Attributes:
      number: counts the cases of the key.
      status: OPEN, CLOSED, WITHDRAWN or MERGED.
      action, severity: ranks.
      count: events.
      first_ms, last_ms: of its events as they are known now, epoch ms.
      lead: the most suspicious event.
      into: id of the alert that it is part of now, where it is MERGED.
      received_ms: when the latest of its events was received, epoch ms.
    """

    number: int
    alert_id: str
    version: int
    status: int
    action: int
    severity: int
    rules: list[FiredRuleParts]
    count: int
    first_ms: int
    last_ms: int
    lead: Finding
    into: str = ""
    received_ms: int = 0


class CaseState(msgspec.Struct, array_like=True, gc=False):
    """All that is kept of a key.

    Attributes:
      timer_ms: when the pending timer fires; the DoFn's, to set no timer that is set already.
    """

    key: str
    findings: list[Finding] = []
    cases: list[Case] = []
    next_number: int = 0
    timer_ms: int | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode_state = msgspec.msgpack.Decoder(CaseState).decode
_decode_finding = msgspec.msgpack.Decoder(Finding).decode


def encode(state: CaseState) -> bytes:
    """A state as bytes of the newest version."""
    return bytes((VERSION,)) + zlib.compress(_encode(state), 1)


def decode(data: bytes) -> CaseState:
    """A state from its bytes.

    Raises:
      ValueError: the bytes are of a version that this release does not know.
    """
    return _decode_state(zlib.decompress(_checked(data, "case state")))


def encode_finding(finding: Finding) -> bytes:
    """A finding as bytes of the newest version."""
    return bytes((VERSION,)) + _encode(finding)


def decode_finding(data: bytes) -> Finding:
    """A finding from its bytes.

    Raises:
      ValueError: the bytes are of a version that this release does not know.
    """
    return _decode_finding(_checked(data, "finding"))


def _checked(data: bytes, what: str) -> memoryview:
    if data[0] != VERSION:
        raise ValueError(
            f"{what} of format {data[0]}, but this release reads {VERSION}: run the release that wrote it, or drain"
        )
    return memoryview(data)[1:]
