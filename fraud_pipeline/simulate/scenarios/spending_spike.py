"""Far more money than this user ever spends."""

from __future__ import annotations

import math

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import origin_in
from fraud_pipeline.simulate.people import Person
from fraud_pipeline.simulate.stage import Stage


def _suits(person: Person) -> bool:
    return person.persona.name in ("regular", "shopper")


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim(_suits)
    inside = rng.random() < 0.6
    device = person.phone if inside else stage.new_device()
    origin = origin_in(rng, person.city, person.household.ip) if inside else stage.behind_proxy(person.city)
    usual = math.exp(person.amount_mu + person.amount_sigma**2 / 2)
    time_ms = stage.some_time_ms()
    stage.login(person, time_ms, device, origin, success=True)
    payments = 1 + round(stage.between(1, 5) * rng.random())
    for number in range(payments):
        time_ms += stage.pause_ms(1_200, 25)
        growing = math.sqrt((number + 1) / payments)
        dollars = usual * stage.scaled(6, 60) * rng.lognormvariate(0, 0.2) * growing
        merchant = stage.merchant(origin.country)
        stage.purchase(person, time_ms, device, origin, merchant=merchant, card_id=person.cards[0], dollars=dollars)


SCENARIO = Scenario(
    name="spending_spike",
    help="Purchases far above the user's own habits, often from their own phone and home.",
    per_1000_user_days=20,
    play=_play,
)
