"""Alerts in words: what happened, to whom, why, and what was seen, for people who read many of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from transforms.alerts import FeatureEvidence
from transforms.conditions import shorten
from transforms.events import Activity, Claim, Login, Payment, Signup
from transforms.features import Feature

_VERBS = {"review": "Review", "block": "Block"}
_ABOUT = {
    "card_id": "one card",
    "device_id": "one device",
    "ip": "one IP address",
    "network": "one network",
    "merchant_id": "one merchant",
    "payee_id": "one payee",
    "referrer_id": "one referrer",
    "promotion_id": "one promotion",
}


def summary(
    *,
    action: str,
    severity: str,
    reason_codes: tuple[str, ...],
    key_field: str,
    user_id: str,
    what: str,
    place: str | None,
    event_ms: int,
    score: float,
    event_count: int,
    first_ms: int,
    last_ms: int,
    users: str,
    features: tuple[FeatureEvidence, ...],
) -> str:
    """A case in one sentence, and what was seen in another: not what wasn't. Never holds the key's value, but for a
    user's.

    Args:
      users: how many there are, as a number or in words; empty where it isn't known.
    """
    user = f"user {plain(user_id, 64)}"
    where = f" from {plain(place, 8)}" if place else ""
    reasons = ", ".join(words(code) for code in reason_codes) or "a decision without a rule"
    grade = f"(score {score:.2f}, {severity})"
    shown = ", ".join(_seen(features))
    seen = f". Seen: {shown}" if shown else ""
    if event_count == 1:
        return f"{_VERBS[action]} the {what} of {user} at {_time(event_ms)} UTC{where}: {reasons} {grade}{seen}."
    about = f"of {user}"
    if key_field != "user_id":
        about = f"{f'of {users} ' if users else ''}on {_ABOUT.get(key_field, f'one {key_field}')}"
    of_whom = "" if key_field == "user_id" else f" of {user}"
    return (
        f"{_VERBS[action]} {event_count:,} events {about} from {_time(first_ms)} to {_until(first_ms, last_ms)} UTC: "
        f"{reasons} {grade}. Most suspicious: the {what}{of_whom} at {_time(event_ms)} UTC{where}{seen}."
    )


def _seen(features: Sequence[FeatureEvidence]) -> list[str]:
    """The texts of what was seen. Of several windows with the same number the shortest is shown: it says the most."""
    shortest: dict[tuple[str, float], FeatureEvidence] = {}
    for feature in features:
        if feature.value is False:
            continue
        stem, _, _ = feature.text.partition(" in the last ")
        known = shortest.setdefault((stem, feature.value), feature)
        if _seconds(feature.name) < _seconds(known.name):
            shortest[stem, feature.value] = feature
    return [feature.text.removesuffix(": yes") for feature in shortest.values()]


def describe(event: Activity) -> str:
    """An event in words, without whom it concerns: `payment of 1,299.00 EUR`, `failed login`."""
    match event:
        case Login():
            return "successful login" if event.outcome == "success" else "failed login"
        case Payment():
            paid = f"payment of {money(event.amount_minor, event.currency)}"
            quoted = event.expected_amount_minor
            if quoted is None or quoted == event.amount_minor:
                return paid
            return f"{paid} (quoted {money(quoted, event.currency)})"
        case Signup():
            return "sign-up"
        case Claim():
            return f"claim of promotion {plain(event.promotion_id, 32)}"


def feature_evidence(name: str, value: bool | int | float, features: Mapping[str, Feature]) -> FeatureEvidence:
    """A feature's value in words: `login_failure_count_10m`, 12 is `login failures in the last 10 minutes: 12`. One
    that isn't declared any more is given as it is."""
    feature = features.get(name)
    if feature is None:
        return FeatureEvidence(name, value, "", f"{name}: {value}")
    stem, _, window = name.rpartition("_")
    span = _span(window)
    return FeatureEvidence(name, value, feature.unit, _said(stem if span else name, span, value, feature))


def _said(stem: str, span: str, value: bool | int | float, feature: Feature) -> str:
    counted = stem.removesuffix("_count")
    if counted != stem:
        stem = _plural(counted)
    for part, better in _BETTER:
        stem = stem.replace(part, better)
    stem = stem.removesuffix("_kmh").removesuffix("_km").removeprefix("is_")
    said = re.sub(r"\bip(s?)\b", r"IP\1", stem.replace("_", " ")) + span
    if feature.type == "bool":
        return f"{said}: {'yes' if value else 'no'}"
    if feature.unit == "seconds":
        return f"{said}: {duration(value)}"
    if feature.unit == "ratio":
        return f"{said}: {value:.1%}" if "share" in stem else f"{said}: {value:,.1f} times"
    number = f"{value:,}" if feature.type == "int" else f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"
    return f"{said}: {number} {feature.unit}" if feature.unit in ("minor units", "km", "km/h") else f"{said}: {number}"


_BETTER = (
    ("seconds_since", "time_since"),
    ("duration_seconds", "duration"),
    ("_to_mean_ratio", "_against_the_mean"),
    ("_to_max_ratio", "_against_the_largest"),
    ("_minor", ""),
    ("payment_amount_max", "largest_payment"),
    ("payment_amount_mean", "mean_payment"),
)


def _plural(noun: str) -> str:
    if noun.endswith(("incoming", "outgoing")):
        return noun + "_payments"
    if noun.endswith("y"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith("s") else "s")


def duration(seconds: float) -> str:
    """A time span for people, its two largest units: `duration(145.2)` is `2 min 25 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


_WINDOW = re.compile(r"([1-9][0-9]*)([smhd])")
_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _span(window: str) -> str:
    """A window in words: `1h` is `in the last hour`, `10s` is `in the last 10 seconds`; empty if it is none."""
    found = _WINDOW.fullmatch(window)
    if found is None:
        return ""
    count, unit = int(found[1]), _UNITS[found[2]]
    return f" in the last {unit if count == 1 else f'{count} {unit}s'}"


def _seconds(name: str) -> int:
    """Length of the window in a feature's name; 0 where there is none."""
    found = _WINDOW.fullmatch(name.rpartition("_")[2])
    return int(found[1]) * _SECONDS[found[2]] if found else 0


_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"
_FOUR_DECIMALS = "CLF UYW"
_DECIMALS = {
    currency: decimals
    for decimals, currencies in ((0, _NO_DECIMALS), (3, _THREE_DECIMALS), (4, _FOUR_DECIMALS))
    for currency in currencies.split()
}
"""Decimals of the minor unit where they aren't 2 (ISO 4217)."""


def money(amount_minor: int, currency: str) -> str:
    """An amount for people: `money(129900, "EUR")` is `1,299.00 EUR`."""
    decimals = _DECIMALS.get(currency, 2)
    whole, part = divmod(abs(amount_minor), 10**decimals)
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{whole:,}{f'.{part:0{decimals}d}' if decimals else ''} {currency}"


def words(reason_code: str) -> str:
    """A reason code in words: `CARD_TESTING` is `card testing`."""
    return reason_code.replace("_", " ").lower()


def plain(text: str, limit: int) -> str:
    """Text from outside, safe to show: on one line, short, without control or direction characters."""
    return shorten("".join(c if c.isprintable() else " " for c in text), limit)


def _time(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _until(first_ms: int, last_ms: int) -> str:
    """The last time, without its date where that is the first one's."""
    first, last = _time(first_ms), _time(last_ms)
    return last.removeprefix(f"{first.partition(' ')[0]} ")
