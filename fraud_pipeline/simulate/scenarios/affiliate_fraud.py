"""A partner paid for each new customer, who makes them up."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.drafts import with_attributes
from fraud_pipeline.simulate.network import token
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    # Half of the careful hide among the real customers of a partner who brings some.
    partners = stage.world.partners
    hidden = rng.random() < stage.between(0.5, 0)
    referrer_id = partners[2 + int(rng.random() * (len(partners) - 2))] if hidden else token(rng, "r-")
    city = stage.victim().city
    hosting = stage.new_device()
    time_ms = stage.some_time_ms()
    for _ in range(round(stage.scaled(10, 50))):
        account = stage.new_account(city)
        emulated = rng.random() < stage.between(1, 0.6)
        device = stage.new_device() if emulated else hosting
        origin = stage.behind_proxy(city)
        stage.signup(account, time_ms, device, origin, referrer_id=referrer_id)
        if rng.random() < stage.between(0.3, 0):
            stage.login(account, time_ms + stage.pause_ms(60, 10), device, origin, success=True)
            stage.drafts[-1] = with_attributes(stage.drafts[-1], {"referrer_id": referrer_id})
        time_ms += stage.pause_ms(1_500, 30)


SCENARIO = Scenario(
    name="affiliate_fraud",
    help="A partner signs up customers who don't exist, each on an address of its own, and who never return.",
    per_1000_user_days=4,
    play=_play,
)
