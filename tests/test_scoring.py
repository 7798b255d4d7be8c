"""Scores: how weights combine, where actions begin, and what the rules that ship say of whole stories."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import DAY, HOUR, MINUTE, SECOND, login, payment, record, record_of, rules

from fraud_pipeline.rules import read_rules
from transforms.events import Activity
from transforms.records import Score
from transforms.rules import Thresholds
from transforms.scoring import action, combine, score

WEIGHTS = st.lists(st.floats(0, 1, exclude_min=True), max_size=8)


@given(WEIGHTS)
def test_a_score_is_in_the_unit_interval(weights: list[float]) -> None:
    assert 0.0 <= combine(weights) <= 1.0


@given(WEIGHTS, st.floats(0, 1, exclude_min=True), st.integers(0, 8))
def test_one_more_rule_never_lowers_the_score(weights: list[float], more: float, at: int) -> None:
    assert combine([*weights[:at], more, *weights[at:]]) >= combine(weights)


@given(WEIGHTS.filter(bool), st.data())
def test_a_larger_weight_never_lowers_the_score(weights: list[float], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(weights) - 1))
    larger = data.draw(st.floats(weights[at], 1))
    assert combine([*weights[:at], larger, *weights[at + 1 :]]) >= combine(weights)


@given(WEIGHTS.filter(bool))
def test_a_score_is_no_less_than_its_strongest_rule(weights: list[float]) -> None:
    assert combine(weights) >= round(max(weights), 9)


@given(st.integers(1, 10**6).map(lambda n: n / 10**6))
def test_a_lone_rule_scores_exactly_its_weight(weight: float) -> None:
    assert combine([weight]) == weight
    assert action(combine([weight]), Thresholds(weight, weight)) == "block"


def test_independent_causes() -> None:
    assert combine([]) == 0.0
    assert combine([0.5, 0.5]) == 0.75
    assert combine([0.7, 0.7]) == 0.91
    assert combine([0.2, 1.0]) == 1.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "allow"), (0.499999999, "allow"), (0.5, "review"), (0.899999999, "review"), (0.9, "block"), (1.0, "block")],
)
def test_actions_begin_at_their_thresholds(value: float, expected: str) -> None:
    assert action(value, Thresholds()) == expected


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_score_is_no_milder(a: float, b: float, one: float, other: float) -> None:
    order = ["allow", "review", "block"]
    thresholds = Thresholds(min(one, other), max(one, other))
    low, high = sorted([a, b])
    assert order.index(action(low, thresholds)) <= order.index(action(high, thresholds))


@pytest.mark.parametrize(("review_at", "block_at"), [(0.9, 0.5), (0.0, 0.5), (0.5, 1.5), (float("nan"), 1.0)])
def test_thresholds_out_of_order_are_refused(review_at: float, block_at: float) -> None:
    with pytest.raises(ValueError, match="0 < review_at <= block_at <= 1"):
        Thresholds(review_at, block_at)


def test_a_score_carries_what_explains_it() -> None:
    made = rules("is_new_ip", "login_count_1h > 3", "is_new_device", weight=0.6, head="thresholds: {block_at: 0.8}\n")
    found = record(is_new_ip=True, login_count_1h=4)
    result = score(found, made)
    assert (result.record, result.rules_version) == (found, made.version)
    assert [f.rule_id for f in result.fired] == ["r0", "r1"]
    assert (result.score, result.action) == (0.84, "block")
    quiet = score(record(), made)
    assert (quiet.score, quiet.action, quiet.fired, quiet.rules_version) == (0.0, "allow", (), made.version)


# ------------------------------------------------------------------------------ the rules that ship, on stories

SHIPPED = read_rules()
FAR: dict[str, Any] = {"country": "BR", "latitude": -23.55, "longitude": -46.63}
THIEF: dict[str, Any] = {"device_id": "burner", "ip": "198.51.100.7", **FAR}


def tell(*events: Activity) -> list[Score]:
    """The scores of a story, by features computed from its events alone."""
    ordered = sorted(events, key=lambda e: e.event_time_ms)
    return [score(record_of(e, ordered[:i]), SHIPPED) for i, e in enumerate(ordered)]


def fired(scores: Sequence[Score]) -> set[str]:
    return {f.rule_id for s in scores for f in s.fired}


def habits(days: int = 20) -> list[Activity]:
    """Weeks of an ordinary user: a login and a payment each day, a mistyped password each fifth."""
    events: list[Activity] = []
    for day in range(-days, 0):
        if day % 5 == 0:
            events.append(login(day * DAY - 20 * SECOND, "failure"))
        events += [
            login(day * DAY),
            payment(day * DAY + 2 * MINUTE, 2_000 + 137 * (day % 7), merchant_id=f"m{day % 4}"),
        ]
    return events


def guesses(count: int, every_ms: int, start_ms: int = 0, **fields: Any) -> list[Activity]:
    return [login(start_ms + i * every_ms, "failure", **fields) for i in range(count)]


ATTACKS: dict[str, tuple[list[Activity], list[Activity]]] = {
    # rule: events that must fire it, and the nearest ordinary ones that must not
    "brute_force_burst": (guesses(7, 20 * SECOND, **THIEF), guesses(6, 20 * SECOND)),
    "brute_force_slow": (guesses(10, 2 * HOUR, **THIEF), guesses(6, 2 * HOUR)),
    "credential_stuffing_stranger": (
        [login(0, "failure", **THIEF)],
        [login(0, "failure", ip="198.51.100.7", **{**FAR, "device_id": "phone"})],
    ),
    "account_takeover_login": (
        [*guesses(3, 20 * SECOND, ip="198.51.100.7"), login(2 * MINUTE, **THIEF)],
        [*guesses(2, 20 * SECOND, ip="198.51.100.7"), login(2 * MINUTE, **THIEF)],
    ),
    "account_takeover_after_guessing": (
        [*guesses(8, 20 * SECOND, **THIEF), login(5 * MINUTE, **THIEF)],
        [*guesses(8, 20 * SECOND, **THIEF), login(5 * HOUR)],
    ),
    "account_takeover_new_device_and_country": (
        [login(0, **THIEF)],
        [login(0, device_id="new phone")],
    ),
    "account_takeover_payment": (
        [*guesses(3, 20 * SECOND), login(2 * MINUTE, device_id="burner"), payment(4 * MINUTE, device_id="burner")],
        [*guesses(2, 20 * SECOND), login(2 * MINUTE, device_id="burner"), payment(4 * MINUTE, device_id="burner")],
    ),
    "impossible_travel": (
        [login(0), login(HOUR, **FAR)],
        [login(0), login(12 * HOUR, **FAR)],
    ),
    "card_testing_burst": (
        [login(-MINUTE, device_id="burner"), *[payment(i * MINUTE, 100) for i in range(5)]],
        [login(-MINUTE), *[payment(i * 30 * SECOND, 100) for i in range(19)]],
    ),
    "card_testing_cards": (
        [payment(i * MINUTE, card_id=f"c{i}") for i in range(4)],
        [payment(i * MINUTE, card_id=f"c{i % 3}") for i in range(4)],
    ),
}


def test_there_is_a_story_for_every_rule() -> None:
    """Rules about other entities than the user have examples in the file, which are tried whenever it is loaded."""
    with_examples = {rule.id for rule in SHIPPED.rules if rule.tests.match and rule.tests.no_match}
    assert ATTACKS.keys() | with_examples == {rule.id for rule in SHIPPED.rules}


@pytest.mark.parametrize("rule_id", ATTACKS)
def test_a_rule_fires_on_its_attack_and_not_on_its_ordinary_neighbour(rule_id: str) -> None:
    attack, ordinary = ATTACKS[rule_id]
    past = habits()
    assert rule_id in fired(tell(*past, *attack)[len(past) :])
    assert rule_id not in fired(tell(*past, *ordinary)[len(past) :])


def test_ordinary_weeks_are_allowed() -> None:
    quiet = tell(*habits(30))
    assert {s.action for s in quiet} == {"allow"}


@pytest.mark.parametrize(
    "story",
    [
        pytest.param([login(0, device_id="new phone"), payment(5 * MINUTE, merchant_id="m1")], id="new phone"),
        pytest.param([login(0, ip="203.0.113.9", **FAR), payment(HOUR, **FAR)], id="holiday abroad"),
        pytest.param([*guesses(3, 30 * SECOND), login(3 * MINUTE), payment(5 * MINUTE)], id="forgot the password"),
        pytest.param([payment(i * 3 * MINUTE, 1_500, merchant_id=f"s{i}") for i in range(6)], id="shopping street"),
        pytest.param([payment(0, 5_500, payee_id="new landlord")], id="new payee, known device"),
    ],
)
def test_what_people_do_is_allowed(story: list[Activity]) -> None:
    past = habits()
    assert [s.action for s in tell(*past, *story)[len(past) :]] == ["allow"] * len(story)


def test_a_takeover_is_blocked_before_the_money_leaves() -> None:
    story: list[Activity] = [
        *guesses(7, 10 * SECOND, ip="198.51.100.7"),
        login(2 * MINUTE, **THIEF),
        payment(4 * MINUTE, 9_900, payee_id="mule", **THIEF),
    ]
    past = habits()
    *failures, success, transfer = tell(*past, *story)[len(past) :]
    assert "review" in {s.action for s in failures}
    assert success.action in ("review", "block")
    assert transfer.action == "block"
    assert transfer.score > success.score > max(s.score for s in failures[:5])


def test_a_new_user_is_no_stranger() -> None:
    story: list[Activity] = [
        login(0, "failure"),
        login(MINUTE),
        payment(2 * MINUTE, 50_000, payee_id="p", merchant_id="m", card_id="c"),
    ]
    assert [s.action for s in tell(*story)] == ["allow"] * 3


@pytest.mark.parametrize("missing", list(itertools.combinations(["device_id", "ip", "country", "latitude"], 2)))
def test_leaving_fields_out_hides_no_guessing(missing: tuple[str, ...]) -> None:
    bare: dict[str, Any] = dict.fromkeys(missing)
    past = habits()
    found = tell(*past, *guesses(8, 10 * SECOND, **bare), login(2 * MINUTE, **bare))
    assert [s.action for s in found[-3:]] == ["review"] * 3
