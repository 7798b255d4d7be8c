"""Rides: what they cost, how far they go, and who drives."""

from __future__ import annotations

from random import Random

from fraud_pipeline.simulate.drafts import Attack, Draft, payment
from fraud_pipeline.simulate.network import Device, Origin
from fraud_pipeline.simulate.people import Driver, Person, World
from fraud_pipeline.simulate.places import CURRENCY_OF, City
from fraud_pipeline.simulate.spending import amount_minor
from transforms.events import Attributes


def choose_driver(rng: Random, world: World, person: Person, city: City) -> Driver:
    """Whoever is near; some people have somebody they usually ride with at home."""
    drivers = world.drivers[city.name]
    if person.regular_driver is not None and city is person.city and rng.random() < 0.7:
        return drivers[person.regular_driver % len(drivers)]
    return drivers[int(rng.random() * len(drivers))]


def ordinary_ride(
    rng: Random, world: World, person: Person, time_ms: int, device: Device, origin: Origin, city: City, card_id: str
) -> Draft:
    """A ride as people take it: near its quoted fare, some with a tip, a few to another place than was asked for."""
    direct_km = max(0.6, rng.lognormvariate(1.5, 0.6))
    luck = rng.random()
    detour, extra = rng.uniform(1.1, 1.45), 1.0
    if luck < 0.012:
        detour, extra = rng.uniform(1.5, 3), rng.uniform(1.3, 2.4)
    elif luck < 0.05:
        extra = rng.uniform(1.1, 1.5)
    elif luck < 0.2:
        extra = rng.uniform(1.05, 1.2)
    driver = choose_driver(rng, world, person, city)
    if rng.random() < 0.004:
        # Ordered at the kerb, on the driver's own phone.
        device = driver.device
    return ride(
        rng, person, time_ms, device, origin, driver=driver, city=city, card_id=card_id, direct_km=direct_km,
        detour=detour, extra=extra,
    )  # fmt: skip


def ride(
    rng: Random,
    person: Person,
    time_ms: int,
    device: Device,
    origin: Origin,
    *,
    driver: Driver,
    city: City,
    card_id: str,
    direct_km: float,
    detour: float,
    extra: float,
    attack: Attack | None = None,
) -> Draft:
    """A paid ride.

    Args:
      direct_km: length of the shortest route.
      detour: the driven length over that; the fare is quoted for 1.25 times the shortest route.
      extra: what is paid over what was quoted.
    """
    expected = amount_minor(city.country, 2.5 + 1.6 * 1.25 * direct_km)
    attributes: Attributes = {
        "driver_id": driver.driver_id,
        "trip_km": round(direct_km * detour, 1),
        "direct_km": round(direct_km, 1),
    }
    if driver.device.device_id is not None:
        attributes["driver_device_id"] = driver.device.device_id
    return payment(
        rng,
        person.user_id,
        time_ms,
        device,
        origin,
        amount_minor=max(1, round(expected * extra)),
        currency=CURRENCY_OF[city.country].code,
        payee_id=driver.account,
        card_id=card_id,
        expected_amount_minor=expected,
        attributes=attributes,
        attack=attack,
    )
