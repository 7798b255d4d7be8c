"""One account, many passwords."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim()
    city = person.city if rng.random() > stage.intensity else stage.city_abroad(person.city)
    tries_per_address = round(stage.scaled(2, 30))
    succeeds = rng.random() < 0.4
    time_ms = stage.some_time_ms()
    device, origin = stage.new_device(), stage.behind_proxy(city)
    for number in range(round(stage.scaled(12, 80))):
        if number % tries_per_address == 0:
            origin = stage.behind_proxy(city)
            if rng.random() > stage.intensity:
                device = stage.new_device()
        stage.login(person, time_ms, device, origin, success=False)
        time_ms += stage.pause_ms(400, 0.8)
    if succeeds:
        stage.login(person, time_ms, device, origin, success=True)


SCENARIO = Scenario(
    name="brute_force",
    help="Many passwords tried on one account; some get in.",
    per_1000_user_days=10,
    play=_play,
)
