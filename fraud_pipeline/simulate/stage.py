"""The stage that each attack plays on: the world, its own random numbers, its intensity, its events."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random

import msgspec

from fraud_pipeline.simulate import drafts, rides, spending
from fraud_pipeline.simulate.attacks import PlannedAttack
from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import Draft
from fraud_pipeline.simulate.network import (
    Device,
    Origin,
    home_address,
    new_device,
    origin_in,
    proxy_address,
    token,
)
from fraud_pipeline.simulate.people import Driver, Household, Merchant, Person, World
from fraud_pipeline.simulate.places import CITIES, City


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
        starts: Sequence[Sequence[int]],
        taken: set[int],
    ) -> None:
        """Sets the stage for one attack.

        Args:
          rng: any; it is seeded anew.
          starts: starts of the day's sessions by person, epoch ms.
          taken: indexes of the people who were attacked already; victims are added.
        """
        self.world = world
        self.rng = rng
        self.intensity = planned.intensity
        self.drafts: list[Draft] = []
        self._attack = planned.attack
        self._day_ms = world.config.begin_ms + planned.day * DAY_MS
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

    def new_account(self, home: City) -> Person:
        """Somebody who isn't a customer yet, with a name, cards and habits of their own."""
        like = self.world.people[int(self.rng.random() * len(self.world.people))]
        users = self.world.config.users
        return dataclasses.replace(
            like,
            user_id=f"u-{users + int(self.rng.random() * (9_999_999 - users)):07d}",
            household=Household(home, home_address(self.rng, home.country), None),
            cards=(token(self.rng, "c-"),),
            payees=(),
            phone=self.new_device(),
            trip=None,
            joining=None,
        )

    def signup(
        self, person: Person, time_ms: int, device: Device, origin: Origin, *, referrer_id: str | None = None
    ) -> None:
        """Makes an account."""
        self.drafts.append(
            drafts.signup(
                self.rng, person.user_id, time_ms, device, origin, referrer_id=referrer_id, attack=self._attack
            )
        )

    def claim(self, person: Person, time_ms: int, device: Device, origin: Origin, *, promotion_id: str) -> None:
        """Claims a promotion."""
        self.drafts.append(
            drafts.claim(
                self.rng, person.user_id, time_ms, device, origin, promotion_id=promotion_id, attack=self._attack
            )
        )

    def ride(
        self,
        person: Person,
        time_ms: int,
        device: Device,
        origin: Origin,
        *,
        driver: Driver,
        city: City,
        direct_km: float,
        detour: float,
        extra: float,
    ) -> None:
        """Adds a ride; the arguments are as in `rides.ride`."""
        self.drafts.append(
            rides.ride(
                self.rng,
                person,
                time_ms,
                device,
                origin,
                driver=driver,
                city=city,
                card_id=person.cards[0],
                direct_km=direct_km,
                detour=detour,
                extra=extra,
                attack=self._attack,
            )
        )

    def disputed_before(
        self, person: Person, device: Device, origin: Origin, *, merchant: Merchant, days: float, after_days: float
    ) -> None:
        """Adds an honest-looking purchase some days before the attack's day, disputed some days after it."""
        time_ms = max(self.world.config.begin_ms, self._day_ms - int(days * DAY_MS))
        draft = spending.purchase(
            self.rng,
            person,
            time_ms,
            device,
            origin,
            country=origin.country,
            merchant=merchant,
            card_id=person.cards[0],
            dollars=spending.usual_dollars(self.rng, person) * merchant.amount_factor,
        )
        self.drafts.append(msgspec.structs.replace(draft, disputed_after_ms=int(after_days * DAY_MS)))

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
    world: World, attacks: Iterable[PlannedAttack], starts: Sequence[Sequence[int]], taken: set[int]
) -> Iterator[Draft]:
    """The events of one day's attacks, each attack's in order. The arguments are as in `Stage`."""
    rng = Random()
    for planned in attacks:
        stage = Stage(world, rng, planned, starts, taken)
        planned.scenario.play(stage)
        yield from stage.drafts
