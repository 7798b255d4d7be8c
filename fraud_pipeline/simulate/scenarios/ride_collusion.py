"""Driver and passenger are one: rides that nobody took, paid with promotions or stolen cards."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import home_address, origin_in, token
from fraud_pipeline.simulate.people import Driver
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    city = stage.victim().city
    phone = stage.new_device()
    driver = Driver(token(rng, "dr-"), token(rng, "p-"), phone)
    if rng.random() < 0.5:
        others = stage.world.drivers[city.name]
        known = others[int(rng.random() * len(others))]
        driver = Driver(known.driver_id, known.account, phone)
    passengers = [stage.new_account(city) for _ in range(1 + round(stage.between(0, 3) * rng.random()))]
    # The careful carry a second phone, and forget once in a while which of the two they hold.
    second = stage.new_device()
    ip = home_address(rng, city.country)
    time_ms = stage.some_time_ms()
    for passenger in passengers:
        stage.signup(passenger, time_ms, second, origin_in(rng, city, ip))
        time_ms += stage.pause_ms(1_800, 60)
    for number in range(round(stage.scaled(6, 25))):
        same = rng.random() < stage.between(0.25, 1)
        stage.ride(
            passengers[number % len(passengers)],
            time_ms,
            phone if same else second,
            origin_in(rng, city, ip),
            driver=driver,
            city=city,
            direct_km=max(0.6, rng.lognormvariate(1.2, 0.5)),
            detour=rng.uniform(1.05, 1.4),
            extra=1.0,
        )
        time_ms += stage.pause_ms(2_400, 90)


SCENARIO = Scenario(
    name="ride_collusion",
    help="One person with two phones, or one, is the driver and the passengers of rides that never took place.",
    per_1000_user_days=6,
    play=_play,
)
