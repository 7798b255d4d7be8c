"""Features of an event by brute force, written from the declaration in `transforms.features` and the laws.

Nothing here is incremental: every value is a sentence over the list of accepted events. Slow on purpose, and
independent of `transforms.history`, which it is the judge of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import mmh3

from transforms.events import Activity, Claim, Login, Payment, Signup
from transforms.features import FEATURES

EARTH_RADIUS_KM = 6371.0088
HISTORY_MS = 30 * 86_400_000
WINDOWS_MS = {
    "1m": 60_000,
    "10m": 600_000,
    "1h": 3_600_000,
    "1d": 86_400_000,
    "7d": 7 * 86_400_000,
    "30d": HISTORY_MS,
}

Position = tuple[int, int]


def position(event: Activity) -> Position:
    """Where an event stands among its user's: by time, then by the hash of its id (any fixed order would do)."""
    return (event.event_time_ms, int(mmh3.hash64(event.event_id, signed=False)[0]))


def features(event: Activity, accepted: Iterable[Activity], gap_ms: int) -> tuple[Any, ...]:
    """The feature values of `event`, in the order of `FEATURES`, over the accepted events (and itself)."""
    ordered = sorted(accepted, key=position)
    before = [e for e in ordered if position(e) < position(event)]
    values = {
        **_sliding(event, [*before, event]),
        **_sequence(event, before),
        **_session(event, before, gap_ms),
    }
    return tuple(values[feature.name] for feature in FEATURES)


def within(events: Sequence[Activity], now_ms: int, window_ms: int) -> list[Activity]:
    """Those of the events that are in (now - window, now]."""
    return [e for e in events if now_ms - window_ms < e.event_time_ms <= now_ms]


