"""A driver who takes the long way, or a meter that runs fast."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import mobile_address, origin_in
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    city = stage.victim().city
    drivers = stage.world.drivers[city.name]
    driver = drivers[int(rng.random() * len(drivers))]
    people = [person for person in stage.world.people if person.city is city]
    takes_the_long_way = rng.random() < 0.6
    time_ms = stage.some_time_ms()
    for _ in range(round(stage.scaled(4, 9))):
        passenger = people[int(rng.random() * len(people))]
        over = stage.scaled(1.2, 3.5) * rng.uniform(0.9, 1.15)
        stage.ride(
            passenger,
            time_ms,
            passenger.phone,
            origin_in(rng, city, mobile_address(rng, city.country, passenger.carrier)),
            driver=driver,
            city=city,
            direct_km=max(0.6, rng.lognormvariate(1.7, 0.5)),
            detour=1.25 * over if takes_the_long_way else rng.uniform(1.1, 1.45),
            extra=over,
        )
        time_ms += stage.pause_ms(4_800, 600)


SCENARIO = Scenario(
    name="trip_fare",
    help="A driver charges passengers far more than was quoted, by detours or by the meter.",
    per_1000_user_days=6,
    play=_play,
)
