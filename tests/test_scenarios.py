"""What each of the later scenarios is, by its events, at both ends of intensity; and their innocent twins."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict

import pytest

from fraud_pipeline.simulate import NO_DISORDER, AttackPlan, SimulationConfig, simulate
from fraud_pipeline.simulate.network import known_anonymizers
from transforms.entity_keys import network_of
from transforms.events import Activity, Claim, Envelope, Label, Login, Message, Payment, Signup
from transforms.parsing import parse

Played = tuple[dict[str, list[Activity]], list[Activity], list[Label]]


@functools.cache
def played(scenario: str, intensity: float, users: int = 400) -> Played:
    """Events by attack, the ordinary ones, and the verdicts, each in order."""
    config = SimulationConfig(
        users=users,
        attack_rate=0,
        attacks={scenario: AttackPlan(10, intensity)} if scenario else {},
        delivery=NO_DISORDER,
        label_events=True,
    )
    attacks: dict[str, list[Activity]] = defaultdict(list)
    others: list[Activity] = []
    verdicts: list[Label] = []
    for arrival in simulate(config):
        parsed = parse(Message(arrival.payload, arrival.received_ms, "test"))
        assert isinstance(parsed, Envelope)
        if isinstance(parsed.event, Label):
            verdicts.append(parsed.event)
        elif arrival.label is None:
            others.append(parsed.event)
        else:
            attacks[arrival.label.attack_id].append(parsed.event)
    return attacks, others, verdicts


both_ends = pytest.mark.parametrize("intensity", [0.1, 1.0])


@both_ends
def test_suspicious_logins_succeed_at_once_from_devices_never_seen(intensity: float) -> None:
    attacks, others, _ = played("suspicious_login", intensity)
    anonymizers, hidden = set(known_anonymizers()), 0
    for events in attacks.values():
        assert len(events) >= 2
        assert {event.outcome for event in events if isinstance(event, Login)} == {"success"}
        known = {event.device_id for event in others if event.user_id == events[0].user_id}
        assert events[0].device_id is None or events[0].device_id not in known
        hidden += network_of(events[0].ip or "0.0.0.0") in anonymizers
    assert 0 < hidden < len(attacks)


@both_ends
def test_a_stolen_card_is_somebody_elses_and_goes_round_the_shops(intensity: float) -> None:
    attacks, others, _ = played("stolen_card_spree", intensity)
    owners = defaultdict(set)
    for event in others:
        if isinstance(event, Payment) and event.card_id:
            owners[event.card_id].add(event.user_id)
    for events in attacks.values():
        payments = [event for event in events if isinstance(event, Payment)]
        assert len({event.merchant_id for event in payments}) >= 3
        assert {event.user_id for event in payments}.isdisjoint(owners[str(payments[0].card_id)])
    assert any(owners[str(events[-1].card_id)] for events in attacks.values() if isinstance(events[-1], Payment))


@both_ends
def test_a_mule_is_paid_by_several_and_pays_on_within_a_minute(intensity: float) -> None:
    attacks, _, _ = played("mule_account", intensity)
    for events in attacks.values():
        payments = [event for event in events if isinstance(event, Payment)]
        accounts = {event.payee_id for event in payments}
        (mule,) = {event.user_id for event in payments} & accounts
        incoming = [event for event in payments if event.payee_id == mule]
        assert len({event.user_id for event in incoming}) >= 2
        first_out = next(event for event in payments if event.user_id == mule)
        last_in = max(e.event_time_ms for e in incoming if e.event_time_ms <= first_out.event_time_ms)
        assert first_out.event_time_ms - last_in < 60_000 * (1 if intensity == 1 else 90)


@both_ends
def test_colluding_rides_are_of_one_phone_now_and_then_or_always(intensity: float) -> None:
    attacks, _, _ = played("ride_collusion", intensity)
    same = []
    for events in attacks.values():
        rides = [event for event in events if isinstance(event, Payment)]
        assert len({event.payee_id for event in rides}) == 1
        same += [(e.attributes or {}).get("driver_device_id") == e.device_id for e in rides if e.device_id]
    assert sum(same) / len(same) > 0.9 if intensity == 1 else 0.1 < sum(same) / len(same) < 0.6


@both_ends
def test_fares_are_above_the_quote_for_different_passengers_of_one_driver(intensity: float) -> None:
    attacks, _, _ = played("trip_fare", intensity)
    for events in attacks.values():
        rides = [event for event in events if isinstance(event, Payment)]
        over = sum(event.amount_minor / (event.expected_amount_minor or 1) for event in rides) / len(rides)
        assert over > (2.5 if intensity == 1 else 1.15)
        assert len({(event.attributes or {})["driver_id"] for event in rides}) == 1
        assert len({event.user_id for event in rides}) >= 2


@both_ends
def test_bonus_abuse_makes_accounts_on_few_devices_that_claim(intensity: float) -> None:
    attacks, others, _ = played("bonus_abuse", intensity)
    everybody = {event.user_id for event in others}
    for events in attacks.values():
        accounts = {event.user_id for event in events if isinstance(event, Signup)}
        assert accounts.isdisjoint(everybody)
        devices = {event.device_id for event in events}
        assert len(accounts) >= 2 * len(devices)
        assert sum(isinstance(event, Claim) for event in events) > len(accounts) / 2


@both_ends
def test_affiliates_bring_accounts_that_hardly_return(intensity: float) -> None:
    attacks, _, _ = played("affiliate_fraud", intensity)
    for events in attacks.values():
        signups = [event for event in events if isinstance(event, Signup)]
        assert len({event.referrer_id for event in signups}) == 1
        assert len({event.ip for event in signups}) > 0.8 * len(signups)
        assert sum(isinstance(event, Login) for event in events) <= 0.7 * len(signups)


@both_ends
def test_chargeback_fraud_was_disputed_twice_before_it_goes_on(intensity: float) -> None:
    attacks, _, verdicts = played("chargeback_fraud", intensity)
    for events in attacks.values():
        first_ms = events[0].event_time_ms
        before = [label for label in verdicts if label.is_fraud and label.event_time_ms < first_ms]
        users, merchants = Counter(v.user_id for v in before), Counter(v.merchant_id for v in before)
        last = events[-1]
        assert isinstance(last, Payment)
        assert max(users[last.user_id], merchants[last.merchant_id]) >= 2


@both_ends
def test_an_anomalous_hour_has_usual_amounts_and_unusual_numbers(intensity: float) -> None:
    attacks, _, _ = played("hourly_anomaly", intensity)
    for events in attacks.values():
        assert len(events) >= (40 if intensity == 1 else 10)
        assert len({event.user_id for event in events}) == 1
        assert len({event.device_id for event in events}) == 1


def test_ordinary_traffic_has_the_innocent_twins() -> None:
    _, others, verdicts = played("", 1.0, users=1500)
    payers, devices, addresses, referrers = (defaultdict(set) for _ in range(4))
    rides, same_phone = 0, 0
    for event in others:
        if isinstance(event, Signup):
            devices[event.device_id].add(event.user_id)
            addresses[event.ip].add(event.user_id)
            if event.referrer_id:
                referrers[event.referrer_id].add(event.user_id)
        elif isinstance(event, Payment) and event.payee_id:
            if event.attributes and "driver_id" in event.attributes:
                rides += 1
                same_phone += event.attributes.get("driver_device_id") == event.device_id
            else:
                payers[event.payee_id].add(event.user_id)
    assert max(map(len, payers.values())) >= 8, "landlords, charities"
    assert max(len(users) for device, users in devices.items() if device) >= 2, "a family's tablet"
    assert max(map(len, addresses.values())) >= 4, "a class, an office"
    assert max(map(len, referrers.values())) >= 4, "a popular partner"
    returned = [any(not isinstance(e, Signup) and e.user_id == user for e in others)
                for users in referrers.values() for user in users]  # fmt: skip
    assert 0.5 < sum(returned) / len(returned) < 1
    assert rides > 100
    assert same_phone < 0.02 * rides
    assert any(isinstance(event, Claim) for event in others)
    assert {label.is_fraud for label in verdicts} == {True, False}, "honest disputes"
