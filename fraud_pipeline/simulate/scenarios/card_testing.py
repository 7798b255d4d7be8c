"""Which of these stolen cards still work?"""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import token
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim()
    device, origin = stage.new_device(), stage.behind_proxy(person.city)
    merchants = [stage.merchant(origin.country) for _ in range(2)]
    time_ms = stage.some_time_ms()
    stage.login(person, time_ms, device, origin, success=True)
    card_id = token(rng, "c-")
    for _ in range(round(stage.scaled(6, 30))):
        time_ms += stage.pause_ms(400, 2)
        stage.purchase(
            person,
            time_ms,
            device,
            origin,
            merchant=rng.choice(merchants),
            card_id=card_id,
            dollars=0.5 + 2.5 * rng.random(),
        )
        if rng.random() < 0.7:
            card_id = token(rng, "c-")


SCENARIO = Scenario(
    name="card_testing",
    help="Many small payments in a row, with several cards.",
    per_1000_user_days=15,
    play=_play,
)
