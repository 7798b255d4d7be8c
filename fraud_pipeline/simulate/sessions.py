"""What users do on a quiet day: when they come, from where, and what they do then.

Each day of a user and each session draws from its own stream of random numbers, so that ordinary traffic is
the same whatever attacks are added.
"""

from __future__ import annotations

import math
from random import Random

from fraud_pipeline.simulate import rides, spending
from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import Draft, claim, login, signup, with_attributes
from fraud_pipeline.simulate.network import (
    Device,
    Origin,
    home_address,
    hosting_address,
    ipv6_address,
    mobile_address,
    new_device,
    origin_in,
    public_address,
)
from fraud_pipeline.simulate.people import Joining, Person, Trip, World, poisson
from fraud_pipeline.simulate.places import CITIES, MINUTE_MS, City, flight_ms

KINDS = ("check", "shop", "small", "transfer", "bills", "ride", "claim")
"""What people do in a session: look at the account; shop; buy tiny things (a game); send money; pay bills; ride;
claim a promotion."""

PROMOTIONS = ("spring-sale", "refer-a-friend", "free-delivery", "cashback-5")
WELCOME = "welcome-10"
ATTRIBUTION_MS = 7 * DAY_MS
"""How long a newcomer's client repeats who brought them, as the attribute `referrer_id`."""

LONGEST_GAP_MS = 285_000
_HOUR_MS = 60 * MINUTE_MS
_REST_MS = 10 * MINUTE_MS

_WEEKDAY = ((0.3, 7.8, 1.1), (0.5, 12.6, 1.0), (1.0, 19.8, 1.9))
_WEEKEND = ((0.3, 11.0, 1.6), (1.0, 18.0, 3.0))
"""Local hours of activity: cumulative share, mean, standard deviation."""


