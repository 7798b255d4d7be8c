"""Many conditions at once: index, Python code and shared questions to CEL say what CEL says of each one alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cel
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scored import login, payment, record

from transforms.condition_code import NO_MATCH_ERRORS, is_unknown
from transforms.records import FeatureRecord
from transforms.rules import Rule, RuleSet

SIMPLE = [
    "login_count_1h >= 2", "login_count_1h > 2", "login_count_1h < 2", "2 <= login_count_1h", "login_count_1h == 2",
    "login_count_1h != 2", "login_count_1h in [1, 3]", "login_count_1h >= -1", "login_count_1h > 1.5",
    "login_count_1h == 9007199254740993", "login_count_1h == 9007199254740992.0", "login_count_1h in [1, 2.0]",
    "travel_km >= 2.0", "travel_km < 2", "travel_km != 2.0", "travel_km in [2.0]", "has_travel_km", "!has_travel_km",
    "is_new_ip", "!is_new_ip", "is_new_ip == true", "is_new_ip != true", "is_new_ip == false", "!(is_new_ip)",
    "country == 'DE'", "country != 'DE'", "country in ['DE', 'FR']", "'DE' == country", "country == \"F\\x52\"",
    "outcome == 'failure'", "event_type == 'login'", "event_type in ['payment']", "event_type != 'login'", "true",
    "amount_minor > 1000", "is_new_ip in [true]",
]  # fmt: skip
"""Comparisons with a constant."""

ASKED = [
    "country.startsWith('D')", "login_count_1h / payment_count_1h > 1", "double(login_count_1h) > travel_km",
    "login_count_1h * login_count_1h > 3", "login_count_1h % payment_count_1h == 0", "size(country) == 2",
    "amount_minor / payment_count_1h > 1000", "1 / payment_count_1h > amount_minor",
    "has_travel_km == is_new_ip", "country > 'DE'",
    "!(login_count_1h / payment_count_1h > 1)", "has_country == (1 / payment_count_1h > 0)",
]  # fmt: skip
"""Comparisons that CEL is asked about."""

OPEN = [
    "(is_new_ip ? travel_km > 1.0 : country == 'FR')", "(travel_km > 1.0 ? 1 / payment_count_1h > 0 : is_new_ip)",
    "((is_new_ip || travel_km > 1.0) == has_country)",
]  # fmt: skip
"""Likewise, and they may have a value although a variable in them has none."""


class Condition(NamedTuple):
    """A condition, and how it is put together: the operator and the parts, or the text of a comparison alone."""

    text: str
    operator: str = ""
    parts: tuple[Condition, ...] = ()


def joined(operator: str, parts: list[Condition]) -> Condition:
    text = f" {operator} ".join(part.text for part in parts) if operator != "!" else f"!({parts[0].text})"
    return Condition(f"({text})", operator, tuple(parts))


CONDITIONS = st.recursive(
    st.sampled_from([*SIMPLE, *ASKED, *ASKED, *OPEN]).map(Condition),
    lambda inner: st.one_of(
        st.builds(joined, st.just("&&"), st.lists(inner, min_size=2, max_size=4)),
        st.builds(joined, st.just("||"), st.lists(inner, min_size=2, max_size=3)),
        st.builds(joined, st.just("!"), st.lists(inner, min_size=1, max_size=1)),
    ),
    max_leaves=6,
)


@st.composite
def records(draw: st.DrawFn) -> FeatureRecord:
    country = draw(st.sampled_from([None, "DE", "FR", "FR ", "X"]))
    event = draw(st.sampled_from([login(0, "success"), login(0, "failure"), payment(0, 2_000), payment(0, 500)]))
    event = type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | {"country": country})
    return record(
        event,
        login_count_1h=draw(st.sampled_from([0, 1, 2, 3, 4, 2**53, 2**53 + 1, 2**62])),
        payment_count_1h=draw(st.integers(0, 2)),
        travel_km=draw(st.sampled_from([None, 0.0, 1.5, 2.0, 2.5, 1e308, float("inf")])),
        is_new_ip=draw(st.booleans()),
    )


def alone(text: str, known: Mapping[str, Any]) -> Any:
    """What CEL says of one condition: its value, None where a value is unknown, or the error."""
    try:
        return cel.evaluate(text, dict(known))
    except NO_MATCH_ERRORS as error:
        return None if is_unknown(error) else error


def said(condition: Condition, known: Mapping[str, Any]) -> Any:
    """The same by the tables of three-valued logic over CEL's answers to the comparisons, unknown before an error."""
    if not condition.parts:
        lacks = set(cel.compile(condition.text).variables()) - known.keys()
        return None if lacks and condition.text not in OPEN else alone(condition.text, known)
    found = [said(part, known) for part in condition.parts]
    if condition.operator == "!":
        return not found[0] if isinstance(found[0], bool) else found[0]
    decisive = condition.operator == "||"
    if decisive in found:
        return decisive
    if None in found:
        return None
    return next((one for one in found if not isinstance(one, bool)), not decisive)


