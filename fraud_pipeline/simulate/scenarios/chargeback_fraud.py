"""Bought, received, disputed: by a customer again and again, or against one shop by everybody."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import origin_in
from fraud_pipeline.simulate.people import MERCHANTS_PER_COUNTRY, Person
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    if stage.rng.random() < 0.6:
        _customer(stage)
    else:
        _shop(stage)


def _customer(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim()
    if rng.random() < 0.7:
        person = stage.new_account(person.city)
    device, origin = person.phone, origin_in(rng, person.city, person.household.ip)
    for _ in range(1 + round(stage.scaled(1, 5))):
        _disputed(stage, person, stage.merchant(origin.country).merchant_id)
    time_ms = stage.some_time_ms()
    stage.login(person, time_ms, device, origin, success=True)
    for _ in range(round(stage.scaled(3, 8))):
        time_ms += stage.pause_ms(3_600, 90)
        dollars = usual_dollars(rng, person) * stage.scaled(1, 2.5)
        merchant = stage.merchant(origin.country)
        stage.purchase(person, time_ms, device, origin, merchant=merchant, card_id=person.cards[0], dollars=dollars)


def _shop(stage: Stage) -> None:
    """A shop that charges for what it never sends."""
    rng = stage.rng
    customers = [person for person in stage.accounts(40) if person.joined_ms <= stage.world.config.begin_ms]
    country = customers[0].city.country
    customers = [person for person in customers if person.city.country == country]
    shop = rng.choice(stage.world.merchants[country][MERCHANTS_PER_COUNTRY:])
    for number in range(2 + round(stage.scaled(2, 12))):
        _disputed(stage, customers[number % len(customers)], shop.merchant_id)
    time_ms = stage.some_time_ms()
    for number in range(round(stage.scaled(4, 15))):
        person = customers[number % len(customers)]
        origin = origin_in(rng, person.city, person.household.ip)
        stage.purchase(
            person,
            time_ms,
            person.phone,
            origin,
            merchant=shop,
            card_id=person.cards[0],
            dollars=usual_dollars(rng, person) * stage.scaled(1, 3),
        )
        time_ms += stage.pause_ms(2_400, 60)


def _disputed(stage: Stage, person: Person, merchant_id: str) -> None:
    rng = stage.rng
    merchants = stage.world.merchants[person.city.country]
    merchant = next((each for each in merchants if each.merchant_id == merchant_id), merchants[0])
    origin = origin_in(rng, person.city, person.household.ip)
    stage.disputed_before(
        person,
        person.phone,
        origin,
        merchant=merchant,
        days=1.8 + 2 * rng.random(),
        after_days=0.3 + 1.2 * rng.random(),
    )


SCENARIO = Scenario(
    name="chargeback_fraud",
    help="A customer, or a shop's customers, whose payments were disputed before, and who pays on.",
    per_1000_user_days=6,
    play=_play,
    lead_days=4,
    needs_verdicts=True,
)
