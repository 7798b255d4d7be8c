# mypy: allow-untyped-calls
"""Rules: what conditions may say, what is refused at load and how, and which events match."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cel
import pytest
from apache_beam.internal import pickler
from hypothesis import example, given
from hypothesis import strategies as st
from scored import login, payment, record, rule, rules

from fraud_pipeline import cli
from fraud_pipeline.rules import read_rules
from transforms.conditions import MAX_CONDITION_CHARS, ConditionError, check_condition
from transforms.entities import DEFAULT_ENTITIES
from transforms.features import FEATURES
from transforms.list_file import Outside, load_lists
from transforms.lists import LIST_KINDS
from transforms.rule_file import RuleError, load_rules
from transforms.rules import RuleSet, Thresholds
from transforms.variables import EVENT_MODELS, EVENT_VARIABLES

DEFAULT_TEXT = Path(read_rules.__code__.co_filename).with_name("default.yaml").read_text("utf-8")


E = TypeVar("E", bound=Exception)
VOCABULARY = read_rules().vocabulary


def fired(condition: str, values: Any) -> bool:
    return bool(rules(condition).evaluate(values))


# ------------------------------------------------------------------------------ variables


def test_event_variables_are_the_fields_of_the_event_model() -> None:
    found = {v.name: (v.type, v.nullable, v.choices) for v in EVENT_VARIABLES}
    fields = {name for model in EVENT_MODELS.values() for name in model.__struct_fields__}
    assert found.keys() == (fields - {"event_id", "attributes"}) | {"event_type"}
    assert found["event_type"] == ("string", False, tuple(EVENT_MODELS))
    assert found["user_id"] == ("string", False, ())
    assert found["event_time_ms"] == ("int", False, ())
    assert found["outcome"] == ("string", True, ("success", "failure"))
    assert found["amount_minor"] == ("int", True, ())
    assert found["latitude"] == ("float", True, ())
    assert found["ip"] == ("string", True, ())


def test_a_condition_may_name_every_feature_and_event_field() -> None:
    kinds = {"int": "> 0", "float": "> 0.0", "bool": "", "string": "!= 'x'"}
    for variable in VOCABULARY.variables.values():
        literal = f"!= '{variable.choices[0]}'" if variable.choices else kinds[variable.type]
        assert check_condition(f"{variable.name} {literal}", VOCABULARY) == (variable.name,)
    attributes = {a.name for a in DEFAULT_ENTITIES.attributes}
    assert {f.name for f in (*FEATURES, *DEFAULT_ENTITIES.features)} | attributes <= VOCABULARY.variables.keys()


# ------------------------------------------------------------------------------ values and types


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("login_count_1h > 2.5", True),
        ("login_count_1h == 3.0", True),
        ("travel_km > 2", True),
        ("travel_km * 2.0 > 4.9", True),
        ("double(login_count_1h) * 1.5 > travel_km", True),
        ("login_count_1h / 2 == 1", True),
        ("is_new_ip", True),
        ("!is_new_ip", False),
        ("is_new_ip == true", True),
        ("event_type == 'login'", True),
        ("event_type != 'payment' && outcome in ['success']", True),
        ("country.startsWith('D') && size(user_id) == 2", True),
        ("event_time_ms / 3600000 % 24 == 12", True),
        ("is_new_ip ? login_count_1h > 2 : login_count_1h > 100", True),
    ],
)
def test_features_keep_their_types(condition: str, expected: bool) -> None:
    assert fired(condition, record(login_count_1h=3, travel_km=2.5, is_new_ip=True)) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        # travel_km is unknown, is_new_ip is true, is_new_device is false
        ("travel_km > 100.0", False),
        ("travel_km <= 100.0", False),
        ("!(travel_km > 100.0)", False),
        ("travel_km != 5.0", False),
        ("travel_km in [1.0]", False),
        ("!(travel_km in [1.0])", False),
        ("travel_km > 100.0 && is_new_ip", False),
        ("travel_km > 100.0 || is_new_ip", True),
        ("is_new_ip || travel_km > 100.0", True),
        ("travel_km > 100.0 || is_new_device", False),
        ("!(travel_km > 100.0 && is_new_device)", True),
        ("is_new_device ? travel_km > 100.0 : is_new_ip", True),
        ("has_travel_km", False),
        ("!has_travel_km && is_new_ip", True),
        ("has_travel_km && travel_km > 100.0", False),
        ("has_country && !has_card_id", True),
        ("amount_minor < 5", False),
    ],
)
def test_an_unknown_value_decides_nothing(condition: str, expected: bool) -> None:
    event = login()
    assert fired(condition, record(event, is_new_ip=True)) is expected
    row = {"event_type": "login", "country": "DE", "is_new_ip": True, "is_new_device": False, "travel_km": None}
    assert fired(condition, row) is expected


def test_an_error_in_one_rule_stops_no_other_and_is_told() -> None:
    told: list[tuple[str, str]] = []
    found = rules("login_count_1h / payment_count_1h > 1", "travel_km > 1.0", "is_new_ip").evaluate(
        record(is_new_ip=True), lambda rule, error: told.append((rule.id, type(error).__name__))
    )
    assert [f.rule_id for f in found] == ["r2"]
    assert told == [("r0", "ZeroDivisionError")]


def test_fired_rules_say_what_they_looked_at() -> None:
    (found,) = rules("has_device_id && login_count_1h > 1 && event_type == 'login'").evaluate(record(login_count_1h=2))
    assert found.inputs == ("device_id", "event_type", "login_count_1h")


@st.composite
def records(draw: st.DrawFn) -> Any:
    """Records whose values lie around what the default rules ask for."""
    fields = st.fixed_dictionaries({}, optional={"device_id": st.none(), "country": st.none()})
    event = draw(
        st.one_of(
            st.builds(lambda o, f: login(0, o, **f), st.sampled_from(["success", "failure"]), fields),
            st.builds(lambda a, f: payment(0, a, **f), st.integers(0, 10**12), fields),
        )
    )
    kinds = {
        "int": st.one_of(st.integers(0, 30), st.integers(0, 10**12)),
        "float": st.one_of(st.sampled_from([0.0, 1.0, 3.0, 10.0, 500.0, 1_000.0, 3_600.0]), st.floats(0, 1e9)),
        "bool": st.booleans(),
    }
    values: dict[str, Any] = {}
    for name in DEFAULT_INPUTS:
        feature = kinds[VOCABULARY.variables[name].type]
        values[name] = draw(st.none() | feature if VOCABULARY.variables[name].nullable else feature)
    return record(event, **values)


DEFAULT_RULES = read_rules()
DEFAULT_INPUTS = sorted(
    {name for r in DEFAULT_RULES.rules for name in check_condition(r.when, VOCABULARY)} & {f.name for f in FEATURES}
)


@given(records())
def test_all_ways_of_evaluating_agree(found: Any) -> None:
    event = {name: getattr(found.event, name, None) for name in (v.name for v in EVENT_VARIABLES)}
    event["event_type"] = type(found.event).__struct_config__.tag
    row = {**event, **dict(zip((f.name for f in FEATURES), found.features, strict=True))}

    alone = []
    known = {k: v for k, v in row.items() if v is not None} | {
        h: row.get(n) is not None for h, n in VOCABULARY.presence.items()
    }
    for each in DEFAULT_RULES.rules:
        try:
            alone.append((each.id, cel.evaluate(each.when, known)))
        except RuntimeError:
            alone.append((each.id, False))
    expected = [id for id, matched in alone if matched]

    assert [f.rule_id for f in DEFAULT_RULES.evaluate(found)] == expected
    assert [f.rule_id for f in DEFAULT_RULES.evaluate(row)] == expected
    without_type = {k: v for k, v in row.items() if k != "event_type"}
    assert {f.rule_id for f in DEFAULT_RULES.evaluate(without_type)} <= set(expected)


# ------------------------------------------------------------------------------ versions, order, pickle


def test_the_version_is_of_what_decides() -> None:
    base = "rules:\n" + rule("a", "is_new_ip  &&  travel_km > 5.0", 0.5) + rule("b", "is_new_device", 0.4)
    version = load_rules(base).version
    shuffled = "rules:\n" + rule("b", "is_new_device", 0.4) + rule("a", "is_new_ip\n      && travel_km > 5.0", 0.5)
    assert load_rules(shuffled).version == version
    assert load_rules("# a comment\n" + base.replace("What it", "That which it")).version == version
    assert load_rules("thresholds: {review_at: 0.5, block_at: 0.9}\n" + base).version == version
    others = [
        base.replace("5.0", "6.0"),
        base.replace("weight: 0.4", "weight: 0.41"),
        base.replace("high", "low", 1),
        base.replace("id: a", "id: c"),
        base.replace("reason_code: A", "reason_code: C"),
        base.replace("id: b", "id: b2"),
        "thresholds: {review_at: 0.4}\n" + base,
        base + rule("c", "is_new_ip"),
    ]
    assert len({version, *(load_rules(text).version for text in others)}) == 1 + len(others)
    assert load_rules(base, thresholds=Thresholds(0.4)).version == load_rules(others[6]).version


def test_text_constants_keep_their_spaces_in_the_version() -> None:
    assert rules("country == 'a  b'").version != rules("country == 'a b'").version


def test_the_most_severe_rule_comes_first() -> None:
    found = load_rules(
        "rules:\n"
        + rule("z", "is_new_ip", 0.5, "low")
        + rule("y", "is_new_ip", 0.4, "critical")
        + rule("x", "is_new_ip", 0.6, "critical")
        + rule("w", "is_new_ip", 0.6, "critical")
    ).evaluate(record(is_new_ip=True))
    assert [f.rule_id for f in found] == ["w", "x", "y", "z"]


@pytest.mark.parametrize("travel", [lambda r: pickle.loads(pickle.dumps(r)), lambda r: pickler.loads(pickler.dumps(r))])
def test_rules_travel(travel: Callable[[RuleSet], RuleSet]) -> None:
    there = travel(DEFAULT_RULES)
    match = record(login(0, "success"), failures_before_login=9, login_from_new_device=True, is_new_ip=True)
    assert there.version == DEFAULT_RULES.version
    assert there.thresholds == DEFAULT_RULES.thresholds
    assert there.evaluate(match) == DEFAULT_RULES.evaluate(match) != ()


# ------------------------------------------------------------------------------ what is refused

HEAD = """# rules
rules:
  - id: one
    description: d
    reason_code: ONE
    severity: high
    weight: 0.5
    when: login_count_1h > 5
  - id: two
    description: d
    reason_code: TWO
    severity: high
    weight: 0.5
