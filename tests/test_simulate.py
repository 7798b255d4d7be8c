"""The simulated world: its people, its attacks, its disorder; and that nothing gives the attackers away by form."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import re
import statistics
import tracemalloc
from collections import Counter, defaultdict
from typing import Any

import pytest

from fraud_pipeline.simulate import NO_DISORDER, Arrival, AttackPlan, Delivery, SimulationConfig, simulate
from fraud_pipeline.simulate.config import DAY_MS
from fraud_pipeline.simulate.malformed import MALFORMATIONS
from fraud_pipeline.simulate.people import Person, World
from fraud_pipeline.simulate.places import CITIES, City, distance_km, flight_ms
from fraud_pipeline.simulate.publish import Rate, SpeedUp, WallClock, wait_until
from fraud_pipeline.simulate.scenarios import load_scenarios
from transforms.events import Activity, DeadLetter, Envelope, Label, Login, Message, Payment
from transforms.parsing import parse

SCENARIOS = tuple(load_scenarios())
HOUR_MS = 3_600_000
NEW_ACCOUNTS = {"affiliate_fraud", "bonus_abuse", "ride_collusion", "stolen_card_spree"}
"""Scenarios whose attackers may be nobody that was known before."""


@functools.cache
def fully_labelled(users: int) -> list[Arrival]:
    """All scenarios, verdicts included, without disorder."""
    return list(simulate(orderly(users, label_events=True)))


def orderly(users: int = 300, **settings: Any) -> SimulationConfig:
    return SimulationConfig(users=users, delivery=NO_DISORDER, **settings)


def event_of(arrival: Arrival) -> Activity | Label:
    parsed = parse(Message(arrival.payload, arrival.received_ms, "test"))
    assert isinstance(parsed, Envelope), parsed
    return parsed.event


def activity(arrivals: list[Arrival]) -> list[Activity]:
    return [event for arrival in arrivals if not isinstance(event := event_of(arrival), Label)]


@pytest.fixture(scope="module")
def quiet() -> list[Activity]:
    """Ordinary traffic of 600 users and 6 days, in order."""
    return activity(list(simulate(orderly(600, days=6, history_days=0, attack_rate=0.0))))


@pytest.fixture(scope="module")
def people() -> dict[str, Person]:
    return {person.user_id: person for person in World(orderly(600, days=6, history_days=0)).people}


def by_user(events: list[Activity]) -> dict[str, list[Activity]]:
    users = defaultdict(list)
    for event in sorted(events, key=lambda event: event.event_time_ms):
        users[event.user_id].append(event)
    return users


def nearest_city(event: Activity) -> City:
    latitude, longitude = event.latitude, event.longitude
    assert latitude is not None
    assert longitude is not None
    return min(CITIES, key=lambda city: abs(city.latitude - latitude) + abs(city.longitude - longitude))


# Ordinary traffic


def test_the_default_day_has_the_size_of_a_demo() -> None:
    arrivals = list(simulate(SimulationConfig()))
    labelled = sum(arrival.label is not None for arrival in arrivals)

    assert 5_000 <= len(arrivals) <= 8_000
    assert 0.03 < labelled / len(arrivals) < 0.12


@pytest.mark.parametrize(("users", "days", "history_days"), [(1, 1, 0), (2, 3, 1), (37, 2, 0)])
def test_any_number_of_users_and_days(users: int, days: int, history_days: int) -> None:
    config = SimulationConfig(users=users, days=days, history_days=history_days, seed=3, label_events=True)
    arrivals = list(simulate(config))

    quiet = simulate(dataclasses.replace(config, attack_rate=0))
    assert {event_of(a).user_id for a in quiet if a.kind == "event"} <= {f"u-{i:07d}" for i in range(users)}
    assert {arrival.label.scenario for arrival in arrivals if arrival.label} == set(SCENARIOS)


def test_the_same_seed_gives_the_same_messages_and_another_seed_others() -> None:
    first, second = (list(simulate(SimulationConfig(users=30, seed=5))) for _ in range(2))

    assert first == second
    assert first != list(simulate(SimulationConfig(users=30, seed=6)))


def test_ordinary_traffic_and_its_disorder_stay_as_they_are_whatever_the_attacks() -> None:
    with_attacks = list(simulate(SimulationConfig(users=60)))
    without = list(simulate(SimulationConfig(users=60, attack_rate=0)))

    assert without
    assert not Counter(a.payload for a in without) - Counter(a.payload for a in with_attacks)


def test_sessions_are_a_handful_of_events_one_to_three_times_a_day(quiet: list[Activity]) -> None:
    sizes = []
    for events in by_user(quiet).values():
        size = 1
        for earlier, later in itertools.pairwise(events):
            if later.event_time_ms - earlier.event_time_ms < 300_000:
                size += 1
            else:
                sizes.append(size)
                size = 1
        sizes.append(size)

    assert 1 < len(sizes) / 600 / 6 < 3
    assert 2.5 < statistics.mean(sizes) < 6
    assert max(sizes) < 60


def test_people_sleep_at_night_in_their_own_time_zone(quiet: list[Activity], people: dict[str, Person]) -> None:
    for countries in (("GB", "DE", "FR", "ES", "IT"), ("US", "CA"), ("IN", "JP", "AU", "SG")):
        hours: Counter[int] = Counter()
        for event in quiet:
            city = people[event.user_id].city
            if event.country == city.country and city.country in countries:
                hours[(event.event_time_ms + city.utc_offset_minutes * 60_000) // HOUR_MS % 24] += 1
        night = sum(hours[hour] for hour in (2, 3, 4)) / 3
        evening = sum(hours[hour] for hour in (18, 19, 20)) / 3
        assert evening > 5 * night, (countries, hours)


def test_weekends_start_later(quiet: list[Activity], people: dict[str, Person]) -> None:
    early: dict[bool, list[bool]] = {True: [], False: []}
    for event in quiet:
        local_ms = event.event_time_ms + people[event.user_id].city.utc_offset_minutes * 60_000
        weekend = (local_ms // DAY_MS + 3) % 7 >= 5
        early[weekend].append(5 <= local_ms // HOUR_MS % 24 < 9)

    assert statistics.mean(early[False]) > 1.5 * statistics.mean(early[True])


def test_households_share_an_address(quiet: list[Activity], people: dict[str, Person]) -> None:
    users_by_ip = defaultdict(set)
    for event in quiet:
        users_by_ip[event.ip].add(event.user_id)
    homes = {person.household.ip: person.household for person in people.values()}
    shared = [ip for ip, users in users_by_ip.items() if ip in homes and len(users) > 1]

    assert len(shared) > 60
    for ip in shared:
        assert {people[user].household for user in users_by_ip[ip]} == {homes[ip]}


def test_mobile_addresses_change_and_some_lines_have_ipv6(quiet: list[Activity]) -> None:
    addresses = defaultdict(set)
    for event in quiet:
        if event.ip is not None and event.ip.startswith("248."):
            addresses[event.user_id].add(event.ip)

    assert statistics.mean(len(each) > 1 for each in addresses.values()) > 0.5
    assert 0.03 < statistics.mean(":" in (event.ip or "") for event in quiet) < 0.4


def test_travellers_fly_at_the_speed_of_planes(quiet: list[Activity], people: dict[str, Person]) -> None:
    flights = 0
    for user, events in by_user(quiet).items():
        if people[user].uses_vpn:
            continue
        placed = [(event.event_time_ms, nearest_city(event)) for event in events if event.latitude is not None]
        for (start_ms, origin), (end_ms, destination) in itertools.pairwise(placed):
            if origin is not destination:
                flights += 1
                # A session that began before boarding may end in the air.
                assert end_ms - start_ms > flight_ms(origin, destination) - HOUR_MS
                assert distance_km(origin, destination) / (end_ms - start_ms) * HOUR_MS < 900

    assert flights > 20


def test_phones_payees_and_cards_are_new_once_in_a_while(quiet: list[Activity]) -> None:
    users = by_user(quiet)
    late = orderly(600, days=6, history_days=0).begin_ms + 3 * DAY_MS
    for field, least in (("device_id", 10), ("payee_id", 20), ("card_id", 5)):
        newcomers = 0
        for events in users.values():
            values = [(event.event_time_ms, value) for event in events if (value := getattr(event, field, None))]
            known = {value for time_ms, value in values if time_ms < late}
            newcomers += bool(known and {value for _, value in values} - known)
        assert newcomers >= least, field


def test_everybody_spends_in_their_own_way(quiet: list[Activity], people: dict[str, Person]) -> None:
    means = {}
    for user, events in by_user(quiet).items():
        amounts = [
            event.amount_minor
            for event in events
            if isinstance(event, Payment) and event.merchant_id and event.currency == "EUR"
        ]
        if len(amounts) >= 10 and people[user].persona.name == "shopper":
            means[user] = statistics.median(amounts)

    assert len(means) > 20
    assert max(means.values()) > 4 * min(means.values())
    assert len({event.currency for event in quiet if isinstance(event, Payment)}) >= 10


def test_memory_does_not_grow_with_the_days() -> None:
    peaks = []
    for days in (3, 30):
        tracemalloc.start()
        collections.deque(simulate(SimulationConfig(users=100, days=days, history_days=0)), maxlen=0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.5 * peaks[0]


# Delivery


def test_without_disorder_every_event_arrives_once_in_order() -> None:
    arrivals = list(simulate(orderly()))
    times = [event_of(arrival).event_time_ms for arrival in arrivals]

    assert {arrival.kind for arrival in arrivals} == {"event"}
    assert times == sorted(times)
    assert len({event_of(arrival).event_id for arrival in arrivals}) == len(arrivals)


def test_disorder_comes_at_the_rates_asked_for() -> None:
    delivery = Delivery(delayed=0.2, late=0.1, duplicates=0.08, conflicts=0.04, malformed=0.06)
    arrivals = list(simulate(SimulationConfig(users=600, delivery=delivery)))
    kinds = Counter(arrival.kind for arrival in arrivals)
    firsts = [arrival for arrival in arrivals if arrival.kind == "event"]
    lags = [arrival.received_ms - event_of(arrival).event_time_ms for arrival in firsts]
    late = [lag for lag in lags if lag > 300_000]
    delayed = [lag for lag in lags if 50 < lag <= 300_000]

    assert arrivals == sorted(arrivals, key=lambda arrival: arrival.received_ms)
    # Duplicates of malformed messages count as malformed; conflicts need a well-formed one.
    assert kinds["malformed"] / (len(firsts) / 0.94) == pytest.approx(0.06 * 1.08, rel=0.15)
    assert kinds["duplicate"] / len(firsts) == pytest.approx(0.08, rel=0.15)
    assert kinds["conflict"] / len(firsts) == pytest.approx(0.04, rel=0.15)
    assert len(late) / len(firsts) == pytest.approx(0.1, rel=0.15)
    assert len(delayed) / len(firsts) == pytest.approx(0.2 * 0.9, rel=0.15)
    assert 0.6 < statistics.mean(lag < 2_050 for lag in delayed) < 0.95
    assert max(delayed) > 100_000
    assert 0.1 < statistics.mean(lag > HOUR_MS for lag in late) < 0.6


def test_duplicates_are_the_same_bytes_and_conflicts_the_same_id_with_other_content_later() -> None:
    delivery = Delivery(delayed=0.05, late=0.01, duplicates=0.1, conflicts=0.1, malformed=0)
    seen: dict[str, bytes] = {}
    kinds: Counter[str] = Counter()
    for arrival in simulate(SimulationConfig(users=100, delivery=delivery)):
        event = event_of(arrival)
        kinds[arrival.kind] += 1
        if arrival.kind == "event":
            assert event.event_id not in seen
            seen[event.event_id] = arrival.payload
        elif arrival.kind == "duplicate":
            assert seen[event.event_id] == arrival.payload
        else:
            assert seen[event.event_id] != arrival.payload
            assert event.user_id in seen[event.event_id].decode()
    assert min(kinds["duplicate"], kinds["conflict"]) > 50


def test_the_parser_takes_every_event_and_refuses_every_malformed_message() -> None:
    delivery = Delivery(malformed=0.5)
    reasons: Counter[str] = Counter()
    for arrival in simulate(SimulationConfig(users=200, delivery=delivery, label_events=True)):
        parsed = parse(Message(arrival.payload, arrival.received_ms, "test"))
        if arrival.kind == "malformed":
            assert isinstance(parsed, DeadLetter), arrival
            reasons[parsed.reason] += 1
        else:
            assert isinstance(parsed, Envelope), (arrival, parsed)

    assert len(reasons) >= 9, reasons
    assert sum(reasons.values()) > 20 * len(MALFORMATIONS)


def test_clients_write_times_in_several_ways() -> None:
    styles: Counter[str] = Counter()
    for arrival in simulate(orderly(users=100)):
        time = json.loads(arrival.payload)["event_time"]
        styles["epoch" if isinstance(time, int) else "utc" if time.endswith("Z") else "offset"] += 1

    assert set(styles) == {"epoch", "utc", "offset"}
    assert styles["epoch"] < 0.3 * styles.total()


# Attacks


def attacks_of(
    scenario: str, intensity: float, count: int = 12, users: int = 400
) -> tuple[dict[str, list[Activity]], list[Activity]]:
    """Events of a scenario's attacks by attack id, and the ordinary ones."""
    verdicts = scenario == "chargeback_fraud"
    plan = {scenario: AttackPlan(count, intensity)}
    attacks, others = defaultdict(list), []
    for arrival in simulate(orderly(users, attack_rate=0, attacks=plan, label_events=verdicts)):
        event = event_of(arrival)
        if isinstance(event, Label):
            assert verdicts
            continue
        if arrival.label is None:
            others.append(event)
        else:
            assert (arrival.label.scenario, arrival.label.intensity) == (scenario, intensity)
            attacks[arrival.label.attack_id].append(event)
    return attacks, others


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("intensity", [0.05, 1.0])
def test_each_scenario_plays_as_often_and_as_loud_as_asked(scenario: str, intensity: float) -> None:
    attacks, others = attacks_of(scenario, intensity, count=5)
    first_day_ms = orderly().start_ms

    assert len(attacks) == 5
    assert min(event.event_time_ms for events in attacks.values() for event in events) >= first_day_ms
    for events in () if scenario in NEW_ACCOUNTS else attacks.values():
        victims = {event.user_id for event in events}
        past = [event for event in others if event.user_id in victims and event.event_time_ms < first_day_ms]
        assert past, "a victim has a history"


