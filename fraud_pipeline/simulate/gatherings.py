"""What several people do together: friends who share a bill, donors to an appeal. The innocent twins of mules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from fraud_pipeline.simulate import spending
from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.drafts import Draft
from fraud_pipeline.simulate.network import mobile_address, origin_in
from fraud_pipeline.simulate.people import Person, World, poisson
from fraud_pipeline.simulate.places import MINUTE_MS

_PER_1000_USER_DAYS = 12.0


def on_day(rng: Random, world: World, day: int, starts: Sequence[Sequence[int]]) -> Iterator[Draft]:
    """The day's gatherings, each one's events in order; the same whatever attacks there are.

    Args:
      rng: any; it is seeded anew.
      day: counted from the first history day.
      starts: starts of the day's sessions by person, epoch ms.
    """
    config = world.config
    rng.seed(f"{config.seed}/gatherings/{day}")
    day_ms = config.begin_ms + day * DAY_MS
    for _ in range(poisson(rng, _PER_1000_USER_DAYS * min(config.users, 20_000) / 1000)):
        host = world.people[int(rng.random() * len(world.people))]
        guests = [
            guest
            for step in range(1, 60)
            if (guest := world.people[(host.index + step) % len(world.people)]).city is host.city
            and _is_customer(guest, day_ms)
            and starts[guest.index]
        ][: 3 + int(6 * rng.random() ** 2)]
        if len(guests) >= 2 and host.trip is None and _is_customer(host, day_ms):
            yield from (
                _appeal(rng, world, host, guests, day_ms)
                if rng.random() < 0.3
                else _shared_bill(rng, host, guests, day_ms)
            )


def _is_customer(person: Person, day_ms: int) -> bool:
    return person.joined_ms < day_ms and (person.joining is None or person.joining.stays) and person.trip is None


def _shared_bill(rng: Random, host: Person, guests: list[Person], day_ms: int) -> Iterator[Draft]:
    """Friends pay the host their share; half of the hosts pass it on: some at once, as the waiter stands there."""
    time_ms = _evening_ms(rng, host, day_ms)
    dollars = 5.0 * round(spending.usual_dollars(rng, host) * rng.uniform(0.8, 2) / 5 + 1)
    for guest in guests:
        time_ms += 10_000 + int(rng.expovariate(1 / (12 * MINUTE_MS)))
        yield _send(rng, guest, time_ms, host.user_id, dollars)
    luck = rng.random()
    if luck < 0.5:
        time_ms += int((15_000 if luck < 0.06 else 90 * MINUTE_MS) * (0.3 + rng.random()))
        yield _send(rng, host, time_ms, spending.choose_payee(rng, host), dollars * (len(guests) + 1))


def _appeal(rng: Random, world: World, host: Person, guests: list[Person], day_ms: int) -> Iterator[Draft]:
    payees = world.payees[host.city.country]
    payee_id = payees[int(rng.random() * len(payees))]
    time_ms = _evening_ms(rng, host, day_ms)
    for guest in guests:
        time_ms += 5_000 + int(rng.expovariate(1 / (6 * MINUTE_MS)))
        yield _send(rng, guest, time_ms, payee_id, 5.0 * (1 + rng.getrandbits(3)))


def _send(rng: Random, person: Person, time_ms: int, payee_id: str, dollars: float) -> Draft:
    device, city = person.phone, person.city
    origin = origin_in(rng, city, mobile_address(rng, city.country, person.carrier))
    return spending.transfer(rng, person, time_ms, device, origin, payee_id=payee_id, dollars=dollars)


def _evening_ms(rng: Random, host: Person, day_ms: int) -> int:
    hour = rng.gauss(19, 2) - host.city.utc_offset_minutes / 60
    return day_ms + int(hour * 60 * MINUTE_MS) % (DAY_MS * 3 // 4)
