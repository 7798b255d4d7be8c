"""Into somebody's account, and out with the money."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import token
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim()
    abroad = rng.random() < stage.between(0.2, 0.9)
    device = stage.new_device()
    origin = stage.behind_proxy(stage.city_abroad(person.city) if abroad else person.city)
    time_ms = stage.some_time_ms()
    for _ in range(1 + int(rng.random() * 2) + round(stage.between(0, 6))):
        stage.login(person, time_ms, device, origin, success=False)
        time_ms += stage.pause_ms(100, 4)
    stage.login(person, time_ms, device, origin, success=True)
    payee_id = token(rng, "p-")
    for _ in range(1 + round(stage.between(0, 3) * rng.random())):
        time_ms += stage.pause_ms(1_500, 20)
        dollars = usual_dollars(rng, person) * stage.scaled(1.5, 12)
        if rng.random() < 0.7:
            stage.transfer(person, time_ms, device, origin, payee_id=payee_id, dollars=dollars)
        else:
            merchant = stage.merchant(origin.country)
            stage.purchase(person, time_ms, device, origin, merchant=merchant, card_id=person.cards[0], dollars=dollars)
            payee_id = token(rng, "p-")


SCENARIO = Scenario(
    name="account_takeover",
    help="Failed logins, a success from a new device or country, then money out.",
    per_1000_user_days=25,
    play=_play,
)
