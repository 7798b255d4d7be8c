"""What the attack scenarios have in common: their plan over the days, and the stage that each attack plays on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import Random

from fraud_pipeline.simulate import drafts, spending
from fraud_pipeline.simulate.config import DAY_MS, AttackPlan, SimulationConfig
from fraud_pipeline.simulate.drafts import Attack, Draft
from fraud_pipeline.simulate.network import Device, Origin, new_device, origin_in, proxy_address
from fraud_pipeline.simulate.people import Merchant, Person, World
from fraud_pipeline.simulate.places import CITIES, City

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
    """

    name: str
    help: str
    per_1000_user_days: float
    play: Callable[[Stage], None]


@dataclasses.dataclass(frozen=True)
class PlannedAttack:
    """The `number`-th attack of a scenario."""

    scenario: Scenario
    number: int
    intensity: float

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
        """The attacks of one day, counted from the first history day."""
        config = self._config
        day -= config.history_days
        if day < 0:
            return
        for scenario in self._scenarios.values():
            plan = config.attacks.get(scenario.name, AttackPlan())
            count = plan.count
            if count is None:
                usual = scenario.per_1000_user_days * config.users * config.days / 1000
                count = math.ceil(usual * config.attack_rate)
            if plan.intensity == 0:
                continue
            shift = Random(f"{config.seed}/{scenario.name}").random()
            for number in range(_first_on(day, count, config.days), _first_on(day + 1, count, config.days)):
                intensity = plan.intensity
                if intensity is None:
                    spread = (shift + number * _GOLDEN_RATIO) % 1
                    intensity = round(_FAINTEST + (1 - _FAINTEST) * spread, 2)
                yield PlannedAttack(scenario, number, intensity)


def _first_on(day: int, count: int, days: int) -> int:
    """Number of the first of `count` attacks on a day or after it, when each is in the middle of its share of days."""
    return -((days - 2 * count * day) // (2 * days))


class Stage:
    """What an attack has at hand: the world, its own random numbers, its intensity; and it collects its events.

    Attributes:
      rng: the attack's own stream of random numbers.
      intensity: in (0, 1].
      drafts: the events so far.
    """

    def __init__(
        self,
        world: World,
        rng: Random,
        planned: PlannedAttack,
        day: int,
        starts: Sequence[Sequence[int]],
        taken: set[int],
    ) -> None:
        """Sets the stage for one attack.

        Args:
          rng: any; it is seeded anew.
          day: counted from the first history day.
          starts: starts of the day's sessions by person, epoch ms.
          taken: indexes of the people who were attacked already; victims are added.
        """
        self.world = world
        self.rng = rng
        self.intensity = planned.intensity
        self.drafts: list[Draft] = []
        self._attack = planned.attack
        self._day_ms = world.config.begin_ms + day * DAY_MS
        self._starts = starts
        self._taken = taken
        rng.seed(f"{world.config.seed}/{planned.scenario.name}/{planned.number}")

    def between(self, careful: float, loud: float) -> float:
        """A value between that of the most careful attacker and that of the loudest."""
        return careful + (loud - careful) * self.intensity

    def scaled(self, careful: float, loud: float) -> float:
        """As `between`, for sizes that span magnitudes: interpolates their logarithms."""
        return careful * math.pow(loud / careful, self.intensity)

    def pause_ms(self, careful_seconds: float, loud_seconds: float) -> int:
        """A pause by intensity, never quite the same."""
        return 1 + int(self.scaled(careful_seconds, loud_seconds) * self.rng.lognormvariate(0, 0.35) * 1000)

    def some_time_ms(self) -> int:
        """When to begin, epoch ms: any time, with some hours of the day left."""
        return self._day_ms + int(self.rng.random() * 0.75 * DAY_MS)

    def session_start_ms(self, person: Person) -> int:
        """When one of the person's own sessions of the day starts, epoch ms; noon where they have none."""
        starts = self._starts[person.index]
        return self.rng.choice(starts) if starts else self._day_ms + DAY_MS // 2

    def victim(self, suits: Callable[[Person], bool] = lambda person: True) -> Person:
        """Somebody with a history who is at home and online that day and hasn't been attacked yet, if there is."""
        people = self.world.people
        person = people[0]
        for attempt in range(200):
            person = people[int(self.rng.random() * len(people))]
            if attempt < 150 and person.index in self._taken:
                continue
            if self._has_history(person) and (attempt >= 100 or suits(person)):
                break
        self._taken.add(person.index)
        return person

    def accounts(self, most: int) -> list[Person]:
        """Different people, up to a third of all and at least one."""
        people = self.world.people
        count = max(1, min(most, len(people) // 3))
        return [people[index] for index in self.rng.sample(range(len(people)), count)]

    def new_device(self) -> Device:
        """A device such as anybody has."""
        return new_device(self.rng, mobile=self.rng.random() < 0.6)

    def city_abroad(self, home: City) -> City:
        """Any city in another country."""
        cities = [city for city in CITIES if city.country != home.country]
        return cities[int(self.rng.random() * len(cities))]

    def behind_proxy(self, city: City) -> Origin:
        """An origin in a city, by way of other people's lines for the careful, and of data centres for the loud."""
        return origin_in(self.rng, city, proxy_address(self.rng, city.country, hosting_share=self.between(0, 0.5)))

    def login(self, person: Person, time_ms: int, device: Device, origin: Origin, *, success: bool) -> None:
        """Adds a login attempt."""
        self.drafts.append(
            drafts.login(self.rng, person.user_id, time_ms, device, origin, success=success, attack=self._attack)
        )

    def purchase(
        self,
        person: Person,
        time_ms: int,
        device: Device,
        origin: Origin,
        *,
        merchant: Merchant,
        card_id: str,
        dollars: float,
    ) -> None:
        """Adds a card payment in a shop of the origin's country."""
        self.drafts.append(
            spending.purchase(
                self.rng,
                person,
                time_ms,
                device,
                origin,
                country=origin.country,
                merchant=merchant,
                card_id=card_id,
                dollars=dollars,
                attack=self._attack,
            )
        )

    def transfer(
        self, person: Person, time_ms: int, device: Device, origin: Origin, *, payee_id: str, dollars: float
    ) -> None:
        """Adds money sent to a payee."""
        self.drafts.append(
            spending.transfer(
                self.rng,
                person,
                time_ms,
                device,
                origin,
                payee_id=payee_id,
                dollars=dollars,
                attack=self._attack,
            )
        )

    def merchant(self, country: str) -> Merchant:
        """Any shop of a country."""
        merchants = self.world.merchants[country]
        return merchants[int(self.rng.random() * len(merchants))]

    def _has_history(self, person: Person) -> bool:
        return (
            person.joined_ms <= self.world.config.begin_ms
            and person.sessions_per_day >= 1
            and bool(self._starts[person.index])
            and person.trip is None
        )


def play(
    world: World, day: int, attacks: Iterable[PlannedAttack], starts: Sequence[Sequence[int]], taken: set[int]
) -> Iterator[Draft]:
    """The events of one day's attacks, each attack's in order. The arguments are as in `Stage`."""
    rng = Random()
    for planned in attacks:
        stage = Stage(world, rng, planned, day, starts, taken)
        planned.scenario.play(stage)
        yield from stage.drafts