def plan_day(rng: Random, world: World, person: Person, day: int) -> list[int]:
    """When the person's sessions of one UTC day start, epoch ms, in order; may send them on a trip.

    Args:
      rng: any; it is seeded anew.
      day: counted from the first history day.
    """
    config = world.config
    rng.seed((config.seed << 64) | (person.index << 28) | (day << 7))
    day_ms = config.begin_ms + day * DAY_MS
    if person.trip is None or person.trip.home_ms <= day_ms:
        person.trip = _trip(rng, person.city, day_ms) if rng.random() < person.flies else None
    weekday = (day_ms // DAY_MS + 3) % 7
    starts = []
    for _ in range(poisson(rng, person.sessions_per_day)):
        share = rng.random()
        peaks = _WEEKEND if weekday >= 5 else _WEEKDAY
        _, mean, deviation = next(peak for peak in peaks if share < peak[0])
        place = person.city_at(day_ms + DAY_MS // 2) or person.city
        hour = rng.gauss(mean, deviation) - person.early_hours - place.utc_offset_minutes / 60
        starts.append(day_ms + int(hour * _HOUR_MS) % DAY_MS)
    if person.joining is not None and 0 <= person.joined_ms - day_ms < DAY_MS:
        starts.append(person.joined_ms)
    starts.sort()
    return starts


def session(rng: Random, world: World, person: Person, day: int, number: int, start_ms: int) -> list[Draft]:
    """The events of one session, in order; none when the person is busy or not a customer yet."""
    rng.seed((world.config.seed << 64) | (person.index << 28) | (day << 7) | (number + 1 & 0x7F))
    city = person.city_at(start_ms)
    if city is None:
        trip = person.trip
        assert trip is not None
        landed_ms = trip.arrival_ms if start_ms < trip.arrival_ms else trip.home_ms
        start_ms = landed_ms + int((5 + 40 * rng.random()) * MINUTE_MS)
        city = person.city_at(start_ms)
        if start_ms >= world.config.end_ms:
            return []
    if city is None or start_ms < max(person.joined_ms, person.busy_until_ms + _REST_MS):
        return []
    device, is_new = _device(rng, person, city)
    origin = _origin(rng, person, device, city, start_ms)
    joining = person.joining
    time_ms: int | None
    if joining is not None and not person.busy_until_ms:
        if joining.device is not None:
            device = joining.device
        if joining.ip is not None:
            origin = origin_in(rng, city, joining.ip)
        drafts, time_ms = _join(rng, person, joining, device, origin, start_ms)
    elif joining is not None and not joining.stays:
        return []
    else:
        drafts, time_ms = _sign_in(rng, person, device, is_new, origin, start_ms)
    if time_ms is not None:
        _use(rng, world, person, device, origin, city, time_ms, drafts)
        while drafts and rng.random() < 0.35:
            time_ms = drafts[-1].event.event_time_ms
            _use(rng, world, person, device, origin, city, time_ms, drafts)
    if drafts:
        person.busy_until_ms = drafts[-1].event.event_time_ms
    if joining is not None and joining.referrer_id is not None and start_ms - person.joined_ms < ATTRIBUTION_MS:
        return [with_attributes(draft, {"referrer_id": joining.referrer_id}) for draft in drafts]
    return drafts


def _join(
    rng: Random, person: Person, joining: Joining, device: Device, origin: Origin, time_ms: int
) -> tuple[list[Draft], int]:
    drafts = [signup(rng, person.user_id, time_ms, device, origin, referrer_id=joining.referrer_id)]
    if rng.random() < 0.6:
        time_ms += _gap(rng, 60)
        drafts.append(claim(rng, person.user_id, time_ms, device, origin, promotion_id=WELCOME))
    return drafts, time_ms


def _trip(rng: Random, home: City, day_ms: int) -> Trip:
    destination = home
    while destination is home:
        destination = CITIES[int(rng.random() * len(CITIES))]
    flight = flight_ms(home, destination)
    departure = day_ms + int((5 + 15 * rng.random()) * _HOUR_MS)
    arrival = departure + flight
    back = arrival + int((10 + 110 * rng.random()) * _HOUR_MS)
    return Trip(destination, departure, arrival, back, back + flight)


def _device(rng: Random, person: Person, city: City) -> tuple[Device, bool]:
    luck = rng.random()
    if luck < 0.004:
        person.phone = new_device(rng, mobile=True)
        return person.phone, True
    if luck < 0.006:
        return new_device(rng, mobile=False), True
    if person.computer is not None and rng.random() < (0.4 if city is person.city else 0.1):
        return person.computer, False
    return person.phone, False


def _origin(rng: Random, person: Person, device: Device, city: City, time_ms: int) -> Origin:
    household = person.household
    if person.uses_vpn and rng.random() < 0.25:
        exit_city = CITIES[int(rng.random() * len(CITIES))]
        return origin_in(rng, exit_city, hosting_address(rng, exit_city.country))
    if city is not household.city:
        if device.mobile and rng.random() < 0.6:
            return origin_in(rng, city, mobile_address(rng, city.country, rng.getrandbits(2)))
        return origin_in(rng, city, public_address(rng, city.country))
    if device.mobile and rng.random() < 0.4:
        return origin_in(rng, city, mobile_address(rng, city.country, person.carrier))
    if rng.random() < 0.04:
        visiting = rng.random() < 0.5
        address = home_address(rng, city.country) if visiting else public_address(rng, city.country)
        return origin_in(rng, city, address)
    if household.ipv6_prefix is not None and rng.random() < 0.6:
        return origin_in(rng, city, ipv6_address(rng, household.ipv6_prefix))
    return origin_in(rng, city, household.ip)


def _sign_in(
    rng: Random, person: Person, device: Device, is_new: bool, origin: Origin, time_ms: int
) -> tuple[list[Draft], int | None]:
    if device.mobile and not is_new and rng.random() < 0.12:
        return [], time_ms
    luck = rng.random() / (3 if is_new else 1)
    failures = 0 if luck > 0.05 else 1 if luck > 0.015 else 2 if luck > 0.005 else 3 + rng.getrandbits(2)
    drafts = []
    for _ in range(failures):
        drafts.append(login(rng, person.user_id, time_ms, device, origin, success=False))
        time_ms += 3_000 + int(rng.expovariate(1 / 9_000))
    if failures >= 3:
        if rng.random() < 0.15:
            return drafts, None
        time_ms += int(rng.uniform(30_000, 150_000))
    drafts.append(login(rng, person.user_id, time_ms, device, origin, success=True))
    return drafts, time_ms


def _use(
    rng: Random,
    world: World,
    person: Person,
    device: Device,
    origin: Origin,
    city: City,
    time_ms: int,
    drafts: list[Draft],
) -> None:
    kind = rng.choices(KINDS, weights=person.persona.kinds)[0]
    country = city.country if rng.random() < 0.8 else person.city.country
    if kind == "check":
        if rng.random() < 0.4:
            time_ms += _gap(rng, 90)
            drafts.append(login(rng, person.user_id, time_ms, device, origin, success=True))
        return
    if kind == "shop":
        merchant = spending.choose_merchant(rng, world, person, country)
        for _ in range(1 + int(3 * rng.random() ** 1.5)):
            time_ms += _gap(rng, 70)
            dollars = spending.usual_dollars(rng, person)
            if rng.random() < 0.008:
                dollars *= rng.uniform(5, 20)
            if rng.random() < 0.4:
                merchant = spending.choose_merchant(rng, world, person, country)
            drafts.append(
                spending.purchase(
                    rng,
                    person,
                    time_ms,
                    device,
                    origin,
                    country=country,
                    merchant=merchant,
                    card_id=spending.choose_card(rng, person),
                    dollars=dollars * merchant.amount_factor,
                )
            )
    elif kind == "small":
        merchant = spending.choose_merchant(rng, world, person, country)
        card_id = spending.choose_card(rng, person)
        for _ in range(1 + int(4 * rng.random() ** 2.5)):
            time_ms += _gap(rng, 45)
            drafts.append(
                spending.purchase(
                    rng,
                    person,
                    time_ms,
                    device,
                    origin,
                    country=country,
                    merchant=merchant,
                    card_id=card_id,
                    dollars=math.exp(rng.gauss(1.1, 0.5)),
                )
            )
    elif kind == "ride":
        card_id = spending.choose_card(rng, person)
        for _ in range(1 + (rng.random() < 0.15)):
            time_ms += _gap(rng, 60)
            drafts.append(rides.ordinary_ride(rng, world, person, time_ms, device, origin, city, card_id))
    elif kind == "claim":
        time_ms += _gap(rng, 60)
        promotion_id = PROMOTIONS[int(rng.random() ** 2 * len(PROMOTIONS))]
        drafts.append(claim(rng, person.user_id, time_ms, device, origin, promotion_id=promotion_id))
    else:
        bills = kind == "bills"
        for _ in range(2 + int(4 * rng.random()) if bills else 1 + (rng.random() < 0.25)):
            time_ms += _gap(rng, 60)
            payee_id = rng.choice(person.payees) if bills else spending.choose_payee(rng, person)
            dollars = spending.usual_dollars(rng, person) * (3 if bills else 2)
            drafts.append(spending.transfer(rng, person, time_ms, device, origin, payee_id=payee_id, dollars=dollars))


def _gap(rng: Random, median_seconds: float) -> int:
    """Time to the next event of a session, ms: log-normal, and short enough to stay in it."""
    return min(LONGEST_GAP_MS, 2_000 + int(median_seconds * rng.lognormvariate(0, 0.7) * 1000))
