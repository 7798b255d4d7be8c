"""One account in two places, too far apart for the time between."""

from __future__ import annotations

from fraud_pipeline.simulate.attacks import Scenario
from fraud_pipeline.simulate.people import Person
from fraud_pipeline.simulate.places import CITIES, distance_km
from fraud_pipeline.simulate.spending import usual_dollars
from fraud_pipeline.simulate.stage import Stage

_HOUR_MS = 3_600_000
_FAR_KM = 3_000


def _suits(person: Person) -> bool:
    return person.phone.shares_place and not person.uses_vpn


def _play(stage: Stage) -> None:
    rng = stage.rng
    person = stage.victim(_suits)
    city = rng.choice([city for city in CITIES if distance_km(city, person.city) > _FAR_KM])
    speed_kmh = stage.scaled(1_300, 60_000)
    apart_ms = int(distance_km(city, person.city) / speed_kmh * _HOUR_MS * rng.uniform(0.8, 1.1))
    time_ms = stage.session_start_ms(person) + apart_ms
    stolen_session = rng.random() > stage.intensity
    device = person.phone if stolen_session else stage.new_device()
    origin = stage.behind_proxy(city)
    stage.login(person, time_ms, device, origin, success=True)
    for _ in range(int(rng.random() * stage.between(1.5, 4))):
        time_ms += stage.pause_ms(240, 20)
        merchant = stage.merchant(origin.country)
        dollars = usual_dollars(rng, person) * stage.scaled(1, 4)
        stage.purchase(person, time_ms, device, origin, merchant=merchant, card_id=person.cards[0], dollars=dollars)


SCENARIO = Scenario(
    name="impossible_travel",
    help="A login from a place that the user can't have reached since their own last session.",
    per_1000_user_days=20,
    play=_play,
)
