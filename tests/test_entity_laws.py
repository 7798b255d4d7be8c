"""The laws of the entity stage, against an oracle by brute force: hostile orders, redelivery, labels of all kinds."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
from entity_oracle import OracleEntity, differing
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import laws

from transforms.entities import Entity, load_entities
from transforms.entity_answers import Answer
from transforms.entity_checkpoints import PARTS
from transforms.entity_distinct import STANDARD_ERROR
from transforms.entity_machine import SLACK_MS, EntityMachine
from transforms.entity_state import EntityState
from transforms.events import Activity, Claim, Event, Label, Login, Payment, Signup

ZERO = 1_700_000_000_000
DAY = 86_400_000

DECLARED = """
entities:
  merchant:
    key: merchant_id
    features:
      event_count: [10s, 1d]
      login_count: [10s]
      login_failure_count: [1m, 1d]
      signup_count: [1m]
      claim_count: [1m]
      payment_count: [1s, 10s, 1m, 1d]
      payment_amount_minor: [10s, 1d]
      distinct_user_count: [10s, 1m, 1d]
      distinct_card_count: [1m]
      payer_count: {aggregate: distinct, field: user_id, of: [payment], windows: [10s, 1m]}
      driver_count: {aggregate: distinct, field: attributes.driver_id, windows: [1m]}
      delayed_payment_count: {delay: 10s, windows: [10s, 1d]}
      fraud_share: {delay: 10s, windows: [1m, 1d]}
      fraud_count: {delay: 10s, windows: [1m]}
      labelled_count: {delay: 10s, windows: [1m]}
      dispute_count: {aggregate: fraud_count, delay: 0s, windows: [10s, 1d]}
      dispute_share: {aggregate: fraud_share, delay: 0s, windows: [1m]}
  account:
    key: user_id
    events: [payment, login_success]
    fed_by: {role: incoming, key: payee_id}
    features:
      event_count: [1m]
      incoming_count: {aggregate: count, of: [payment], role: incoming, windows: [10s, 1m]}
      incoming_amount_minor: {aggregate: sum, role: incoming, windows: [10s]}
      distinct_payer_count: {aggregate: distinct, field: user_id, of: [payment], role: incoming, windows: [10s, 1m]}
      outgoing_amount_minor: {aggregate: sum, windows: [10s]}
      dispute_count: {aggregate: fraud_count, delay: 0s, windows: [1m]}
