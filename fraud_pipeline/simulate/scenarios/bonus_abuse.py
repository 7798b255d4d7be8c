"""One person, many accounts, a welcome bonus for each."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import home_address, mobile_address, origin_in, token
from fraud_pipeline.simulate.sessions import WELCOME
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    city = stage.victim().city
    ip = home_address(rng, city.country)
    carrier = rng.getrandbits(2)
    device = stage.new_device()
    referrer_id = token(rng, "r-") if rng.random() < 0.5 else None
    time_ms = stage.some_time_ms()
    accounts_on_device = 0
    for _ in range(round(stage.scaled(6, 30))):
        # The careful reset the phone after two or three accounts, and switch between the line and the mobile network.
        if accounts_on_device >= stage.scaled(2.5, 40):
            device, accounts_on_device = stage.new_device(), 0
        accounts_on_device += 1
        away = rng.random() < stage.between(0.5, 0)
        origin = origin_in(rng, city, mobile_address(rng, city.country, carrier) if away else ip)
        account = stage.new_account(city)
        stage.signup(account, time_ms, device, origin, referrer_id=referrer_id)
        time_ms += stage.pause_ms(240, 15)
        if rng.random() < 0.9:
            stage.claim(account, time_ms, device, origin, promotion_id=WELCOME)
        time_ms += stage.pause_ms(2_400, 40)


SCENARIO = Scenario(
    name="bonus_abuse",
    help="Many accounts made on a few devices or from one line, each of which claims the welcome bonus.",
    per_1000_user_days=6,
    play=_play,
)