def made_of(*conditions: str) -> RuleSet:
    """Rules `r0`, `r1`, ... with these conditions."""
    shared: dict[str, Any] = {"description": "What it finds.", "severity": "high", "weight": 0.5}
    return RuleSet(tuple(Rule(id=f"r{i}", reason_code=f"R{i}", when=c, **shared) for i, c in enumerate(conditions)))


FAILS, LACKS, NO = map(Condition, ("1 / payment_count_1h > 0", "amount_minor > 1000", "login_count_1h > 2"))
SETTLED = [joined("||", [joined("&&", [NO, LACKS]), FAILS]), joined("&&", [joined("||", [NO, LACKS]), FAILS])]


@settings(max_examples=400)
@example(SETTLED, [record(login())])
@example([FAILS], [record(login(country="DE"), login_count_1h=3)])
@given(st.lists(CONDITIONS, min_size=1, max_size=12), st.lists(records(), min_size=1, max_size=3))
def test_all_at_once_say_what_cel_says_of_each_alone(conditions: list[Condition], found: list[FeatureRecord]) -> None:
    made = made_of(*(condition.text for condition in conditions))
    for each in found:
        known = made.known(each)
        expected = {f"r{i}" for i, one in enumerate(conditions) if alone(one.text, known) is True}
        failed = {f"r{i}": said(one, known) for i, one in enumerate(conditions)}
        errors = {name for name, answer in failed.items() if isinstance(answer, Exception)}
        row = {name: value for name, value in known.items() if not name.startswith("has_")}
        for given_as in (each, row):
            told: dict[str, Exception] = {}
            fired = made.evaluate(given_as, lambda rule, error, told=told: told.setdefault(rule.id, error))
            assert {f.rule_id for f in fired} == expected
            assert told.keys() == errors
            for name, error in told.items():
                plain = alone(conditions[int(name[1:])].text, known)
                assert (type(error), str(error)) == (type(plain), str(plain))


def test_logic_of_any_depth_that_cel_takes_is_decided() -> None:
    for depth in (1, 12, 13, 14, 24):
        condition = "is_new_ip"
        for _ in range(depth):
            condition = f"(travel_km > 1.0 || (country == 'DE' && !({condition})))"
        found = record(login(country="DE"), is_new_ip=True, travel_km=0.5)
        expected = cel.evaluate(condition, made_of("is_new_ip").known(found))
        assert expected is (depth % 2 == 0)
        assert bool(made_of(condition).evaluate(found)) is expected


def test_a_value_of_another_type_than_declared_is_unknown() -> None:
    conditions = ("login_count_1h >= 2", "is_new_ip", "country != 'DE'", "travel_km < 5.0", "!(travel_km >= 5.0)")
    made = made_of(*conditions, "has_travel_km || has_country")
    told: list[str] = []
    for row in (
        {"login_count_1h": "many", "is_new_ip": 1, "country": ["FR"], "travel_km": float("nan")},
        {"login_count_1h": 2.5, "is_new_ip": "yes", "country": 5, "travel_km": True},
        {},
    ):
        assert made.evaluate(row, lambda rule, error: told.append(rule.id)) == ()
    right = {"login_count_1h": 2.0, "is_new_ip": True, "country": "FR", "travel_km": 4}
    assert len(made.evaluate(right)) == len(made.rules)
    assert told == []
