"""What makes a case, and for how long it is remembered."""

from __future__ import annotations

import msgspec

from transforms.case_findings import Grouping

KEY_FIELDS = (
    "user_id",
    "card_id",
    "device_id",
    "ip",
    "network",
    "merchant_id",
    "payee_id",
    "referrer_id",
    "promotion_id",
)
"""What cases can be about; `network` is the /24 of an IPv4 address, the /64 of an IPv6 one."""
_YEAR_SECONDS = 365 * 86_400


class CaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a case.

    Attributes:
      key_field: the field of the event that cases are about; an event without it belongs to its user's cases.
      grouping: `reasons`: events of a case are connected by reasons in common; `key`: all of the key's events.
      cooldown_seconds: silence, in event time, after which a further event is another case.
      remember_seconds: how long after the cool-down a correction still reaches the case, by the watermark. The job sees
        to it that this is no less than what `AggregationConfig.correctable_seconds` says.
      max_events: events of a key that are remembered one by one; the oldest beyond are folded and still counted.
      max_shown: events that an alert shows.
      include: fields of the events to show, `event` for all; none unless asked for.

    Raises:
      ValueError: a value is out of range; the message gives the range.
    """

    key_field: str = "user_id"
    grouping: Grouping = "reasons"
    cooldown_seconds: float = 3_600
    remember_seconds: float = 86_400
    max_events: int = 100
    max_shown: int = 10
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.key_field not in KEY_FIELDS:
            raise ValueError(f"key_field is {self.key_field!r}; give one of {', '.join(KEY_FIELDS)}")
        if self.grouping not in ("reasons", "key"):
            raise ValueError(f"grouping is {self.grouping!r}; give reasons or key")
        if not 1 <= self.cooldown_seconds <= _YEAR_SECONDS:
            raise ValueError(f"cooldown_seconds is {self.cooldown_seconds}; give 1 to {_YEAR_SECONDS} (a year)")
        if not self.remember_seconds >= 0:
            raise ValueError(f"remember_seconds is {self.remember_seconds}; give 0 or more")
        if not 2 <= self.max_events <= 10_000:
            raise ValueError(f"max_events is {self.max_events}; give 2 to 10000")
        if not 1 <= self.max_shown <= 100:
            raise ValueError(f"max_shown is {self.max_shown}; give 1 to 100")
