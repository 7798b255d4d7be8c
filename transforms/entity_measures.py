"""What can be computed of an entity, and how each feature is described to people."""

from __future__ import annotations

from typing import Any

from transforms.entities import KINDS

FIELDS = {
    "user_id": ("user", "users"),
    "ip": ("IP address", "IP addresses"),
    "network": ("network", "networks"),
    "device_id": ("device", "devices"),
    "user_agent": ("user agent", "user agents"),
    "country": ("country", "countries"),
    "merchant_id": ("merchant", "merchants"),
    "payee_id": ("payee", "payees"),
    "card_id": ("card", "cards"),
    "referrer_id": ("referrer", "referrers"),
    "promotion_id": ("promotion", "promotions"),
}
"""Fields that can be a key or counted by their different values, with the words for one and many of them."""

DISTINCT = {f"distinct_{name.removesuffix('_id')}_count": name for name in FIELDS}

KIND_GROUPS = {"login": ("login_failure", "login_success"), **{kind: (kind,) for kind in KINDS}}
KIND_WORDS = {
    "login": "logins",
    "login_failure": "failed logins",
    "login_success": "successful logins",
    "payment": "payments",
    "signup": "sign-ups",
    "claim": "claims of promotions",
}

STANDARD: dict[str, dict[str, Any]] = {
    "event_count": {"aggregate": "count"},
    **{f"{kind}_count": {"aggregate": "count", "of": [kind]} for kind in KIND_WORDS},
    "payment_amount_minor": {"aggregate": "sum"},
    **{name: {"aggregate": "distinct", "field": field} for name, field in DISTINCT.items()},
    "delayed_payment_count": {"aggregate": "payment_count"},
    **{name: {"aggregate": name} for name in ("labelled_count", "fraud_count", "fraud_share")},
}
"""Features that need but a list of windows."""

DELAYED = ("payment_count", "labelled_count", "fraud_count", "fraud_share")
AGGREGATES = ("count", "sum", "distinct", *DELAYED)

UNIT_WORDS = {"s": "second", "m": "minute", "h": "hour", "d": "day"}


def type_and_unit(aggregate: str, field: str) -> tuple[Any, str]:
    """Type and unit of a feature's values."""
    if aggregate == "fraud_share":
        return "float", "ratio"
    if aggregate == "sum":
        return "int", "minor units"
    if aggregate == "distinct":
        return "int", FIELDS[field][1] if field in FIELDS else "values"
    return "int", "events" if aggregate == "count" else "payments"


def help_text(
    aggregate: str, kinds: list[str], field: str, words: str, *, fed: bool, window: str, delay: str | None
) -> str:
    """One sentence for an analyst.

    Args:
      kinds: names of the kinds that count, as in the declaration; empty for all.
      words: what the entity is called.
      fed: whether the events are those that the entity is fed by.
      window, delay: as in the declaration; `delay` None for none.
    """
    events = _join([KIND_WORDS[kind] for kind in kinds]) if kinds else "events"
    many = FIELDS[field][1] if field in FIELDS else f"values of {field}"
    this = f"into this {words}" if fed else f"of this {words}"
    subject = {
        "count": f"{events} {this}",
        "sum": f"sum of payment amounts {this}",
        "distinct": f"different {many} in {events} {this}",
        "payment_count": f"payments {this}",
        "labelled_count": f"payments {this} that have a verdict",
        "fraud_count": f"payments {this} that turned out to be fraud",
        "fraud_share": f"share of fraud in payments {this}",
    }[aggregate]
    when = (
        f"in the {span_words(window)} up to {span_words(delay)} ago" if delay else f"in the last {span_words(window)}"
    )
    unknown = "; unknown without a payment" if aggregate == "fraud_share" else ""
    return f"{subject[0].upper()}{subject[1:]} {when}{unknown}."


def span_words(span: str) -> str:
    """A time in words: `10m` is `10 minutes`, `1d` is `day`."""
    number, unit = span[:-1], UNIT_WORDS[span[-1]]
    return unit if number == "1" else f"{number} {unit}s"


def _join(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