"""


@pytest.mark.parametrize(
    ("when", "line", "column", "message"),
    [
        ("login_cont_1h > 5", 14, 11, "unknown variable 'login_cont_1h'; did you mean 'login_count_1h'?"),
        ("has_login_count_1h", 14, 11, "unknown variable 'has_login_count_1h'"),
        ("amount_minor == 'x'", 14, 11, "`amount_minor == 'x'` compares a number with a text"),
        ("is_new_ip || amount_minor == 'x'", 14, 24, "compares a number with a text"),
        ("is_new_ip && country > 5", 14, 24, "compares a text with a number"),
        ("is_new_ip == 1", 14, 11, "compares a yes/no value with a number"),
        ("amount_minor in ['x']", 14, 11, "compares a number with a text"),
        ("event_type in 'login'", 14, 25, "'in' needs a list"),
        ("outcome == 'failed'", 14, 22, "'outcome' is never 'failed'; it is one of 'success', 'failure'"),
        ("event_type in ['login','pay']", 14, 25, "'event_type' is never 'pay'"),
        ("login_count_1h", 14, 11, "is a number, not true or false; compare it, as in `login_count_1h > 0`"),
        ("is_new_ip && user_id", 14, 24, "`user_id` is a text, not true or false"),
        ("is_new_ip ? is_new_device : country", 14, 39, None),  # YAML takes ': ' for a key
        ("is_new_ip && amount_minor * 2.0 > 3.0", 14, 24, "(amount_minor is int); arithmetic takes two of one type"),
        ("1 > 0", 14, 11, "the condition uses no variable"),
        ("is_new_ip && lower(country) == 'de'", 14, 24, "unknown function 'lower'; there are contains"),
        ("country.startWith('D')", 14, 11, "unknown function 'startWith'; did you mean 'startsWith'?"),
        ("country.matches('(')", 14, 11, "'matches' fails"),
        ("is_new_ip and is_new_device", 14, 21, "unexpected 'and'; write '&&'"),
        ("is_new_ip = true", 14, 21, "unexpected '='; write '=='"),
        ("country == null", 14, 22, "ask with has_<name> whether a value is known"),
        ("is_new_ip // note", 14, 21, "comments (//) aren't allowed"),
        ("'[1].exists(x, x == amount_minor)'", 14, 16, "macro 'exists' isn't available"),
        ("login_count_1h > ", 14, 27, "it ends too early"),
        ("login_count_1h > 5 6", 14, 30, "not CEL: extraneous input '6'"),
        ("'is_new_ip && (is_new_device'", 14, 39, "it ends too early"),
        ("amount_minor > 99999999999999999999", 14, 26, "invalid int literal"),
        (">-\n      is_new_ip\n      && is_nev_device", 16, 10, "unknown variable 'is_nev_device'"),
        ("|\n      is_new_ip\n\n      && is_nev_device", 17, 10, "unknown variable 'is_nev_device'"),
        ("is_new_ip\n      && is_nev_device", 15, 10, "unknown variable 'is_nev_device'"),
        ("'outcome == ''failed'''", 14, 23, "'outcome' is never"),
        ('"outcome == \\"failed\\""', 14, 24, "'outcome' is never"),
        ("5", 14, 11, "expected a text, got int, found 5"),
        ("''", 14, 11, "found ''"),
        ("'  '", 14, 12, "the condition is empty"),
        ("'" + "(" * 200 + "is_new_ip" + ")" * 200 + "'", 14, 108, "nested too deeply"),
        ("'" + "!" * 3_900 + "is_new_ip'", 14, 12, "nested too deeply"),
        ("x" * (MAX_CONDITION_CHARS + 1), 14, 11, "length <= 4000"),
    ],
)
def test_a_broken_condition_is_one_line_with_its_place(when: str, line: int, column: int, message: str | None) -> None:
    with pytest.raises(RuleError) as caught:
        load_rules(f"{HEAD}    when: {when}\n", "my.yaml")
    error = caught.value
    if message is None:
        assert "not YAML" in error.message
        return
    assert message in error.message
    assert (error.line, error.column, error.rule_id) == (line, column, "two")
    assert str(error) == f"my.yaml:{line}:{column}: rule 'two': {error.message}"
    assert "\n" not in str(error)
    assert len(str(error)) < 400


WHOLE = HEAD + "    when: is_new_ip\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "rule_id", "message"),
    [
        ("", 1, 1, None, "it is empty"),
        ("- a", 1, 1, None, "found ['a'] where 'rules:' should be"),
        ("rules: []", 1, 8, None, "there is no rule"),
        ("rules: 5", 1, 8, None, "rules: expected a list, got int, found 5"),
        ("rules:\n - 5", 2, 4, "#1", "expected keys and values, got int"),
        ("rules:\n\t- id: x", 2, 1, None, "not YAML: found character '\\t'"),
        ("rules: [", 1, 9, None, "not YAML: "),
        ("rules: *a", 1, 8, None, "undefined alias 'a'"),
        ("rules: &a [*a]", 1, 8, "#1", "expected keys and values, got a list"),
        ("{}\n---\n{}", 2, 1, None, "another document"),
        ("rules: [\0]", 1, 9, None, "character U+0000 isn't allowed"),
        ("[" * 5_000, 1, 1, None, "nested too deeply"),
        ("1: 2", 1, 1, None, "this key isn't a text"),
        (WHOLE + "extra: 5", 15, 1, None, "unknown key 'extra'; there are rules, thresholds"),
        (WHOLE + "    when: is_new_ip", 15, 5, None, "key 'when' stands twice"),
        (WHOLE + "    tags: !!python/name:os.system ''", 15, 11, None, "could not determine a constructor"),
        (WHOLE.replace("weight", "wieght", 1), 7, 5, "one", "unknown key 'wieght'; did you mean 'weight'?"),
        (WHOLE.replace("    reason_code: TWO\n", ""), 9, 5, "two", "key 'reason_code' is missing; add it"),
        (WHOLE.replace("severity: high", "severity: hig", 1), 6, 15, "one", "it is one of low, medium, high"),
        (WHOLE.replace("0.5", "1.5", 1), 7, 13, "one", "expected a number <= 1.0, found 1.5"),
        (WHOLE.replace("0.5", "0", 1), 7, 13, "one", "expected a number > 0.0, found 0"),
        (WHOLE.replace("0.5", ".nan", 1), 7, 13, "one", "found nan"),
        (WHOLE.replace("0.5", "much", 1), 7, 13, "one", "got a text, found 'much'"),
        (WHOLE.replace("id: two", "id: one"), 9, 9, "one", "the id is taken by the rule at line 3; rename one"),
        (WHOLE.replace("id: two", "id: Two x"), 9, 9, "Two x", "lower-case name such as card_testing_burst"),
        (WHOLE.replace("id: two", "id: on"), 9, 9, "on", "expected a text, got bool, found True"),
        (WHOLE.replace("ONE", "one"), 5, 18, "one", "upper-case name such as CARD_TESTING_BURST"),
        ("thresholds: {review_at: 0.9, block_at: 0.5}\n" + WHOLE, 1, 13, None, "review_at <= block_at"),
        ("thresholds: {reviewat: 0.9}\n" + WHOLE, 1, 14, None, "did you mean 'review_at'?"),
        ("thresholds: {review_at: 2}\n" + WHOLE, 1, 25, None, "review_at: expected a number <= 1.0, found 2"),
    ],
)
def test_a_broken_file_is_one_line_with_its_place(
    text: str, line: int, column: int, rule_id: str | None, message: str
) -> None:
    with pytest.raises(RuleError) as caught:
        load_rules(text, "my.yaml")
    error = caught.value
    assert message in error.message
    assert (error.line, error.column, error.rule_id) == (line, column, rule_id)
    assert "\n" not in str(error)
    assert len(str(error)) < 400


def test_a_huge_value_makes_no_huge_error() -> None:
    for text in (WHOLE.replace("two", "x" * 100_000), WHOLE + "y" * 100_000 + ": 1", WHOLE + "z" * 100_000):
        with pytest.raises(RuleError) as caught:
            load_rules(text, "my.yaml")
        assert len(str(caught.value)) < 400


@given(seed=st.integers(0, 2**32))
@example(seed=0)
def test_any_damage_is_accepted_or_refused_in_one_line(seed: int) -> None:
    rng = random.Random(seed)
    text = DEFAULT_TEXT
    for _ in range(rng.randint(1, 3)):
        at, size = rng.randrange(len(text)), rng.choice([0, 1, 1, 5, 40])
        text = (
            text[:at]
            + rng.choice(["", "", ":", "'", "(", "!", "&", "\t", "\n", "é", "[", "- ", "1"])
            + text[at + size :]
        )
    error = refusal(lambda: load_rules(text, "my.yaml"), RuleError)
    if error is not None:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines) + 1
        assert 1 <= error.column <= max(map(len, lines)) + 2


@given(
    st.lists(
        st.sampled_from(
            [*"()[]!?:<>.,-+*/%'", "&&", "||", "==", "in", "true", "1", "2.5", "'x'", "is_new_ip", "country"]
        )
    )
)
def test_any_condition_is_accepted_or_refused(parts: list[str]) -> None:
    condition = " ".join(parts)
    error = refusal(lambda: check_condition(condition), ConditionError)
    assert error is None or 0 <= error.offset <= len(condition)


def refusal(attempt: Callable[[], object], expected: type[E]) -> E | None:
    """The error that an attempt ends in, if it does."""
    try:
        attempt()
    except expected as error:
        refused = error
    else:
        return None
    assert "\n" not in str(refused)
    assert len(str(refused)) < 500
    return refused


def test_an_accepted_condition_never_fails_for_its_types() -> None:
    """Each default rule, on known values of every sign and size, either matches or doesn't."""
    told: list[Exception] = []
    for scale in (0, 1, 10**6):
        values: dict[str, Any] = {
            name: {"int": scale, "float": float(scale), "bool": bool(scale)}[VOCABULARY.variables[name].type]
            for name in DEFAULT_INPUTS
        }
        for event in (login(), payment()):
            DEFAULT_RULES.evaluate(record(event, **values), lambda rule, error: told.append(error))
    assert told == []


