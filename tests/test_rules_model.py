"""What a rule can say besides its condition: actions, times, trial, tags, tests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import HOUR, NOON_MS, login, payment, record, rule

from fraud_pipeline.rules import read_rules
from transforms.conditions import check_condition
from transforms.entities import load_entities
from transforms.features import FEATURES
from transforms.records import FeatureRecord
from transforms.rule_file import RuleError, load_rules
from transforms.rule_values import typed
from transforms.rules import RuleSet
from transforms.scoring import score

NOON = "2026-01-01T12:00:00Z"


def one(body: str, **options: Any) -> RuleSet:
    """A rule on any login, with more lines."""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    text = "rules:\n" + rule("one", "event_type == 'login'") + indented
    return load_rules(text, "my.yaml", **options)


def without_weight(body: str) -> RuleSet:
    text = "rules:\n" + rule("one", "event_type == 'login'").replace("    weight: 0.5\n", "")
    return load_rules(text + "".join(f"    {line}\n" for line in body.splitlines()), "my.yaml")


# ------------------------------------------------------------------------------ actions


def decided(*actions: str, weight: float = 0.1) -> tuple[str, float]:
    """What rules that all fire decide, each of them with this action; `score` stands for one without."""
    text = "rules:\n"
    for i, name in enumerate(actions):
        made = rule(f"r{i}", "event_type == 'login'", weight)
        if name == "allow":
            made = made.replace(f"    weight: {weight}\n", "")
        text += made + ("" if name == "score" else f"    action: {name}\n")
    result = score(record(login()), load_rules(text))
    return result.action, result.score


@pytest.mark.parametrize(
    ("actions", "weight", "expected"),
    [
        (("score",), 0.1, "allow"),
        (("review",), 0.1, "review"),
        (("block",), 0.1, "block"),
        (("review", "block"), 0.1, "block"),
        (("block", "review"), 0.1, "block"),
        (("review",), 0.9, "block"),
        (("allow",), 0.1, "allow"),
        (("allow", "score"), 0.95, "allow"),
        (("allow", "review"), 0.1, "allow"),
        (("block", "allow"), 0.1, "allow"),
        (("allow", "block", "score"), 0.95, "allow"),
    ],
)
def test_an_action_is_a_floor_and_allow_goes_before(actions: tuple[str, ...], weight: float, expected: str) -> None:
    assert decided(*actions, weight=weight)[0] == expected


def test_an_action_leaves_the_score_alone() -> None:
    assert decided("block", "allow", "score", weight=0.2)[1] == decided("score", "score", weight=0.2)[1] == 0.36
    only = score(record(login()), without_weight("action: block"))
    assert (only.score, only.action) == (0.0, "block")
    assert [(f.rule_id, f.weight, f.action) for f in only.fired] == [("one", 0.0, "block")]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("mode: live", "neither weight nor action"),
        ("action: alow", "invalid enum value 'alow'; it is one of allow, review, block"),
        ("action: block\nmode: on", "mode: expected a text"),
        ("action: block\nmode: trial", "it is one of live, shadow"),
    ],
)
def test_a_rule_that_decides_nothing_is_refused(body: str, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        without_weight(body)
    assert message in str(caught.value).replace("str", "text")
    assert str(caught.value).startswith("my.yaml:")


def test_a_rule_that_allows_has_no_weight() -> None:
    with pytest.raises(RuleError, match="a rule that allows adds nothing to the score; remove its weight"):
        one("action: allow")


# ------------------------------------------------------------------------------ time of validity


@pytest.mark.parametrize(
    ("at_ms", "valid"),
    [(-1, False), (0, True), (HOUR - 1, True), (HOUR, False)],
)
def test_a_rule_counts_from_its_first_time_until_before_its_last(at_ms: int, valid: bool) -> None:
    made = one(f"valid_from: {NOON}\nvalid_to: 2026-01-01T14:00:00+01:00")
    found = record(login(at_ms))
    assert bool(made.evaluate(found)) is valid
    row = {"event_type": "login", "event_time_ms": NOON_MS + at_ms}
    assert bool(made.evaluate(row)) is valid
    at = datetime.fromtimestamp((NOON_MS + at_ms) / 1_000, UTC)
    for event_time in (at, at.replace(tzinfo=None), at.astimezone(timezone(timedelta(hours=5))), at.isoformat()):
        assert bool(made.evaluate({"event_type": "login", "event_time": event_time})) is valid
    assert made.evaluate({"event_type": "login"}) == (), "without a time a rule with times doesn't count"


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        ("valid_from: 2026-01-01", 9, "it is a time with an offset such as 2026-03-01T00:00:00Z"),
        ("valid_from: 2026-01-01T00:00:00", 9, "it is a time with an offset"),
        ("valid_from: soon", 9, "it is a time with an offset"),
        ("valid_from: 2026-13-01T00:00:00Z", 1, "month must be in 1..12"),
        (f"valid_from: {NOON}\nvalid_to: {NOON}", 2, "the rule would never count"),
        ("tags: [Big Words]", 9, "tags are lower-case words"),
        ("tests: {matches: []}", 9, "unknown key 'matches'; did you mean 'match'?"),
        ("tests: {match: {}}", 9, "match: expected a list"),
        ("tests: {match: [{even_type: login}]}", 9, "unknown variable 'even_type'; did you mean 'event_type'?"),
        ("tests: {match: [{has_ip: true}]}", 9, "has_ip follows from ip"),
        ("tests: {match: [{event_type: logout}]}", 9, "event_type is never 'logout'"),
        ("tests: {match: [{login_count_1h: 1.5}]}", 9, "login_count_1h is a whole number, found 1.5"),
        ("tests: {match: [{login_count_1h: null}]}", 9, "login_count_1h is never unknown"),
        ("tests: {match: [{country: NO}]}", 9, "country is a text, found False; put it in quotes"),
        ("tests: {match: [{event_type: login, amount_minor: 5}]}", 9, "a login has no amount_minor"),
        ("tests: {match: [{event_time: noon}]}", 9, "event_time 'noon' is not RFC 3339"),
        ("tests: {match: [{event_time: 5}]}", 9, "event_time is a time, found 5"),
    ],
)
def test_what_is_wrong_beside_the_condition_has_its_place(body: str, line: int, message: str) -> None:
    with pytest.raises(RuleError) as caught:
        one(body)
    assert message in caught.value.message
    assert caught.value.line == line
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------ rules on trial


def shadowed(text: str) -> str:
    """The same rules, all of them on trial."""
    return "".join(line.replace("    when:", "    mode: shadow\n    when:") for line in text.splitlines(keepends=True))


SHIPPED_TEXT = Path(read_rules.__code__.co_filename).with_name("default.yaml").read_text("utf-8")
SHIPPED = load_rules(SHIPPED_TEXT)
ON_TRIAL = load_rules(shadowed(SHIPPED_TEXT))
ASKED = {name for each in SHIPPED.rules for name in check_condition(each.when, SHIPPED.vocabulary)}


@st.composite
def records(draw: st.DrawFn) -> FeatureRecord:
    """Records around what the rules that ship ask for."""
    fields = st.fixed_dictionaries({}, optional={"device_id": st.none(), "country": st.none()})
    event = draw(
        st.one_of(
            st.builds(lambda o, f: login(0, o, **f), st.sampled_from(["success", "failure"]), fields),
            st.builds(lambda a, f: payment(0, a, **f), st.integers(0, 10**12), fields),
        )
    )
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "int": st.integers(0, 30),
        "float": st.sampled_from([0.0, 1.0, 3.0, 12.0, 500.0, 1_000.0, 3_600.0, 7_200.0]),
        "bool": st.booleans(),
    }
    values = {
        f.name: draw(st.none() | kinds[f.type] if f.nullable else kinds[f.type]) for f in FEATURES if f.name in ASKED
    }
    return record(event, **values)


@given(records())
def test_rules_on_trial_match_what_they_would_match_live(found: FeatureRecord) -> None:
    live, trial = score(found, SHIPPED), score(found, ON_TRIAL)
    assert trial.shadow == live.fired
    assert (trial.fired, trial.score, trial.action) == ((), 0.0, "allow")
    assert live.shadow == ()


def test_a_rule_on_trial_changes_nothing_and_is_recorded() -> None:
    base = "rules:\n" + rule("live", "event_type == 'login'", 0.3)
    trial = rule("trial", "event_type == 'login'", 0.9, "critical") + "    mode: shadow\n    action: block\n"
    found = record(login())
    before, after = score(found, load_rules(base)), score(found, load_rules(base + trial))
    assert (after.score, after.action, after.fired) == (before.score, before.action, before.fired)
    assert [(f.rule_id, f.weight, f.action) for f in after.shadow] == [("trial", 0.9, "block")]
    assert after.rules_version != before.rules_version


def test_what_decides_makes_the_version_and_nothing_else_does() -> None:
    version = one("").version
    changes = ["action: review", "mode: shadow", f"valid_from: {NOON}", f"valid_to: {NOON}"]
    assert len({version, *(one(change).version for change in changes)}) == 1 + len(changes)
    assert one("tags: [logins]\ntests: {match: [{event_type: login}]}").version == version
    assert one(f"valid_from: {NOON}").version == one("valid_from: 2026-01-01T13:00:00+01:00").version


# ------------------------------------------------------------------------------ tests in the file


def with_tests(when: str, tests: str, **options: Any) -> RuleSet:
    indented = "".join(f"      {line}\n" for line in tests.strip().splitlines())
    return load_rules(f"rules:\n{rule('one', when)}    tests:\n{indented}", "my.yaml", **options)


@pytest.mark.parametrize(
    ("when", "example"),
    [
        ("failures_in_a_row >= 6 && outcome == 'failure'", "{outcome: failure, failures_in_a_row: 6}"),
        ("event_type == 'payment' && amount_minor > 0 && currency == 'EUR'", "{}"),
        ("event_type == 'payment' && trip_km > 2.0 * direct_km", "{trip_km: 9, direct_km: 4}"),
        ("!has_device_id && login_count_1h == 0", "{event_type: login}"),
        ("has_travel_km", "{travel_km: 1}"),
        ("event_time_ms / 3600000 % 24 == 3", "{event_time: 2026-03-01T03:00:00Z}"),
        ("event_type == 'claim' && promotion_id == 'spring'", "{promotion_id: spring}"),
        ("ip_distinct_user_count_1h >= 5", "{event_type: login, ip_distinct_user_count_1h: 5}"),
    ],
)
def test_an_example_gives_what_matters(when: str, example: str) -> None:
    assert with_tests(when, f"match:\n  - {example}").rules[0].tests.match
    with pytest.raises(RuleError) as caught:
        with_tests(when, f"no_match:\n  - {example}")
    assert caught.value.message == "the example must not match, and the condition holds; mend one of the two"
    assert (caught.value.line, caught.value.rule_id) == (11, "one")


def test_an_example_that_fails_says_which_comparison_is_in_the_way() -> None:
    when = "outcome == 'failure' && (failures_in_a_row >= 6 || travel_km > 5.0)"
    with pytest.raises(RuleError) as caught:
        with_tests(
            when, "match:\n  - {outcome: failure, failures_in_a_row: 6}\n  - {outcome: failure, travel_km: null}"
        )
    assert caught.value.line == 12
    assert "but `failures_in_a_row >= 6` is false (failures_in_a_row is 0)" in caught.value.message
    with pytest.raises(RuleError, match=r"`travel_km > 5.0` is unknown \(travel_km is unknown\)"):
        with_tests("travel_km > 5.0", "match:\n  - {event_type: login}")


def test_an_example_is_within_the_time_of_its_rule_unless_it_says_otherwise() -> None:
    body = f"valid_from: {NOON}\ntests:\n  match:\n    - {{event_type: login}}\n"
    assert one(body + "  no_match:\n    - {event_type: login, event_time: 2025-12-31T12:00:00Z}")
    with pytest.raises(RuleError, match="its time is not within valid_from and valid_to"):
        one(body + "    - {event_type: login, event_time: 2025-12-31T12:00:00Z}")


def test_a_rule_on_trial_is_tested_like_a_live_one() -> None:
    assert one("mode: shadow\ntests: {match: [{event_type: login}]}")
    with pytest.raises(RuleError):
        one("mode: shadow\ntests: {match: [{event_type: payment}]}")
    assert one("tests: {match: [{event_type: payment}]}", run_tests=False)


# ------------------------------------------------------------------------------ entities and attributes


ENTITIES = load_entities(
    "attributes:\n"
    "  trip_km: {type: float, unit: km, help: Length of a ride.}\n"
    "  seats: {type: int, help: Seats.}\n"
    "  channel: {type: string, help: Where from.}\n"
    "  is_vip: {type: bool, help: Known well.}\n"
    "entities:\n  ip:\n    key: ip\n    help: IP address\n    features:\n      distinct_user_count: [1h]\n"
)


def test_features_of_entities_stand_behind_the_users() -> None:
    made = load_rules("rules:\n" + rule("one", "ip_distinct_user_count_1h >= 5"), entities=ENTITIES)
    user = record(login())
    for value, expected in ((4, 0), (5, 1), (None, 0)):
        found = FeatureRecord(user.event, (*user.features, value), 0, 1, "EVENT", False, 0)
        assert len(made.evaluate(found)) == expected
    assert made.evaluate(user) == (), "a record of users alone has none of them"
    with pytest.raises(RuleError, match="did you mean 'ip_distinct_user_count_1h'"):
        load_rules("rules:\n" + rule("one", "ip_distinct_users_count_1h >= 5"), entities=ENTITIES)


@pytest.mark.parametrize(
    ("when", "attributes", "expected"),
    [
        ("trip_km * 2.0 > 9.0", {"trip_km": 5}, True),
        ("trip_km * 2.0 > 9.0", {"trip_km": 5.5}, True),
        ("trip_km > 1.0", {"trip_km": "5"}, False),
        ("trip_km > 1.0", {"trip_km": True}, False),
        ("seats + 1 == 3", {"seats": 2.0}, True),
        ("seats > 1", {"seats": 2.5}, False),
        ("!has_seats", {"seats": 2.5}, True),
        ("channel == 'app'", {"channel": "app", "other": 5}, True),
        ("is_vip", {"is_vip": True}, True),
        ("is_vip", {"is_vip": 1}, False),
        ("!has_channel", None, True),
    ],
)
def test_an_attribute_counts_where_it_is_of_its_type(
    when: str, attributes: dict[str, Any] | None, expected: bool
) -> None:
    made = load_rules("rules:\n" + rule("one", when), entities=ENTITIES)
    assert bool(made.evaluate(record(login(attributes=attributes)))) is expected
    assert bool(made.evaluate({"event_type": "login", "attributes": attributes})) is expected
    as_json = None if attributes is None else json.dumps(attributes)
    assert bool(made.evaluate({"event_type": "login", "attributes": as_json})) is expected


def test_attributes_are_named_by_themselves() -> None:
    with pytest.raises(RuleError, match="name a declared attribute by itself, as in trip_km"):
        load_rules("rules:\n" + rule("one", "attributes.trip_km > 5.0"), entities=ENTITIES)


@given(st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.text(max_size=3), st.none()))
def test_a_value_is_taken_as_a_type_only_where_nothing_is_lost(value: Any) -> None:
    for kind in ("int", "float", "bool", "string"):
        found = typed(value, kind)  # type: ignore[arg-type]
        assert found is None or (type(found).__name__ == kind.replace("string", "str") and found == value)
