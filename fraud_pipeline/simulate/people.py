"""The users: households, devices, habits, and money; all drawn once, by the seed."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from random import Random

import msgspec

from fraud_pipeline.simulate.config import DAY_MS, SimulationConfig
from fraud_pipeline.simulate.network import Device, home_address, ipv6_prefix, new_device, token
from fraud_pipeline.simulate.places import CITIES, COUNTRIES, City

_CITY_CUMULATIVE_WEIGHTS = tuple(itertools.accumulate(city.weight for city in CITIES))
_HOUSEHOLD_SIZES, _HOUSEHOLD_WEIGHTS = (1, 2, 3, 4, 5), (45, 60, 72, 82, 85)

_MERCHANTS_PER_COUNTRY = 60


class Persona(msgspec.Struct, frozen=True):
    """What a user mostly does.

    Attributes:
      share: of the users, relative to the others.
      kinds: weights of the kinds of session, in the order of `sessions.KINDS`.
    """

    name: str
    share: int
    kinds: tuple[int, ...]


PERSONAS: tuple[Persona, ...] = (
    Persona("regular", 50, (30, 40, 5, 18, 7)),
    Persona("shopper", 20, (15, 70, 5, 8, 2)),
    Persona("commuter", 12, (15, 25, 50, 8, 2)),
    Persona("gamer", 5, (15, 30, 50, 5, 0)),
    Persona("bill payer", 10, (25, 15, 0, 35, 25)),
)


_PERSONA_SHARES = tuple(persona.share for persona in PERSONAS)


class Household(msgspec.Struct, frozen=True):
    """People who live together and share a line."""

    city: City
    ip: str
    ipv6_prefix: str | None


class Trip(msgspec.Struct, frozen=True):
    """A journey by plane, there and back. In the air nobody is online."""

    destination: City
    departure_ms: int
    arrival_ms: int
    return_ms: int
    home_ms: int


class Merchant(msgspec.Struct, frozen=True):
    """A shop.

    Attributes:
      amount_factor: its prices, relative to what its customers usually spend.
      quotes: whether it says beforehand what the payment should be.
    """

    merchant_id: str
    amount_factor: float
    quotes: bool


@dataclasses.dataclass(slots=True)
class Person:
    """A user. Habits are fixed; what can change over time is below them.

    Attributes:
      sessions_per_day: mean.
      early_hours: how much earlier than others they are up.
      amount_mu, amount_sigma: log-normal of a usual purchase, in units of US dollars.
      carrier: number of their mobile network within the country.
      flies: chance to leave on a trip, per day.
      uses_vpn: sometimes connects from a data centre in another country.
      joined_ms: no activity before.
      busy_until_ms: end of their latest session.
    """

    index: int
    user_id: str
    household: Household
    sessions_per_day: float
    early_hours: float
    persona: Persona
    amount_mu: float
    amount_sigma: float
    carrier: int
    flies: float
    uses_vpn: bool
    joined_ms: int
    favourites: tuple[int, ...]
    phone: Device
    computer: Device | None
    cards: tuple[str, ...]
    payees: tuple[str, ...]
    trip: Trip | None = None
    busy_until_ms: int = 0

    @property
    def city(self) -> City:
        """Home."""
        return self.household.city

    def city_at(self, time_ms: int) -> City | None:
        """Where they are at a time; None in the air."""
        trip = self.trip
        if trip is None or time_ms < trip.departure_ms or time_ms >= trip.home_ms:
            return self.household.city
        return trip.destination if trip.arrival_ms <= time_ms < trip.return_ms else None


class World:
    """Everybody and every shop; grows with the number of users, not of days."""

    def __init__(self, config: SimulationConfig) -> None:
        self.config = config
        self.people: list[Person] = list(_people(config))
        rng = Random()
        self.merchants: dict[str, tuple[Merchant, ...]] = {
            country: _merchants(rng, f"{config.seed}/merchants/{country}") for country in COUNTRIES
        }


def poisson(rng: Random, mean: float) -> int:
    """A Poisson number, for small means."""
    limit = math.exp(-mean)
    product = rng.random()
    number = 0
    while product > limit:
        product *= rng.random()
        number += 1
    return number


def _people(config: SimulationConfig) -> Iterator[Person]:
    rng = Random(f"{config.seed}/people")
    index = 0
    while index < config.users:
        city = rng.choices(CITIES, cum_weights=_CITY_CUMULATIVE_WEIGHTS)[0]
        household = Household(
            city=city,
            ip=home_address(rng, city.country),
            ipv6_prefix=ipv6_prefix(rng) if rng.random() < 0.3 else None,
        )
        size = rng.choices(_HOUSEHOLD_SIZES, cum_weights=_HOUSEHOLD_WEIGHTS)[0]
        for _ in range(min(size, config.users - index)):
            yield _person(rng, config, index, household)
            index += 1


def _person(rng: Random, config: SimulationConfig, index: int, household: Household) -> Person:
    newcomer = rng.random() < 0.03
    return Person(
        index=index,
        user_id=f"u-{index:07d}",
        household=household,
        sessions_per_day=min(6.0, rng.lognormvariate(0.5, 0.45)),
        early_hours=rng.gauss(0, 1.2),
        persona=rng.choices(PERSONAS, weights=_PERSONA_SHARES)[0],
        amount_mu=rng.gauss(3.0, 0.5),
        amount_sigma=0.4 + 0.4 * rng.random(),
        carrier=rng.getrandbits(2),
        flies=0.12 if rng.random() < 0.06 else 0.006,
        uses_vpn=rng.random() < 0.015,
        joined_ms=config.begin_ms
        + (int(rng.random() * (config.days + config.history_days) * DAY_MS) if newcomer else 0),
        favourites=tuple(rng.sample(range(_MERCHANTS_PER_COUNTRY), 6)),
        phone=new_device(rng, mobile=True),
        computer=new_device(rng, mobile=False) if rng.random() < 0.5 else None,
        cards=tuple(token(rng, "c-") for _ in range(1 + (rng.random() < 0.4))),
        payees=tuple(token(rng, "p-") for _ in range(2 + rng.getrandbits(2))),
    )


def _merchants(rng: Random, seed: str) -> tuple[Merchant, ...]:
    rng.seed(seed)
    return tuple(
        Merchant(token(rng, "m-"), rng.lognormvariate(0, 0.5), rng.random() < 0.35)
        for _ in range(_MERCHANTS_PER_COUNTRY)
    )