# ------------------------------------------------------------------------------ the command


def test_check_accepts_a_right_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WHOLE, "utf-8")
    assert cli.main(["rules", "check", str(path)]) == 0
    assert f"2 rules, 0 tests passed, version {load_rules(WHOLE).version}" in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"rules: 5", b"\xff\xfe", None])
def test_check_refuses_in_one_line(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["rules", "check", str(path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "mine.yaml" in shown.err


def test_list_shows_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "list"]) == 0
    shown = capsys.readouterr().out
    assert DEFAULT_RULES.version in shown
    for each in DEFAULT_RULES.rules:
        assert f"{each.id}  {each.severity}  {each.weight:g}  {each.reason_code}" in shown


def test_variables_shows_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "variables"]) == 0
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line}
    assert {name for name in VOCABULARY.variables if not name.startswith("on_list_")} <= shown


def test_the_examples_on_the_page_about_rules_are_right() -> None:
    page = (Path(__file__).parents[1] / "docs" / "rules.md").read_text("utf-8")
    examples = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    lists = [text for text in examples if text.startswith("# lists.yaml")]
    assert len(lists) == 1
    outside = Outside(lambda name: b"value\n" if name.endswith(".csv") else b"# none\n", lambda name: ())
    assert {one.head.kind for one in load_lists(lists[0], outside).lists} == set(LIST_KINDS)
    (text,) = (text for text in examples if text not in lists)
    assert all(load_rules(text).rules)
    wrong = text.replace("ratio_30d: 6, event_time: 2026-03-01T03", "ratio_30d: 4, event_time: 2026-03-01T03")
    with pytest.raises(RuleError) as caught:
        load_rules(wrong, "my.yaml")
    assert str(caught.value) in page


def test_one_reason_for_each_rule_that_ships() -> None:
    codes = [each.reason_code for each in DEFAULT_RULES.rules]
    assert len(codes) == len(set(codes))
