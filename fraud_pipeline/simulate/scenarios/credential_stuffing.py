"""Passwords leaked elsewhere, tried on many accounts."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import token
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    accounts = stage.accounts(round(stage.scaled(10, 60)))
    hits = set(rng.sample(range(len(accounts)), max(1, round(0.05 * len(accounts)))))
    pool_size = max(3, round(len(accounts) / stage.scaled(1, 8)))
    devices = [stage.new_device() for _ in range(pool_size)]
    exits = [stage.city_abroad(accounts[0].city) for _ in range(3)]
    loud_origins = [stage.behind_proxy(rng.choice(exits)) for _ in range(pool_size)]
    time_ms = stage.some_time_ms()
    for number, person in enumerate(accounts):
        device = devices[number % pool_size]
        near = rng.random() > stage.intensity
        origin = stage.behind_proxy(person.city) if near else rng.choice(loud_origins)
        for _ in range(int(rng.random() < stage.between(0.2, 0.6)) + (number not in hits)):
            stage.login(person, time_ms, device, origin, success=False)
            time_ms += stage.pause_ms(180, 0.4)
        if number in hits:
            stage.login(person, time_ms, device, origin, success=True)
            if rng.random() < 0.4:
                later_ms = time_ms + stage.pause_ms(1_800, 30)
                dollars = usual_dollars(rng, person) * stage.between(1.5, 5)
                stage.transfer(person, later_ms, device, origin, payee_id=token(rng, "p-"), dollars=dollars)
            time_ms += stage.pause_ms(180, 0.4)


SCENARIO = Scenario(
    name="credential_stuffing",
    help="Leaked passwords tried on many accounts from many addresses, few tries each; some work.",
    per_1000_user_days=10,
    play=_play,
)
