"""The declaration of entities, how events are keyed by them, and the bytes of their state."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from entity_oracle import id_hash
from hypothesis import given
from hypothesis import strategies as st
from strategies import laws
from test_entity_laws import MERCHANT, ZERO, Played, label, payment

from transforms.entities import DEFAULT_ENTITIES, EntityError, load_entities
from transforms.entity_answers import different
from transforms.entity_distinct import SIZE, RecentValues
from transforms.entity_keys import EntityKeys, FieldReader, hash_of, network_of
from transforms.entity_machine import EntityMachine
from transforms.events import Claim, Label, Login, Signup
from transforms.features import FEATURE_INDEX

IP_ONLY = "entities:\n  ip:\n    key: ip\n    features: {event_count: [10s, 1h]}\n"


def test_those_that_ship_cover_the_entities_of_the_field() -> None:
    names = [entity.name for entity in DEFAULT_ENTITIES.entities]
    assert names == ["ip", "network", "device", "card", "merchant", "payee", "account", "referrer", "promotion"]
    features = {f.name: f for f in DEFAULT_ENTITIES.features}
    assert len(features) == len(DEFAULT_ENTITIES.features)
    assert not features.keys() & FEATURE_INDEX.keys()
    assert all(f.help.endswith(".") and f.unit and f.nullable for f in features.values())
    assert features["merchant_fraud_share_7d"].help == (
        "Share of fraud in payments of this merchant in the 7 days up to 7 days ago; unknown without a payment."
    )
    windows = {f.window_ms for entity in DEFAULT_ENTITIES.entities for f in entity.features}
    assert (min(windows), max(windows)) == (10_000, 30 * 86_400_000)


def test_attributes_are_declared_for_rules() -> None:
    (attribute,) = load_entities("attributes: {trip_km: {type: float, unit: km, help: As driven.}}").attributes
    assert (attribute.name, attribute.type, attribute.unit, attribute.help) == ("trip_km", "float", "km", "As driven.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "x.yaml:1: the file must be keys and values, found nothing"),
        ("- ip", "x.yaml:1: the file must be keys and values, found ['ip']"),
        ("entities: [", ": not YAML: "),
        ("entities:\n  ip: {key: ip}\n  ip: {key: ip}", "x.yaml:3: 'ip' stands twice"),
        ("entitys: {}", "x.yaml:1: unknown key 'entitys'; did you mean 'entities'?"),
        (IP_ONLY.replace("key: ip", "key: ipp"), "entity 'ip': key: 'ipp' is no field; did you mean 'ip'?"),
        (IP_ONLY.replace("event_count", "evnt_count"), "x.yaml:4: entity 'ip': unknown feature 'evnt_count'; did you"),
        (IP_ONLY.replace("10s", "10 s"), "windows: '10 s' is no time from 1s to 90d; give a number and s, m, h or d"),
        (IP_ONLY.replace("10s", "1h"), "a window stands twice in 1h, 1h; remove one"),
        (IP_ONLY.replace("ip:", "IP:"), "entity 'IP': no name for an entity; give lower-case letters"),
        (
            IP_ONLY.replace("features", "fetures"),
            "x.yaml:4: entity 'ip': unknown key 'fetures'; did you mean 'features'?",
        ),
        (IP_ONLY.replace("key: ip", "key: ip\n    max_points: 5"), "max_points is '5'; give a number from 16 to 4096"),
        (IP_ONLY.replace("key: ip", "key: ip\n    events: [pay]"), "events: 'pay' isn't known; give one of login,"),
        (
            IP_ONLY.replace("event_count: [10s, 1h]", "n: {aggregate: distinct, windows: 1h}"),
            "feature 'n': field: '' is no field",
        ),
        (
            IP_ONLY.replace("event_count: [10s, 1h]", "n: {aggregate: count, role: out, windows: 1h}"),
            "feature 'n': unknown role 'out'; the entity has no fed_by; leave it out",
        ),
        (
            IP_ONLY.replace("event_count: [10s, 1h]", "n: {aggregate: count, field: ip, windows: 1h}"),
            "feature 'n': 'field' has no meaning for count; leave it out",
        ),
        (
            IP_ONLY.replace("event_count: [10s, 1h]", "fraud_share: {delay: 61d, windows: 30d}"),
            "window 30d and delay reach back more than 90 days",
        ),
        (
            IP_ONLY.replace("event_count: [10s, 1h]", "login_count: [1h]").replace("ip\n", "ip\n    events: claim\n"),
            "login_failure events never reach this entity; add them to its 'events'",
        ),
        (
            "entities: {login: {key: ip, features: 1}}",
            "features must be keys and values, found '1'",
        ),
        (
            "attributes: {a: {type: text}}",
            "x.yaml:1: attribute 'a': type: 'text' isn't known; give one of string, int,",
        ),
        (
            "entities:\n  a: {key: ip, features: {b_event_count: {aggregate: count, windows: 1h}}}\n"
            "  a_b: {key: ip, features: {event_count: 1h}}",
            "x.yaml:3: entity 'a_b': its feature 'a_b_event_count_1h' is already a feature of entity 'a'; rename one",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where_and_how_to_mend_it(text: str, said: str) -> None:
    with pytest.raises(EntityError) as raised:
        load_entities(text, "x.yaml")
    assert said in str(raised.value)
    assert str(raised.value).startswith("x.yaml:")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8::1", "2001:db8::/64"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("::1", "::/64"),
    ],
)
def test_networks(ip: str, network: str) -> None:
    assert network_of(ip) == network


def test_no_network_of_what_is_no_address() -> None:
    with pytest.raises(ValueError, match=r"ip 'x:y' is no address"):
        network_of("x:y")


def entity(name: str) -> Any:
    return next(e for e in DEFAULT_ENTITIES.entities if e.name == name)


def test_events_are_keyed_by_the_field_of_their_entity() -> None:
    login = Login(event_id="e", user_id="u", event_time_ms=1, outcome="success", ip="192.0.2.9", device_id="d")
    keys = {e.name: EntityKeys(e).own(login) for e in DEFAULT_ENTITIES.entities}
    assert {name: key for name, key in keys.items() if key} == {
        "ip": "192.0.2.9",
        "network": "192.0.2.0/24",
        "device": "d",
    }
    paid = payment(1, 2, card_id="c", merchant_id="m", payee_id="p")
    keys = {e.name: EntityKeys(e).own(paid) for e in DEFAULT_ENTITIES.entities}
    assert {name: key for name, key in keys.items() if key} == {
        "card": "c",
        "merchant": "m",
        "payee": "p",
        "account": "u0",
    }
    assert EntityKeys(entity("account")).fed(paid) == "p"
    assert (
        EntityKeys(entity("promotion")).own(Claim(event_id="e", user_id="u", event_time_ms=1, promotion_id="x")) == "x"
    )


def test_a_referrer_is_found_on_the_sign_up_or_on_later_events_that_repeat_it() -> None:
    keys = EntityKeys(entity("referrer"))
    assert keys.own(Signup(event_id="e", user_id="u", event_time_ms=1, referrer_id="r")) == "r"
    assert keys.own(payment(1, 2, attributes={"referrer_id": "r"})) == "r"
    assert keys.own(payment(1, 2)) is None


def test_a_label_reaches_the_entities_that_count_verdicts() -> None:
    verdict = Label(
        event_id="l",
        user_id="u",
        event_time_ms=2,
        target_event_id="e",
        target_event_time_ms=1,
        is_fraud=True,
        source="analyst",
        merchant_id="m",
        payee_id="p",
        ip="192.0.2.9",
    )
    reached = {e.name: EntityKeys(e).own(verdict) for e in DEFAULT_ENTITIES.entities}
    assert {name: key for name, key in reached.items() if key} == {"merchant": "m", "payee": "p", "account": "u"}
    assert EntityKeys(entity("account")).fed(verdict) is None


@pytest.mark.parametrize(("value", "text"), [("x", "x"), (7, "7"), (True, "True"), (1.5, "1.5"), ("", None)])
def test_attributes_of_any_type_are_keys(value: Any, text: str | None) -> None:
    assert FieldReader(["attributes.a"])(payment(1, 2, attributes={"a": value})) == text


def test_hashes_are_the_same_in_every_process_and_release() -> None:
    assert hash_of("user-1").hex() == "7635ff124bcdac61"
    assert hash_of("user-1") == id_hash("user-1")


GOLDEN = (
    "019fc41416f5c7465a97b7b19b239023b47048d91b931052cf0000018bcfe57f70d3c000000000000000c4100068e5cf8b01"
    "0000887be5cf8b010000c410ebf70a16b7e7a48216f05dae5ce2fb6fc402020294c410f5b5f0d44fef9a7302a407c9ec39b6"
    "19c410d6e77b3d6aae2a9b0000000000000000c410f5b5f0d44fef9a7302a407c9ec39b619c4100000000000000000000000"
    "0000000000910091c410fa000000000000005e01000000000000d3c00000000000000098c4080068e5cf8b010000c408ebf7"
    "0a16b7e7a482c408707fe5cf8b010000c40847bb0a9bd4821392c40103c4080068e5cf8b010000c4080068e5cf8b010000cf"
    "0000018bcfe57f70c400c0c0c400"
)


def golden_state() -> Played:
    played = Played(EntityMachine(MERCHANT))
    first = payment(1, ZERO, user_id="u1", card_id="c1", amount_minor=250)
    played.take(first)
    played.take(payment(2, ZERO + 5_000, user_id="u2"))
    played.take(label(1, ZERO + 6_000, first, True))
    return played


def test_state_bytes_of_version_1_are_read_for_ever() -> None:
    played = golden_state()
    assert played.data is not None
    assert played.data.hex() == GOLDEN
    again = Played(EntityMachine(MERCHANT), bytes.fromhex(GOLDEN))
    probe = payment(3, ZERO + 20_000)
    assert again.take(probe) == played.take(probe)
    assert again.data == played.data


def test_bytes_of_an_unknown_version_are_refused_by_name() -> None:
    machine = EntityMachine(MERCHANT)
    with pytest.raises(ValueError, match="entity state is of version 9, which this release can't read"):
        machine.decode(b"\x09rest")


def test_a_changed_declaration_keeps_what_is_still_wanted_and_flags_what_is_new() -> None:
    before = load_entities("entities: {c: {key: card_id, features: {payment_count: 1h, distinct_user_count: 1h}}}")
    after = load_entities(
        "entities: {c: {key: card_id, features: {distinct_user_count: 1h, payment_count: 1h, distinct_ip_count: 1m}}}"
    )
    played = Played(EntityMachine(before.entities[0]))
    played.take(payment(1, ZERO, user_id="u1"))
    played.take(payment(2, ZERO + 1_000, user_id="u2"))
    changed = Played(EntityMachine(after.entities[0]), played.data)
    soon = changed.take(payment(3, ZERO + 2_000, user_id="u3", ip="192.0.2.1"))
    assert soon is not None
    assert soon.values == (3, 3, 1)
    assert soon.approximate, "addresses of before aren't known"
    late = changed.take(payment(4, ZERO + 3_601_001, user_id="u4"))
    assert late is not None
    assert (late.values, late.approximate) == ((2, 2, 0), False)


@laws()
@given(st.lists(st.integers(0, 40) | st.integers(0, (1 << 64) - 1), max_size=64), st.integers(1, 8))
def test_different_values_are_those_of_a_set_however_many_there_are(values: list[int], times: int) -> None:
    column = array("Q", values * times).tobytes()
    assert different(column) == len(set(values) - {0})


def test_a_sample_is_exact_up_to_its_size_and_forgets_by_last_sight() -> None:
    values = RecentValues(0, array("q"), b"", b"")
    for n in range(SIZE):
        values.add(hash_of(str(n)), n, -1)
    values.add(hash_of("0"), SIZE, -1)
    assert values.count(-1) == SIZE
    assert values.count(0) == SIZE
    assert values.count(SIZE - 1) == 1


def test_a_sample_gets_finer_again_when_traffic_falls() -> None:
    values = RecentValues(0, array("q"), b"", b"")
    for n in range(50_000):
        values.add(hash_of(f"burst{n}"), n, n - 10_000)
    assert values.level > 5
    for n in range(100):
        values.add(hash_of(f"quiet{n}"), 100_000 + n * 1_000, 90_000 + n * 1_000)
    assert values.level == 0
    assert values.count(150_000) == 49