"""
MERCHANT, ACCOUNT = load_entities(DECLARED, "test").entities

STEPS_MS = (0, 0, 1, 999, 1_000, 5_000, 9_999, 10_000, 10_001, 19_999, 20_000, 59_999, 60_000, 60_001, 3_600_000)
LEAPS_MS = (*STEPS_MS, DAY - 1, DAY, DAY + 1, DAY + 10_000, SLACK_MS, 2 * DAY + 10_000, 2 * DAY + 10_001, 5 * DAY)

Op = tuple[Event, int]
"""What arrives, and in which role: 1 for events that name the entity as their other side."""


@st.composite
def arrivals(draw: st.DrawFn, steps: tuple[int, ...], roles: int = 1, most: int = 24) -> list[Op]:
    """Events and labels of one entity, in a hostile order of arrival, some of them more than once."""
    times, now = [], ZERO
    for _ in range(draw(st.integers(1, most))):
        now += draw(st.sampled_from(steps))
        times.append(now)
    kinds = ("payment", "payment", "payment", "failure", "success", "signup", "claim", "label", "label")
    ops: list[Op] = []
    for n, time_ms in enumerate(times):
        kind = draw(st.sampled_from(kinds))
        if kind == "label":
            target = draw(st.integers(0, len(times)))
            lead = draw(st.sampled_from((0, 0, 1, 10_000)))
            label = Label(
                event_id=f"e{n}",
                user_id="u0",
                event_time_ms=time_ms - lead,
                target_event_id=f"e{target}",
                target_event_time_ms=times[target] if target < len(times) else ZERO,
                is_fraud=draw(st.booleans()),
                source="chargeback",
            )
            ops.append((label, 0))
        else:
            ops.append((event_of(draw, kind, f"e{n}", time_ms), draw(st.integers(0, roles - 1))))
    ops += draw(st.lists(st.sampled_from(ops), max_size=4))
    return draw(st.permutations(ops)) if draw(st.booleans()) else ops


def event_of(draw: st.DrawFn, kind: str, event_id: str, time_ms: int) -> Activity:
    user = draw(st.sampled_from(("u0", "u1", "u2")))
    attributes: Any = draw(st.sampled_from((None, {"driver_id": "d1"}, {"driver_id": 2}, {"other": "x"})))
    common = {"event_id": event_id, "user_id": user, "event_time_ms": time_ms, "attributes": attributes}
    if kind == "payment":
        card = draw(st.sampled_from((None, "c0", "c1")))
        return Payment(**common, amount_minor=draw(st.integers(0, 10**12)), currency="EUR", card_id=card)
    if kind == "signup":
        return Signup(**common)
    if kind == "claim":
        return Claim(**common, promotion_id="p0")
    return Login(**common, outcome=kind)  # type: ignore[arg-type]


@dataclass
class Played:
    """A machine and its state, encoded and decoded after each step as a runner would."""

    machine: EntityMachine
    data: bytes | None = None
    largest: int = 0

    def take(self, event: Event, role: int = 0) -> Answer | None:
        state: EntityState | None = None if self.data is None else self.machine.decode(self.data)
        answer = None
        if isinstance(event, Label):
            state = self.machine.on_label(state, event)
        elif role:
            state = self.machine.on_feed(state, event)
        else:
            state, answer = self.machine.on_event(state, event)
        self.data = self.machine.encode(state)
        self.largest = max(self.largest, len(self.data))
        return answer


def check(entity: Entity, ops: list[Op]) -> int:
    """Plays against the oracle. Returns how many answers were flagged; the others must be exact."""
    played, oracle, flagged = Played(EntityMachine(entity)), OracleEntity(entity), 0
    for event, role in ops:
        oracle.accept(event, role)
        answer = played.take(event, role)
        if answer is not None:
            assert not isinstance(event, Label)
            flagged += answer.approximate
            if not answer.approximate:
                assert not differing(entity, answer.values, oracle.answer(event))
    return flagged


@laws(3)
@given(arrivals(STEPS_MS))
def test_an_answer_is_a_function_of_the_accepted_set_in_any_order(ops: list[Op]) -> None:
    assert check(MERCHANT, ops) == 0, "nothing was given up, nothing may be called approximate"


@laws()
@given(arrivals(STEPS_MS, roles=2))
def test_two_roles(ops: list[Op]) -> None:
    ops = [op for op in ops if isinstance(op[0], Payment | Label)]
    assert check(ACCOUNT, ops) == 0


@laws()
@given(arrivals(LEAPS_MS))
def test_over_days_what_is_not_flagged_is_exact(ops: list[Op]) -> None:
    check(MERCHANT, ops)


@laws()
@given(arrivals(LEAPS_MS))
def test_in_order_over_days_nothing_is_approximate(ops: list[Op]) -> None:
    ops = sorted(ops, key=lambda op: (op[0].event_time_ms, not isinstance(op[0], Label)))
    ops = [op for op in ops if op[0].event_time_ms >= ZERO]
    assert check(MERCHANT, ops) == 0


@laws(2)
@given(arrivals(LEAPS_MS, most=40))
def test_beyond_the_bound_what_is_not_flagged_is_exact(ops: list[Op]) -> None:
    small = Entity(MERCHANT.name, MERCHANT.keys, MERCHANT.events, MERCHANT.features, "", max_points=4)
    check(small, ops)


@laws()
@given(arrivals(STEPS_MS), st.randoms(use_true_random=False))
def test_the_state_is_the_same_in_whatever_order_it_came(ops: list[Op], order: random.Random) -> None:
    first, second = Played(EntityMachine(MERCHANT)), Played(EntityMachine(MERCHANT))
    shuffled = [*ops, *ops[:3]]
    order.shuffle(shuffled)
    probe = Payment(event_id="probe", user_id="u9", event_time_ms=ZERO + DAY, amount_minor=1, currency="EUR")
    for event, role in ops:
        first.take(event, role)
    for event, role in shuffled:
        second.take(event, role)
    assert first.take(probe) == second.take(probe)


@laws()
@given(arrivals(STEPS_MS))
def test_a_redelivery_changes_no_byte_and_gets_the_answer_as_of_now(ops: list[Op]) -> None:
    played = Played(EntityMachine(MERCHANT))
    for event, role in ops:
        played.take(event, role)
    for event, role in ops:
        before = played.data
        first, second = played.take(event, role), played.take(event, role)
        assert first == second
        assert played.data == before


def payment(n: int, time_ms: int, **fields: Any) -> Payment:
    values = {"user_id": "u0", "amount_minor": 100, "currency": "EUR", **fields}
    return Payment(event_id=f"p{n}", event_time_ms=time_ms, **values)


def label(n: int, time_ms: int, target: Payment, is_fraud: bool) -> Label:
    return Label(
        event_id=f"l{n}",
        user_id="u0",
        event_time_ms=time_ms,
        target_event_id=target.event_id,
        target_event_time_ms=target.event_time_ms,
        is_fraud=is_fraud,
        source="chargeback",
    )


def named(entity: Entity, answer: Answer | None) -> dict[str, Any]:
    assert answer is not None
    return dict(zip((f.feature.name for f in entity.features), answer.values, strict=True))


def test_a_verdict_counts_from_its_own_time_on_and_can_be_taken_back() -> None:
    played = Played(EntityMachine(MERCHANT))
    target = payment(0, ZERO)
    played.take(target)
    played.take(label(1, ZERO + 30_000, target, True))
    played.take(label(2, ZERO + 40_000, target, False))
    played.take(label(1, ZERO + 30_000, target, True))  # again
    for n, (second, share) in enumerate(((29.999, 0.0), (30, 1.0), (39.999, 1.0), (40, 0.0))):
        asked = Login(event_id=f"a{n}", user_id="u0", event_time_ms=ZERO + round(second * 1000), outcome="success")
        assert named(MERCHANT, played.take(asked))["merchant_fraud_share_1m"] == share


def test_a_verdict_may_come_before_its_payment() -> None:
    played = Played(EntityMachine(MERCHANT))
    target = payment(0, ZERO)
    played.take(label(1, ZERO + 5_000, target, True))
    asked = payment(1, ZERO + 20_000)
    assert named(MERCHANT, played.take(asked))["merchant_fraud_count_1m"] == 0
    played.take(target)
    assert named(MERCHANT, played.take(asked))["merchant_fraud_count_1m"] == 1


@pytest.mark.parametrize("rate_ms", [1, 20, 300])
@pytest.mark.parametrize("disorder", [0, 5_000])
def test_a_hot_entity_keeps_within_its_stated_error_and_bytes(rate_ms: int, disorder: int) -> None:
    chance = random.Random(rate_ms)
    machine = EntityMachine(MERCHANT)
    oracle = OracleEntity(MERCHANT)
    state: EntityState | None = None
    events = []
    for n in range(6_000):
        time_ms = ZERO + n * rate_ms
        user, card = f"u{chance.randrange(2_000)}", f"c{chance.randrange(300)}"
        events.append(payment(n, time_ms, user_id=user, card_id=card, amount_minor=chance.randrange(10_000)))
    arriving = sorted(events, key=lambda e: e.event_time_ms + chance.randrange(disorder + 1))
    sizes, errors, flagged = [], [], 0
    for n, event in enumerate(arriving):
        state, answer = machine.on_event(state, event)
        oracle.accept(event)
        if n % 601 == 600:
            state = machine.decode(machine.encode(state))
            sizes.append(len(machine.encode(state)))
            flagged += answer.approximate
            want = oracle.answer(event)
            for feature, g, w in zip(MERCHANT.features, answer.values, want, strict=True):
                if feature.aggregate in ("count", "sum", "payment_count"):
                    reach = feature.window_ms // PARTS + 1
                    now, until = event.event_time_ms, event.event_time_ms - feature.delay_ms
                    edges = [until - feature.window_ms, until]
                    near = [
                        e
                        for _, e in oracle.events.values()
                        if any(abs(e.event_time_ms - edge) <= reach for edge in edges) and e.event_time_ms <= now
                    ]
                    slack = sum(e.amount_minor for e in near) if feature.aggregate == "sum" else len(near)
                    assert abs(g - w) <= slack + 1, feature.feature.name
                elif feature.aggregate == "distinct" and w:
                    # Of a late event the window reaches up to the newest one.
                    newest = max(oracle.events.values(), key=lambda known: known[1].event_time_ms)[1]
                    lateness_ms = newest.event_time_ms - event.event_time_ms
                    longer = replace(feature, window_ms=feature.window_ms + lateness_ms)
                    most = oracle.feature(longer, newest)
                    errors.append(max(0, g - most) / most - max(0, w - g) / w)
    assert flagged
    assert max(sizes) < 64_000
    assert max(sizes[-3:]) < 1.5 * max(sizes[:3]), "state keeps growing"
    assert max(map(abs, errors)) < 4 * STANDARD_ERROR
    assert math.sqrt(sum(e * e for e in errors) / len(errors)) < STANDARD_ERROR


def test_bytes_are_bounded_whatever_comes() -> None:
    chance = random.Random(7)
    played = Played(EntityMachine(MERCHANT))
    sizes = []
    for n in range(4_000):
        time_ms = ZERO + chance.randrange(40 * DAY) + n * 60_000
        target = payment(n, time_ms, user_id=f"u{n}", card_id=f"c{n}", attributes={"driver_id": n})
        played.take(target)
        played.take(label(n, time_ms + chance.randrange(DAY), target, n % 2 == 0))
        sizes.append(played.largest)
    assert sizes[-1] < 64_000
    assert sizes[-1] < 1.2 * sizes[2_000]


def test_idle_state_is_forgotten_when_no_window_can_reach_it() -> None:
    machine = EntityMachine(MERCHANT)
    state, _ = machine.on_event(None, payment(0, ZERO))
    assert machine.expires_ms(state) == ZERO + MERCHANT.horizon_ms + SLACK_MS
    state = machine.on_label(state, label(0, ZERO + DAY, payment(0, ZERO), True))
    assert machine.expires_ms(state) == ZERO + DAY + MERCHANT.horizon_ms + SLACK_MS


def test_points_that_no_window_can_reach_are_dropped() -> None:
    alone, long_after = Played(EntityMachine(MERCHANT)), Played(EntityMachine(MERCHANT))
    reach_ms = MERCHANT.horizon_ms + SLACK_MS
    for n in range(20):
        long_after.take(payment(n, ZERO + n))
        long_after.take(label(n, ZERO + n, payment(n, ZERO + n), True))
    long_after.take(payment(99, ZERO + 19 + reach_ms))
    alone.take(payment(99, ZERO + 19 + reach_ms))
    assert alone.data is not None
    assert long_after.data is not None
    assert len(long_after.data) < len(alone.data) + 64