@pytest.mark.parametrize(
    "plan", [{"attack_rate": 0.0}, {"attacks": {name: AttackPlan(0) for name in SCENARIOS}},
             {"attacks": {name: AttackPlan(50, 0.0) for name in SCENARIOS}}]
)  # fmt: skip
def test_no_attacks_where_none_are_wanted(plan: dict[str, Any]) -> None:
    arrivals = list(simulate(SimulationConfig(users=100, **plan)))

    assert arrivals
    assert all(arrival.label is None for arrival in arrivals)


def test_by_default_there_are_careful_attacks_and_loud_ones_of_each_scenario() -> None:
    intensities = defaultdict(set)
    for arrival in fully_labelled(1500):
        if arrival.label is not None:
            intensities[arrival.label.scenario].add(arrival.label.intensity)

    for scenario in SCENARIOS:
        assert min(intensities[scenario]) < 0.3
        assert max(intensities[scenario]) > 0.7


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_careful_attackers_take_their_time(scenario: str) -> None:
    def pauses(intensity: float) -> list[int]:
        attacks, _ = attacks_of(scenario, intensity)
        return [
            later.event_time_ms - earlier.event_time_ms
            for events in attacks.values()
            for earlier, later in itertools.pairwise(events)
        ]

    assert statistics.median(pauses(0.1)) > 5 * statistics.median(pauses(1.0))


