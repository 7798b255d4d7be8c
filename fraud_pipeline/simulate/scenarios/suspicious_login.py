"""A password that was right the first time, typed by somebody else."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import hosting_address, origin_in
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim(lambda person: not person.uses_vpn)
    abroad = rng.random() < stage.between(0.35, 1)
    city = stage.city_abroad(person.city) if abroad else person.city
    device = stage.new_device()
    origin = stage.behind_proxy(city)
    if rng.random() < stage.between(0.35, 0.9):
        origin = origin_in(rng, city, hosting_address(rng, city.country))
    time_ms = stage.some_time_ms()
    for _ in range(2 + round(stage.between(1, 3) * rng.random())):
        stage.login(person, time_ms, device, origin, success=True)
        time_ms += stage.pause_ms(2_400, 60)


SCENARIO = Scenario(
    name="suspicious_login",
    help="A leaked password that is right at once, from a new device behind an anonymizer or in another country.",
    per_1000_user_days=15,
    play=_play,
)
