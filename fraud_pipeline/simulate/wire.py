"""Events as clients send them: the JSON of a message."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import msgspec

from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import Draft
from fraud_pipeline.simulate.network import EPOCH_MS, UTC_Z
from transforms.events import Claim, Event, Label, Login, Payment, Signup

_encode = msgspec.json.Encoder().encode
_TIMES = {"event_time_ms": "event_time", "target_event_time_ms": "target_event_time"}


def _names(kind: type[Event]) -> tuple[tuple[str, str | None], ...]:
    return tuple((name, _TIMES.get(name)) for name in kind.__struct_fields__)


_FIELDS = {kind: (kind.__struct_config__.tag, _names(kind)) for kind in (Login, Payment, Signup, Claim, Label)}


def encode(draft: Draft) -> bytes:
    """The payload of an event's message."""
    return _encode(fields(draft))


def fields(draft: Draft) -> dict[str, Any]:
    """The JSON object of an event; what is unknown is left out."""
    event = draft.event
    tag, names = _FIELDS[type(event)]
    result: dict[str, Any] = {"event_type": tag}
    for name, time_name in names:
        value = getattr(event, name)
        if time_name is not None:
            result[time_name] = format_time(value, draft.time_style, draft.utc_offset_minutes)
        elif value is not None:
            result[name] = value
    return result


def format_time(time_ms: int, style: int, utc_offset_minutes: int) -> str | int:
    """A time as a client writes it: RFC 3339 in UTC or with an offset, or epoch milliseconds."""
    if style == EPOCH_MS:
        return time_ms
    if style == UTC_Z:
        return _date_and_time(time_ms) + "Z"
    sign, minutes = ("-", -utc_offset_minutes) if utc_offset_minutes < 0 else ("+", utc_offset_minutes)
    local = _date_and_time(time_ms + utc_offset_minutes * 60_000)
    return f"{local}{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def _date_and_time(time_ms: int) -> str:
    day, ms = divmod(time_ms, DAY_MS)
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{_date(day)}T{hours:02d}:{minutes:02d}:{seconds:02d}.{ms:03d}"


@lru_cache(maxsize=64)
def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
