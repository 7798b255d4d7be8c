"""Attack scenarios and their plan over the days."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import TYPE_CHECKING

from fraud_pipeline.simulate.config import AttackPlan, SimulationConfig
from fraud_pipeline.simulate.drafts import Attack

if TYPE_CHECKING:
    from fraud_pipeline.simulate.stage import Stage

_FAINTEST = 0.05
_GOLDEN_RATIO = 0.6180339887498949


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A kind of attack.

    Attributes:
      name: its name in labels and on the command line.
      help: one sentence: what the attacker does.
      per_1000_user_days: usual number of attacks for a thousand users and one day.
      play: plays one attack on a stage.
      lead_days: how long before its day it is prepared, with what isn't yet an attack.
      needs_verdicts: it consists of verdicts on events, so that without these there is none.
    """

    name: str
    help: str
    per_1000_user_days: float
    play: Callable[[Stage], None]
    lead_days: int = 0
    needs_verdicts: bool = False


@dataclasses.dataclass(frozen=True)
class PlannedAttack:
    """The `number`-th attack of a scenario.

    Attributes:
      day: its day, counted from the first history day.
    """

    scenario: Scenario
    number: int
    intensity: float
    day: int

    @property
    def attack(self) -> Attack:
        """What its events are labelled with."""
        return Attack(f"{self.scenario.name}-{self.number:04d}", self.scenario.name, self.intensity)


class AttackSchedule:
    """Which attacks play on which day; each scenario's are spread evenly over the days."""

    def __init__(self, config: SimulationConfig, scenarios: Mapping[str, Scenario]) -> None:
        """Takes the numbers and intensities from the configuration.

        Raises:
          ValueError: the configuration names a scenario that doesn't exist.
        """
        for name in config.attacks:
            if name not in scenarios:
                raise ValueError(f"there is no attack scenario {name!r}; there are {', '.join(scenarios)}")
        self._config = config
        self._scenarios = scenarios

    def on_day(self, day: int) -> Iterator[PlannedAttack]:
        """The attacks that begin, or begin to be prepared, on a day, counted from the first history day."""
        config = self._config
        for scenario in self._scenarios.values():
            plan = config.attacks.get(scenario.name, AttackPlan())
            if plan.intensity == 0 or (scenario.needs_verdicts and not config.label_events):
                continue
            count = plan.count
            if count is None:
                usual = scenario.per_1000_user_days * config.users * config.days / 1000
                count = math.ceil(usual * config.attack_rate)
            shift = Random(f"{config.seed}/{scenario.name}").random()
            for attack_day in range(day if day == 0 else day + scenario.lead_days, day + scenario.lead_days + 1):
                since = attack_day - config.history_days
                if not 0 <= since < config.days:
                    continue
                for number in range(_first_on(since, count, config.days), _first_on(since + 1, count, config.days)):
                    intensity = plan.intensity
                    if intensity is None:
                        spread = (shift + number * _GOLDEN_RATIO) % 1
                        intensity = round(_FAINTEST + (1 - _FAINTEST) * spread, 2)
                    yield PlannedAttack(scenario, number, intensity, attack_day)


def _first_on(day: int, count: int, days: int) -> int:
    """Number of the first of `count` attacks on a day or after it, when each is in the middle of its share of days."""
    return -((days - 2 * count * day) // (2 * days))