@pytest.mark.parametrize("intensity", [0.1, 1.0])
def test_credential_stuffing_tries_many_accounts_a_few_times(intensity: float) -> None:
    attacks, _ = attacks_of("credential_stuffing", intensity, count=4)
    for events in attacks.values():
        logins = [event for event in events if isinstance(event, Login)]
        tries = Counter(event.user_id for event in logins)
        assert len(tries) >= 10
        assert max(tries.values()) <= 3
        assert len({event.ip for event in logins}) >= 5
        successes = sum(event.outcome == "success" for event in logins)
        assert 1 <= successes < 0.3 * len(tries)


@pytest.mark.parametrize("intensity", [0.1, 1.0])
def test_brute_force_keeps_to_one_account(intensity: float) -> None:
    attacks, _ = attacks_of("brute_force", intensity, count=30)
    outcomes: Counter[str] = Counter()
    for events in attacks.values():
        assert len({event.user_id for event in events}) == 1
        failures = sum(isinstance(event, Login) and event.outcome == "failure" for event in events)
        assert failures >= 12
        assert len(events) - failures <= 1
        outcomes["in"] += len(events) - failures
    assert 0 < outcomes["in"] < len(attacks)


@pytest.mark.parametrize("intensity", [0.1, 1.0])
def test_account_takeover_fails_gets_in_from_a_new_device_and_takes_money_out(intensity: float) -> None:
    attacks, others = attacks_of("account_takeover", intensity)
    known = by_user(others)
    transfers = 0
    for events in attacks.values():
        outcomes = [event.outcome for event in events if isinstance(event, Login)]
        payments = [event for event in events if isinstance(event, Payment)]
        user = events[0].user_id
        assert outcomes[-1] == "success"
        assert set(outcomes[:-1]) == {"failure"}
        assert payments
        assert payments[0].event_time_ms > max(e.event_time_ms for e in events if isinstance(e, Login))
        before = [event for event in known[user] if event.event_time_ms < events[0].event_time_ms]
        assert events[0].device_id is None or events[0].device_id not in {e.device_id for e in before}
        new_payees = {e.payee_id for e in payments} - {getattr(e, "payee_id", None) for e in before}
        transfers += bool(new_payees)
    assert transfers >= len(attacks) / 3


