"""The users: households, devices, habits, and money; all drawn once, by the seed."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from random import Random

import msgspec

from fraud_pipeline.simulate.config import SimulationConfig
from fraud_pipeline.simulate.joining import Joining, newcomers
from fraud_pipeline.simulate.network import Device, home_address, ipv6_prefix, new_device, token
from fraud_pipeline.simulate.places import CITIES, COUNTRIES, City

_CITY_CUMULATIVE_WEIGHTS = tuple(itertools.accumulate(city.weight for city in CITIES))
_HOUSEHOLD_SIZES, _HOUSEHOLD_WEIGHTS = (1, 2, 3, 4, 5), (45, 60, 72, 82, 85)

MERCHANTS_PER_COUNTRY = 60
OBSCURE_MERCHANTS_PER_COUNTRY = 12
"""Shops that hardly anybody goes to; they come after the others in a country's."""
_CLASSES = 0.004


class Persona(msgspec.Struct, frozen=True):
    """What a user mostly does.

    Attributes:
      share: of the users, relative to the others.
      kinds: weights of what they do in a session, in the order of `sessions.KINDS`.
    """

    name: str
    share: int
    kinds: tuple[int, ...]


PERSONAS: tuple[Persona, ...] = (
    Persona("regular", 50, (29, 38, 5, 17, 7, 3, 1)),
    Persona("shopper", 20, (14, 68, 5, 7, 2, 2, 2)),
    Persona("commuter", 12, (15, 25, 22, 7, 2, 28, 1)),
    Persona("gamer", 5, (14, 30, 46, 5, 0, 3, 2)),
    Persona("bill payer", 10, (25, 15, 0, 34, 24, 1, 1)),
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


class Driver(msgspec.Struct, frozen=True):
    """Somebody who drives others for money, with the account that fares are paid to and the phone they drive with."""

    driver_id: str
    account: str
    device: Device


@dataclasses.dataclass(slots=True)
class Person:
    """A user. Habits are fixed; what can change over time is below them.

    Attributes:
      user_id: also the account that others pay to.
      sessions_per_day: mean.
      early_hours: how much earlier than others they are up.
      amount_mu, amount_sigma: log-normal of a usual purchase, in units of US dollars.
      carrier: number of their mobile network within the country.
      flies: chance to leave on a trip, per day.
      uses_vpn: sometimes connects from a data centre in another country.
      joined_ms: no activity before.
      joining: how they join during the run; None for customers of before.
      regular_driver: whom they ride with when they can, or None; a number within the city's drivers.
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
    joining: Joining | None = None
    regular_driver: int | None = None
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
        rng = Random()
        self.payees: dict[str, tuple[str, ...]] = {
            country: _popular_payees(rng, f"{config.seed}/payees/{country}", config.users, country)
            for country in COUNTRIES
        }
        self.partners: tuple[str, ...] = _partners(rng, f"{config.seed}/partners")
        self.people: list[Person] = list(_people(config, self.payees, self.partners))
        self.drivers: dict[str, tuple[Driver, ...]] = {
            city.name: _drivers(rng, f"{config.seed}/drivers/{city.name}", config.users, city) for city in CITIES
        }
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


def _people(
    config: SimulationConfig, popular: Mapping[str, tuple[str, ...]], partners: tuple[str, ...]
) -> Iterator[Person]:
    rng = Random(f"{config.seed}/people")
    index = 0
    while index < config.users:
        city = rng.choices(CITIES, cum_weights=_CITY_CUMULATIVE_WEIGHTS)[0]
        if rng.random() < _CLASSES:
            household, size = None, 6 + rng.getrandbits(2)
        else:
            household = _household(rng, city)
            size = rng.choices(_HOUSEHOLD_SIZES, cum_weights=_HOUSEHOLD_WEIGHTS)[0]
        size = min(size, config.users - index)
        joinings = newcomers(rng, config, city, size, partners, a_class=household is None)
        card = token(rng, "c-") if rng.random() < 0.1 else None
        for joined_ms, joining in joinings:
            home = household or _household(rng, city)
            person = _person(rng, index, home, popular[city.country], joined_ms or config.begin_ms, joining)
            if card is not None and household is not None:
                person.cards = (*person.cards[:1], card)
            yield person
            index += 1


def _household(rng: Random, city: City) -> Household:
    return Household(
        city=city,
        ip=home_address(rng, city.country),
        ipv6_prefix=ipv6_prefix(rng) if rng.random() < 0.3 else None,
    )


def _person(
    rng: Random,
    index: int,
    household: Household,
    popular: tuple[str, ...],
    joined_ms: int,
    joining: Joining | None,
) -> Person:
    friends = tuple(f"u-{max(0, index + rng.choice((-9, -5, -3, 3, 5, 9))):07d}" for _ in range(rng.getrandbits(1)))
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
        joined_ms=joined_ms,
        favourites=tuple(rng.sample(range(MERCHANTS_PER_COUNTRY), 6)),
        phone=new_device(rng, mobile=True),
        computer=new_device(rng, mobile=False) if rng.random() < 0.5 else None,
        cards=tuple(token(rng, "c-") for _ in range(1 + (rng.random() < 0.4))),
        payees=(
            *(token(rng, "p-") for _ in range(1 + rng.getrandbits(2))),
            popular[int(rng.random() ** 2 * len(popular))],
            *friends,
        ),
        joining=joining,
        regular_driver=rng.getrandbits(4) if rng.random() < 0.1 else None,
    )


def _popular_payees(rng: Random, seed: str, users: int, country: str) -> tuple[str, ...]:
    """Landlords, clubs, charities, small shops: many pay them."""
    rng.seed(seed)
    share = sum(city.weight for city in CITIES if city.country == country) / _CITY_CUMULATIVE_WEIGHTS[-1]
    return tuple(token(rng, "p-") for _ in range(8 + int(users * share / 10)))


def _partners(rng: Random, seed: str) -> tuple[str, ...]:
    """Who brings customers for a commission, the most popular ones first."""
    rng.seed(seed)
    return tuple(token(rng, "r-") for _ in range(6))


def _drivers(rng: Random, seed: str, users: int, city: City) -> tuple[Driver, ...]:
    rng.seed(seed)
    share = city.weight / _CITY_CUMULATIVE_WEIGHTS[-1]
    return tuple(
        Driver(token(rng, "dr-"), token(rng, "p-"), new_device(rng, mobile=True))
        for _ in range(3 + int(users * share / 30))
    )


def _merchants(rng: Random, seed: str) -> tuple[Merchant, ...]:
    rng.seed(seed)
    return tuple(
        Merchant(token(rng, "m-"), rng.lognormvariate(0, 0.5), rng.random() < 0.35)
        for _ in range(MERCHANTS_PER_COUNTRY + OBSCURE_MERCHANTS_PER_COUNTRY)
    )
