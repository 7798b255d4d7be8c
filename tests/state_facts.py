"""Users' states to encode, and all in them that later features go by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bench.traffic import session
from tests.messages import message
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.events import Envelope
from transforms.parsing import parse
from transforms.points import KEY_BYTES, LOGIN_SUCCESS
from transforms.user_state import UserState

START_MS = 1_750_000_000_000

_SUMS = ("event_count", "login_count", "failure_count", "payment_count", "amount_minor")
_SESSION = ("start_ms", "last_ms", "status", "was_final", "approximate", "emitted", "ips", "devices")


def facts(state: UserState) -> dict[str, Any]:
    """What later features go by. Of flags that is the last successful login's; values that one point showed last have
    no order; of sums of amounts only differences mean something."""
    history = state.history
    points, recency, session = history.points, history.recency, history.session
    login = points.kinds.rfind(LOGIN_SUCCESS)
    keys = [bytes(recency.keys[at : at + KEY_BYTES]) for at in range(0, len(recency.keys), KEY_BYTES)]
    return {
        "version": state.version,
        "closed_through_ms": state.closed_through_ms,
        "newest_ms": state.newest_ms,
        "log": (state.log_count, state.log_overflow),
        "disorder_ms": state.disorder_ms,
        "timers_ms": (state.timer_ms, state.inactivity_ms),
        "sessions": [[getattr(s, name) for name in (*_SESSION, *_SUMS)] for s in state.sessions],
        "open": (points.open, points.place_table, history.said),
        "times": points.times.tolist(),
        "kinds": bytes(points.kinds),
        "amounts": [points.amount(i) for i in range(len(points))],
        "flags": points.flags[login] if login >= 0 else 0,
        "peaks": (bytes(history.peaks), history.peak_amounts.tolist()),
        "values": sorted(zip(recency.last, recency.dims, keys, recency.own, strict=True)),
        "closed": (points.closed_count, recency.closed),
        "place": points.closed_place,
        "lost_ms": history.lost_ms,
        "buckets": [None if b is None else (b.width_ms, b.newest, b.totals, b.cells.tolist()) for b in history.buckets],
        # Of an idle user it is counted anew, without the points that were given up, and then no event goes on with it.
        "session": None
        if not state.sessions and (not points.times or session.start_ms - history.gap_ms < history.lost_ms)
        else [getattr(session, name) for name in ("start_ms", *_SUMS)],
    }


def state_after(
    events: int = 0, *, closed: bool = False, envelopes: list[Envelope] | None = None
) -> tuple[Aggregation, UserState]:
    """A user's state after a session, or the events given."""
    machine, log = Aggregation(AggregationConfig()), MemoryLog()
    state, timer_ms = None, None
    for envelope in envelopes or session(events, "u", START_MS):
        now_ms = envelope.event.event_time_ms
        while timer_ms is not None and timer_ms <= now_ms:
            state, _, timer_ms = machine.on_watermark(state, now_ms, log)
        state, _, timer_ms = machine.on_event(state, envelope, log)
    if closed:
        assert timer_ms is not None
        state = machine.on_watermark(state, timer_ms + machine.gap_ms + machine.grace_ms, log).state
    assert state is not None
    return machine, state


def varied(days: int = 25) -> list[Envelope]:
    """A month in which all kinds of events come, from many places, and guesses at the password."""
    out = []
    for i, event in enumerate(_events(days)):
        parsed = parse(message(json.dumps({"event_id": f"v-{i}", "user_id": "u", **event}).encode()))
        assert isinstance(parsed, Envelope), parsed
        out.append(parsed)
    return out


def _events(days: int) -> Iterator[dict[str, Any]]:
    yield {"event_type": "signup", "event_time": START_MS, "ip": "192.0.2.1", "device_id": "d0", "country": "DE"}
    for day in range(days):
        at = START_MS + 86_400_000 * day + 61_003 * day * day + 90_000
        here = {"device_id": f"d{day % 3}", "country": "FR" if day % 7 == 6 else "DE", "longitude": 13.4 - day / 7}
        for turn in range(1 + day % 3):
            yield {
                "event_type": "login",
                "event_time": at + 7_919 * turn,
                "outcome": "failure" if turn or day % 5 == 4 else "success",
                "ip": f"198.51.100.{day % 11 + 40 * turn}",
                "latitude": 52.5,
                **here,
            }
        for turn in range(day % 4):
            yield {
                "event_type": "payment",
                "event_time": at + 40_000 + 21_001 * turn,
                "amount_minor": 999 if turn == 1 else 17 * (day + 1) ** 2 * (turn + 1),
                "currency": "EUR",
                "merchant_id": f"m{day * turn % 9}",
                "payee_id": f"p{day % 4}",
                "card_id": "c1",
                "ip": f"203.0.113.{day % 13}",
            }
        if day % 10 == 9:
            yield {"event_type": "claim", "event_time": at + 200_000, "promotion_id": "p-10", "ip": "192.0.2.9"}