@pytest.mark.parametrize("intensity", [0.1, 1.0])
def test_impossible_travel_is_impossible(intensity: float) -> None:
    attacks, others = attacks_of("impossible_travel", intensity)
    known = by_user(others)
    speeds = []
    for events in attacks.values():
        first = events[0]
        before = [
            event
            for event in known[first.user_id]
            if event.event_time_ms <= first.event_time_ms and event.latitude is not None
        ]
        if first.latitude is None or not before:
            continue
        there = before[-1]
        here, home = nearest_city(first), nearest_city(there)
        hours = max(first.event_time_ms - there.event_time_ms, 60_000) / HOUR_MS
        speeds.append(distance_km(here, home) / hours)
    assert len(speeds) >= len(attacks) / 2
    assert statistics.mean(speed > 1_000 for speed in speeds) >= 0.9


@pytest.mark.parametrize(("intensity", "least"), [(0.1, 2.5), (1.0, 12)])
def test_spending_spikes_stand_out_against_the_users_own_history(intensity: float, least: float) -> None:
    attacks, others = attacks_of("spending_spike", intensity)
    known = by_user(others)
    ratios = []
    for events in attacks.values():
        usual = [
            event.amount_minor
            for event in known[events[0].user_id]
            if isinstance(event, Payment) and event.event_time_ms < events[0].event_time_ms
        ]
        spent = max(event.amount_minor for event in events if isinstance(event, Payment))
        if len(usual) >= 3:
            ratios.append(spent / statistics.mean(usual))
    assert len(ratios) >= 6
    assert statistics.median(ratios) > least