def distance_km(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Great-circle distance by the haversine formula, places as (latitude, longitude) in degrees."""
    lat1, lon1, lat2, lon2 = (math.radians(x) for x in (*here, *there))
    h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def _sliding(event: Activity, upto: Sequence[Activity]) -> dict[str, Any]:
    now = event.event_time_ms
    window = {name: within(upto, now, ms) for name, ms in WINDOWS_MS.items()}
    values: dict[str, Any] = {}
    for name, events in window.items():
        amounts = [e.amount_minor for e in events if isinstance(e, Payment)]
        values[f"login_count_{name}"] = sum(isinstance(e, Login) for e in events)
        values[f"login_failure_count_{name}"] = sum(_failed(e) for e in events)
        values[f"payment_count_{name}"] = len(amounts)
        values[f"payment_amount_minor_{name}"] = sum(amounts)
        values[f"payment_amount_max_minor_{name}"] = max(amounts, default=0)
        values[f"payment_amount_mean_minor_{name}"] = sum(amounts) / len(amounts) if amounts else None
        for noun, attribute in _DISTINCT.items():
            given = {getattr(e, attribute, None) for e in events} - {None}
            values[f"distinct_{noun}_count_{name}"] = len(given)
        values[f"claim_count_{name}"] = sum(isinstance(e, Claim) for e in events)
        values[f"event_count_{name}"] = len(events)
    return values


_DISTINCT = {
    "ip": "ip",
    "device": "device_id",
    "country": "country",
    "merchant": "merchant_id",
    "payee": "payee_id",
    "card": "card_id",
}


def _sequence(event: Activity, before: Sequence[Activity]) -> dict[str, Any]:
    now = event.event_time_ms
    history = within(before, now, HISTORY_MS)
    upto = [*history, event]
    last_login = max((e for e in upto if _succeeded(e)), key=position, default=None)
    last_login_before = max((e for e in history if _succeeded(e)), key=position, default=None)
    values: dict[str, Any] = {
        "is_first_event": not history,
        "seconds_since_last_event": (now - history[-1].event_time_ms) / 1000 if history else None,
        "is_new_ip": _is_new(event, "ip", history),
        "is_new_device": _is_new(event, "device_id", history),
        "is_new_country": _is_new(event, "country", history),
        "is_new_payee": _is_new(event, "payee_id", history),
        "is_new_merchant": _is_new(event, "merchant_id", history),
        "failures_in_a_row": _failures_at_the_end(upto),
        "failures_before_login": 0,
        "seconds_since_login": None,
        "login_from_new_device": False,
        "login_from_new_country": False,
        "is_first_payment_after_login": False,
        "seconds_since_signup": None,
    }
    signups = [e for e in upto if isinstance(e, Signup)]
    if signups:
        values["seconds_since_signup"] = (now - signups[-1].event_time_ms) / 1000
    if last_login is not None:
        earlier = [e for e in upto if position(e) < position(last_login)]
        values["failures_before_login"] = _failures_at_the_end(earlier)
        # What was new is judged at the login's own time, so up to 60 days before this event.
        at_login = within(
            [e for e in before if position(e) < position(last_login)], last_login.event_time_ms, HISTORY_MS
        )
        for noun, attribute in (("device", "device_id"), ("country", "country")):
            had_others = any(getattr(e, attribute) is not None for e in at_login if not _failed(e))
            values[f"login_from_new_{noun}"] = had_others and _is_new(last_login, attribute, at_login)
    if last_login_before is not None:
        values["seconds_since_login"] = (now - last_login_before.event_time_ms) / 1000
        values["is_first_payment_after_login"] = isinstance(event, Payment) and not any(
            isinstance(e, Payment) for e in history if position(e) > position(last_login_before)
        )
    return {**values, **_travel(event, history), **_amount_ratios(event, history)}


def _travel(event: Activity, history: Sequence[Activity]) -> dict[str, Any]:
    here = _place(event)
    placed = [e for e in history if _place(e) is not None and not _failed(e)]
    if here is None or not placed:
        return {"travel_km": None, "travel_speed_kmh": None}
    there = _place(placed[-1])
    assert there is not None
    km = distance_km(here, there)
    hours = (event.event_time_ms - placed[-1].event_time_ms) / 3_600_000
    return {"travel_km": km, "travel_speed_kmh": km / max(hours, 1 / 60)}


def _amount_ratios(event: Activity, history: Sequence[Activity]) -> dict[str, Any]:
    earlier = [e.amount_minor for e in history if isinstance(e, Payment)]
    if not isinstance(event, Payment) or not earlier or max(earlier) == 0:
        return {"amount_to_mean_ratio_30d": None, "amount_to_max_ratio_30d": None}
    return {
        "amount_to_mean_ratio_30d": event.amount_minor / (sum(earlier) / len(earlier)),
        "amount_to_max_ratio_30d": event.amount_minor / max(earlier),
    }


def _session(event: Activity, before: Sequence[Activity], gap_ms: int) -> dict[str, Any]:
    chain = [event]
    for earlier in reversed(before):
        if chain[0].event_time_ms - earlier.event_time_ms >= gap_ms:
            break
        chain.insert(0, earlier)
    amounts = [e.amount_minor for e in chain if isinstance(e, Payment)]
    return {
        "session_event_count": len(chain),
        "session_login_count": sum(isinstance(e, Login) for e in chain),
        "session_login_failure_count": sum(_failed(e) for e in chain),
        "session_payment_count": len(amounts),
        "session_amount_minor": sum(amounts),
        "session_duration_seconds": (event.event_time_ms - chain[0].event_time_ms) / 1000,
    }


def _failed(event: Activity) -> bool:
    return isinstance(event, Login) and event.outcome == "failure"


def _succeeded(event: Activity) -> bool:
    return isinstance(event, Login) and event.outcome == "success"


def _place(event: Activity) -> tuple[float, float] | None:
    if event.latitude is None or event.longitude is None:
        return None
    return (event.latitude, event.longitude)


def _is_new(event: Activity, attribute: str, history: Sequence[Activity]) -> bool:
    """Given, and not seen in the history other than in failed logins."""
    value = getattr(event, attribute, None)
    return value is not None and all(getattr(e, attribute, None) != value for e in history if not _failed(e))


def _failures_at_the_end(events: Sequence[Activity]) -> int:
    """Failed logins since the last successful one; payments in between don't matter."""
    count = 0
    for event in events:
        if _succeeded(event):
            count = 0
        elif _failed(event):
            count += 1
    return count
