"""A stolen card, used up before it is blocked."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import origin_in
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    owner = stage.victim()
    time_ms = stage.some_time_ms()
    if rng.random() < stage.between(0.5, 0):
        # The thief has an account of long standing, and is at home.
        thief = stage.victim(lambda person: person.city.country == owner.city.country)
        device, origin = thief.phone, origin_in(rng, thief.city, thief.household.ip)
        stage.login(thief, time_ms, device, origin, success=True)
    else:
        thief = stage.new_account(owner.city)
        device, origin = thief.phone, stage.behind_proxy(owner.city)
        stage.signup(thief, time_ms, device, origin)
    for _ in range(round(stage.scaled(4, 14))):
        time_ms += stage.pause_ms(2_400, 25)
        stage.purchase(
            thief,
            time_ms,
            device,
            origin,
            merchant=stage.merchant(origin.country),
            card_id=owner.cards[0],
            dollars=usual_dollars(rng, owner) * stage.scaled(0.9, 5),
        )


SCENARIO = Scenario(
    name="stolen_card_spree",
    help="A stolen card spent in one shop after another, by a new account or one of long standing.",
    per_1000_user_days=10,
    play=_play,
)