@pytest.mark.parametrize("intensity", [0.1, 1.0])
def test_card_testing_makes_many_small_payments_with_several_cards(intensity: float) -> None:
    attacks, others = attacks_of("card_testing", intensity)
    usual: dict[str, float] = {}
    for currency in {event.currency for event in others if isinstance(event, Payment)}:
        usual[currency] = statistics.median(
            event.amount_minor for event in others if isinstance(event, Payment) and event.currency == currency
        )
    for events in attacks.values():
        payments = [event for event in events if isinstance(event, Payment)]
        assert len(payments) >= 6
        assert len({event.card_id for event in payments}) >= 3
        assert statistics.median(event.amount_minor / usual[event.currency] for event in payments) < 0.5


def test_labels_name_events_that_arrived_each_once_and_no_others() -> None:
    arrivals = list(simulate(SimulationConfig(users=300, delivery=Delivery(duplicates=0.1, malformed=0.1))))
    ids = Counter(event_of(arrival).event_id for arrival in arrivals if arrival.kind == "event")
    labelled = Counter(arrival.label.event_id for arrival in arrivals if arrival.label is not None)

    assert set(ids.values()) == {1}
    assert set(labelled.values()) == {1}
    assert set(labelled) < set(ids)
    for arrival in arrivals:
        if arrival.label is not None:
            assert arrival.label.event_id == event_of(arrival).event_id
            assert not re.search(
                rb"attack|scenario|intensity|fraud|" + arrival.label.scenario.encode(), arrival.payload
            )


