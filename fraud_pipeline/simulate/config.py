"""What to simulate: a frozen configuration that is checked when it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

DAY_MS = 86_400_000
DEFAULT_START_MS = 1_748_822_400_000
"""2025-06-02T00:00:00Z, a Monday."""

_YEAR_2000_MS = 946_684_800_000
_YEAR_9999_MS = 253_370_764_800_000
MAX_USERS = 10_000_000
MAX_DAYS = 10_000


@dataclasses.dataclass(frozen=True)
class Delivery:
    """How the traffic is spoiled on its way to the pipeline. Each rate is a share of the events, in [0, 1].

    Attributes:
      delayed: arrive out of order: most within 2 s, some minutes later.
      late: arrive more than 5 minutes later, some by more than an hour.
      duplicates: are delivered once more, byte for byte.
      conflicts: are followed by another message with the same `event_id` and other content.
      malformed: arrive as something that is no valid event.
    """

    delayed: float = 0.05
    late: float = 0.005
    duplicates: float = 0.01
    conflicts: float = 0.0005
    malformed: float = 0.003

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate <= 1:
                raise ValueError(f"the {field.name} rate is {rate}; it is a share of the events: give 0 to 1")


NO_DISORDER = Delivery(0, 0, 0, 0, 0)
"""Every event arrives once, whole and in order."""


@dataclasses.dataclass(frozen=True)
class AttackPlan:
    """How many attacks of a scenario there are in the whole run, and how loud they are.

    Attributes:
      count: number of attacks; None for the usual number.
      intensity: in (0, 1], from slow and careful to fast and loud; None for attacks of all intensities.
        0 means no attack at all.
    """

    count: int | None = None
    intensity: float | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise ValueError(f"the number of attacks is {self.count}; give 0 or more")
        if self.intensity is not None and not 0 <= self.intensity <= 1:
            raise ValueError(f"the intensity is {self.intensity}; give 0 (none) to 1 (loudest)")


@dataclasses.dataclass(frozen=True)
class SimulationConfig:
    """A run of the simulator; the same configuration always gives the same messages.

    Attributes:
      users: number of users, 1 or more.
      days: days with attacks, 1 or more.
      history_days: quiet days before them, so that users have habits by the time they are attacked.
      seed: any integer from 0.
      start_ms: start of the first day with attacks, epoch ms; history goes before it.
      attack_rate: multiplies each scenario's usual number of attacks.
      attacks: plans by scenario; a scenario without one has its usual number, at all intensities.
      delivery: how the traffic is spoiled on its way.
      label_events: whether verdicts on earlier events (`label` events) follow, days later.
    """

    users: int = 200
    days: int = 1
    history_days: int = 4
    seed: int = 7
    start_ms: int = DEFAULT_START_MS
    attack_rate: float = 1.0
    attacks: Mapping[str, AttackPlan] = dataclasses.field(default_factory=dict)
    delivery: Delivery = Delivery()
    label_events: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.users <= MAX_USERS:
            raise ValueError(f"the number of users is {self.users}; give 1 to {MAX_USERS:,}")
        if not 1 <= self.days <= MAX_DAYS:
            raise ValueError(f"the number of days is {self.days}; give 1 to {MAX_DAYS:,}")
        if not 0 <= self.history_days <= MAX_DAYS:
            raise ValueError(f"the number of history days is {self.history_days}; give 0 to {MAX_DAYS:,}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"the seed is {self.seed}; give an integer from 0 to 2^63 - 1")
        if not 0 <= self.attack_rate <= 1000:
            raise ValueError(f"the attack rate is {self.attack_rate}; give 0 (none), 1 (as usual), up to 1000")
        if self.begin_ms < _YEAR_2000_MS:
            raise ValueError("the traffic would begin before 2000; start later or give fewer history days")
        if self.end_ms > _YEAR_9999_MS:
            raise ValueError("the traffic would end after 9998; start earlier or give fewer days")

    @property
    def begin_ms(self) -> int:
        """Start of the first history day, epoch ms."""
        return self.start_ms - self.history_days * DAY_MS

    @property
    def end_ms(self) -> int:
        """End of the last day, epoch ms; the last sessions and late messages come a little after it."""
        return self.start_ms + self.days * DAY_MS
