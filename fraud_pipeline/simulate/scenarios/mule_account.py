"""An account that stolen money runs through: in from many, out within a minute."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import Device, Origin, mobile_address, origin_in, token
from fraud_pipeline.simulate.people import Person
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    mule = stage.victim()
    device, origin = mule.phone, origin_in(rng, mule.city, mule.household.ip)
    time_ms = stage.some_time_ms()
    payee_id = token(rng, "p-")
    for _ in range(2 + round(stage.between(0, 2) * rng.random())):
        received = 0.0
        for payer in stage.accounts(2 + round(stage.between(0, 4) * rng.random())):
            dollars = usual_dollars(rng, payer) * stage.scaled(2, 8)
            received += dollars
            stage.transfer(payer, time_ms, *_own(stage, payer), payee_id=mule.user_id, dollars=dollars)
            time_ms += stage.pause_ms(1_800, 20)
        time_ms += int(stage.scaled(55_000, 8_000) * rng.uniform(0.5, 1))
        for _ in range(1 + (rng.random() < 0.5)):
            stage.transfer(mule, time_ms, device, origin, payee_id=payee_id, dollars=received * rng.uniform(0.4, 0.5))
            time_ms += 4_000 + int(rng.random() * 12_000)
        if rng.random() < 0.5:
            payee_id = token(rng, "p-")
        time_ms += stage.pause_ms(3_600, 300)


def _own(stage: Stage, payer: Person) -> tuple[Device, Origin]:
    city = payer.city
    return payer.phone, origin_in(stage.rng, city, mobile_address(stage.rng, city.country, payer.carrier))


SCENARIO = Scenario(
    name="mule_account",
    help="Victims pay into one account, which sends the money on within a minute, again and again.",
    per_1000_user_days=8,
    play=_play,
)
