"""An hour unlike any other of this customer: nothing large, but far too much of it."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.network import origin_in
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim(lambda person: person.persona.name in ("regular", "shopper"))
    device, origin = person.phone, origin_in(rng, person.city, person.household.ip)
    time_ms = stage.some_time_ms()
    favourites = [stage.world.merchants[origin.country][index] for index in person.favourites]
    for _ in range(round(stage.scaled(10, 45))):
        stage.purchase(
            person,
            time_ms,
            device,
            origin,
            merchant=rng.choice(favourites),
            card_id=person.cards[0],
            dollars=usual_dollars(rng, person) * stage.scaled(0.8, 1.5),
        )
        time_ms += stage.pause_ms(360, 25)


SCENARIO = Scenario(
    name="hourly_anomaly",
    help="Ordinary amounts in favourite shops from the user's own phone, but far more in an hour than ever before.",
    per_1000_user_days=10,
    play=_play,
)