def test_attackers_do_not_stand_out_by_form() -> None:
    """Names, shapes and catalogue values of attackers' events all occur in ordinary ones, about as often."""
    shapes: dict[bool, dict[str, Counter[str]]] = {True: defaultdict(Counter), False: defaultdict(Counter)}
    totals: Counter[bool] = Counter()
    config = orderly(1500)
    merchants = {each.merchant_id for catalogue in World(config).merchants.values() for each in catalogue}
    for arrival in simulate(config):
        document = json.loads(arrival.payload)
        assert document.get("merchant_id") is None or document["merchant_id"] in merchants
        attack = arrival.label is not None
        totals[attack] += 1
        names = ", ".join([*document, *document.get("attributes", {})])
        shapes[attack]["fields"][f"{document['event_type']}: {names}"] += 1
        for name, value in [*document.items(), *document.pop("attributes", {}).items()]:
            if name == "ip":
                shape = value.split(".")[0].split(":")[0]
            elif name in ("user_agent", "country", "currency", "outcome", "event_type"):
                shape = str(value)
            elif isinstance(value, float | int):
                shape = type(value).__name__
            else:
                shape = re.sub(r"[0-9a-f]", "h", str(value))
            shapes[attack][name][shape] += 1

    for name, counts in shapes[True].items():
        unseen = sum(count for shape, count in counts.items() if shape not in shapes[False][name])
        assert unseen <= 0.002 * totals[True], (name, set(counts) - set(shapes[False][name]))
    for name in ("device_id", "latitude", "user_agent"):
        given = [sum(shapes[attack][name].values()) / totals[attack] for attack in (True, False)]
        assert given[0] == pytest.approx(given[1], abs=0.1), name


# Verdicts


def test_verdicts_follow_only_when_asked_for() -> None:
    assert not any(isinstance(event_of(a), Label) for a in simulate(orderly(100)))


def test_verdicts_come_later_and_are_about_events_of_the_traffic() -> None:
    events, labels, frauds = {}, [], set()
    for arrival in fully_labelled(1500):
        event = event_of(arrival)
        if isinstance(event, Label):
            labels.append(event)
            assert event.target_event_id in events
        else:
            events[event.event_id] = event
            if arrival.label is not None:
                frauds.add(event.event_id)

    assert {label.source for label in labels} == {"chargeback", "analyst", "customer"}
    assert {label.is_fraud for label in labels} == {True, False}
    honest = [label for label in labels if label.target_event_id not in frauds]
    assert all(label.is_fraud for label in labels if label.target_event_id in frauds)
    assert 0 < sum(label.is_fraud for label in honest) < 0.01 * len(events), "honest customers dispute a few payments"
    for label in labels:
        target = events[label.target_event_id]
        assert (label.user_id, label.target_event_time_ms) == (target.user_id, target.event_time_ms)
        assert label.event_time_ms > target.event_time_ms
        for name in ("merchant_id", "card_id", "device_id", "ip", "payee_id"):
            assert getattr(label, name) == getattr(target, name, None)
        assert label.source != "chargeback" or isinstance(target, Payment)


# Configuration and pace


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"users": 0}, "users is 0"),
        ({"days": 0}, "days is 0"),
        ({"history_days": -1}, "-1"),
        ({"seed": -1}, "-1"),
        ({"attack_rate": float("nan")}, "nan"),
        ({"start_ms": 0}, "before 2000"),
        ({"start_ms": 253_402_300_799_999}, "after 9998"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(settings: dict[str, Any], shown: str) -> None:
    with pytest.raises(ValueError, match=shown):
        SimulationConfig(**settings)


def test_wrong_rates_plans_and_scenarios_are_refused() -> None:
    with pytest.raises(ValueError, match=r"late rate is 1\.5"):
        Delivery(late=1.5)
    with pytest.raises(ValueError, match="is -1"):
        AttackPlan(-1)
    with pytest.raises(ValueError, match="intensity is 2"):
        AttackPlan(1, 2)
    with pytest.raises(ValueError, match="no attack scenario 'heist'; there are account_takeover"):
        simulate(SimulationConfig(attacks={"heist": AttackPlan(1)}))


def test_a_message_is_due_by_the_pace_asked_for() -> None:
    assert [SpeedUp(0, lambda: 50.0).due(ms, 0) for ms in (1_000, 9_000)] == [0, 0]
    faster = SpeedUp(60, lambda: 50.0)
    assert [faster.due(ms, 0) for ms in (600_000, 660_000, 720_000)] == [50, 51, 52]
    assert [Rate(10, lambda: 50.0).due(ms, number) for number, ms in enumerate((5, 900))] == [50, 50.1]
    assert WallClock().due(1_500, 3) == 1.5


def test_waiting_ends_when_told_to_stop() -> None:
    naps: list[int] = []

    wait_until(float("inf"), lambda: len(naps) >= 2, lambda: naps.append(1))

    assert len(naps) == 2
