"""The features of an event within its user's behaviour: what each is called, means and is measured in.

This declaration is the only one. The scores table, the docs, the rules' checker and the models read it;
`transforms.history` computes the values, in this order.

Windows are `(t - w, t]` in event time with the event itself included; everything is as of the event's own time.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

FeatureType: TypeAlias = Literal["int", "float", "bool"]

WINDOW_SECONDS: dict[str, int] = {
    "1m": 60,
    "10m": 600,
    "1h": 3_600,
    "1d": 86_400,
    "7d": 7 * 86_400,
    "30d": 30 * 86_400,
}
"""The sliding windows, by the suffix of their features."""

WINDOW_WORDS = {
    "1m": "minute",
    "10m": "10 minutes",
    "1h": "hour",
    "1d": "day",
    "7d": "7 days",
    "30d": "30 days",
}


class Feature(msgspec.Struct, frozen=True):
    """One feature.

    Attributes:
      name: column name, with the window as its suffix where it has one.
      type: `int`, `float` or `bool`.
      unit: `events`, `minor units`, `seconds`, `km/h`, `ratio`, `yes/no`, ...
      help: one sentence for an analyst.
      nullable: whether it may be unknown (for example: no earlier event).
    """

    name: str
    type: FeatureType
    unit: str
    help: str
    nullable: bool = False


def _windowed(name: str, unit: str, what: str, windows: tuple[str, ...]) -> list[Feature]:
    return [Feature(f"{name}_{w}", "int", unit, f"{what} in the last {WINDOW_WORDS[w]}.") for w in windows]


ALL_WINDOWS = tuple(WINDOW_SECONDS)
LONG_WINDOWS = ("1d", "7d", "30d")
DISTINCT_WINDOWS = ("1h", "1d", "30d")
CLAIM_WINDOWS = ("1d", "30d")
EVENT_WINDOWS = ("30d",)

_SLIDING = [
    *_windowed("login_count", "events", "Logins, failed ones included,", ALL_WINDOWS),
    *_windowed("login_failure_count", "events", "Failed logins", ALL_WINDOWS),
    *_windowed("payment_count", "events", "Payments", ALL_WINDOWS),
    *_windowed("payment_amount_minor", "minor units", "Sum of payment amounts", ALL_WINDOWS),
    *_windowed("payment_amount_max_minor", "minor units", "Largest payment amount", LONG_WINDOWS),
    *[
        Feature(
            f"payment_amount_mean_minor_{w}",
            "float",
            "minor units",
            f"Mean payment amount in the last {WINDOW_WORDS[w]}; unknown without a payment.",
            nullable=True,
        )
        for w in LONG_WINDOWS
    ],
    *_windowed("distinct_ip_count", "addresses", "Different IP addresses", DISTINCT_WINDOWS),
    *_windowed("distinct_device_count", "devices", "Different devices", DISTINCT_WINDOWS),
    *_windowed("distinct_country_count", "countries", "Different countries", DISTINCT_WINDOWS),
    *_windowed("distinct_merchant_count", "merchants", "Different merchants", DISTINCT_WINDOWS),
    *_windowed("distinct_payee_count", "payees", "Different payees", DISTINCT_WINDOWS),
    *_windowed("distinct_card_count", "cards", "Different cards", DISTINCT_WINDOWS),
    *_windowed("claim_count", "events", "Promotion claims", CLAIM_WINDOWS),
    *_windowed("event_count", "events", "Events of any kind", EVENT_WINDOWS),
]

_SEQUENCE = [
    Feature("is_first_event", "bool", "yes/no", "No earlier event of this user in the last 30 days."),
    Feature(
        "seconds_since_last_event",
        "float",
        "seconds",
        "Time since the user's previous event; unknown for the first.",
        nullable=True,
    ),
    Feature(
        "travel_km",
        "float",
        "km",
        "Great-circle distance to the user's last known place, those of failed logins left out; "
        "unknown without two places.",
        nullable=True,
    ),
    Feature(
        "travel_speed_kmh",
        "float",
        "km/h",
        "Speed needed to come from the user's last known place, time taken as at least one minute.",
        nullable=True,
    ),
    *[
        Feature(
            f"is_new_{name}",
            "bool",
            "yes/no",
            f"The {what} is given and not seen in the user's last 30 days, other than in failed logins.",
        )
        for name, what in (("ip", "IP address"), ("device", "device"), ("country", "country"))
    ],
    *[
        Feature(f"is_new_{name}", "bool", "yes/no", f"The {name} is given and not seen in the user's last 30 days.")
        for name in ("payee", "merchant")
    ],
    Feature(
        "failures_in_a_row",
        "int",
        "events",
        "Failed logins since the last successful one, this event included if it is a failure.",
    ),
    Feature(
        "failures_before_login",
        "int",
        "events",
        "Failed logins in a row right before the last successful login (this event, if it is one).",
    ),
    Feature(
        "seconds_since_login",
        "float",
        "seconds",
        "Time since the last successful login before this event; unknown without one.",
        nullable=True,
    ),
    Feature(
        "login_from_new_device",
        "bool",
        "yes/no",
        "The last successful login (this event, if it is one) came from a new device of a user who had others.",
    ),
    Feature(
        "login_from_new_country",
        "bool",
        "yes/no",
        "The last successful login (this event, if it is one) came from a new country of a user who had others.",
    ),
    Feature(
        "is_first_payment_after_login",
        "bool",
        "yes/no",
        "This is the first payment since the last successful login.",
    ),
    Feature(
        "seconds_since_signup",
        "float",
        "seconds",
        "Age of the account, 0 for the signup itself; unknown if the user signed up more than 30 days ago.",
        nullable=True,
    ),
    Feature(
        "amount_to_mean_ratio_30d",
        "float",
        "ratio",
        "Amount of this payment over the mean of the user's earlier payments in the last 30 days; unknown without one.",
        nullable=True,
    ),
    Feature(
        "amount_to_max_ratio_30d",
        "float",
        "ratio",
        "Amount of this payment over the largest of the user's earlier payments in the last 30 days; "
        "unknown without one.",
        nullable=True,
    ),
]

_SESSION = [
    Feature("session_event_count", "int", "events", "Events of the session so far."),
    Feature("session_login_count", "int", "events", "Logins of the session so far, failed ones included."),
    Feature("session_login_failure_count", "int", "events", "Failed logins of the session so far."),
    Feature("session_payment_count", "int", "events", "Payments of the session so far."),
    Feature("session_amount_minor", "int", "minor units", "Sum of payment amounts of the session so far."),
    Feature("session_duration_seconds", "float", "seconds", "Time since the session's first event."),
]

FEATURES: tuple[Feature, ...] = (*_SLIDING, *_SEQUENCE, *_SESSION)
"""All features, in the order of a record's values."""

FEATURE_INDEX: dict[str, int] = {feature.name: i for i, feature in enumerate(FEATURES)}
"""Position of a feature in a record's values, by name."""
