"""Time of the rules for one event, beside plain Python lambdas that decide the same.

Run: python -m bench.rules
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from typing import Any, TypeAlias

import msgspec

from fraud_pipeline.rules import read_rules
from transforms.condition_tree import tokenize
from transforms.entities import DEFAULT_ENTITIES
from transforms.events import Login, Payment
from transforms.features import FEATURES
from transforms.records import FeatureRecord
from transforms.rules import Examples, Rule, RuleSet
from transforms.scoring import score
from transforms.variables import EVENT_VARIABLES, LIST_PREFIX

PythonRule: TypeAlias = tuple[str, Callable[[dict[str, Any]], bool]]

ROUNDS, CALLS = 60, 40
MANY = 300


def main() -> None:
    """Prints a table: microseconds for each event and rule, and the ratio to the floor."""
    shipped = read_rules()
    print(
        f"{'rules':>6} {'index':5} {'event':8} {'fired':>5} {'us/event':>9} {'us/rule':>8} {'floor us':>9} {'ratio':>6}"
    )
    many = _many(shipped)
    for rules, index in ((shipped, "yes"), (many, "yes"), (_without_index(many), "no"), (_none_alike(many), "own")):
        floor = [_python(rule) for rule in rules.rules]
        for name, record in records().items():
            expected = tuple(f.rule_id for f in rules.evaluate(record))
            names = dict.fromkeys(f"{LIST_PREFIX}{name}" for name in rules.vocabulary.lists)
            values = _values(record, rules.vocabulary.feature_index, names)
            if _floor(floor, values) != expected:
                raise SystemExit(f"the floor disagrees on {name}: {_floor(floor, values)} instead of {expected}")
            cost = _time(partial(score, record, rules))
            base = _time(partial(_floor_from_record, floor, record, rules.vocabulary.feature_index, names))
            print(
                f"{len(rules.rules):6} {index:5} {name:8} {len(expected):5} {cost:9.1f} {cost / len(rules.rules):8.2f} "
                f"{base:9.1f} {cost / base:6.1f}"
            )


def _many(rules: RuleSet) -> RuleSet:
    """The rules again and again, their integer thresholds moved, so that all differ but ask for the same features."""
    made = []
    for i in range(MANY):
        rule = rules.rules[i % len(rules.rules)]
        step = i // len(rules.rules)
        when = " ".join(
            str(int(t.text) + step) if t.kind == "number" and t.text.isdigit() else t.text for t in tokenize(rule.when)
        )
        made.append(msgspec.structs.replace(rule, id=f"r{i}", reason_code=f"R{i}", when=when, tests=Examples()))
    return RuleSet(tuple(made), vocabulary=rules.vocabulary)


def _without_index(rules: RuleSet) -> RuleSet:
    """The same rules, written so that no comparison is surely needed, and that CEL must be asked of each."""
    made = (msgspec.structs.replace(rule, when=f"({rule.when}) || event_time_ms + 1 < 0") for rule in rules.rules)
    return RuleSet(tuple(made), vocabulary=rules.vocabulary)


def _none_alike(rules: RuleSet) -> RuleSet:
    """Likewise, and each rule asks CEL for a comparison of its own, over all the counts and sums there are."""
    names = cycle(v.name for v in (*FEATURES, *_ENTITIES) if v.type == "int")
    made = (
        msgspec.structs.replace(rule, when=f"({rule.when}) || {next(names)} % {i + 2} < 0")
        for i, rule in enumerate(rules.rules)
    )
    return RuleSet(tuple(made), vocabulary=rules.vocabulary)


_ENTITIES = DEFAULT_ENTITIES.features
_FIELDS = tuple(v.name for v in EVENT_VARIABLES if v.name != "event_type")
_OPERATORS = {"&&": "and", "||": "or", "!": "not", "true": "True", "false": "False", "in": "in", "double": "float"}


def _python(rule: Rule) -> PythonRule:
    """The condition as a Python lambda over a dict of the known values."""
    words = []
    for token in tokenize(rule.when):
        if token.kind == "name" and token.text not in _OPERATORS:
            known = token.text.removeprefix("has_")
            words.append(f"('{known}' in v)" if known != token.text else f"v['{token.text}']")
        else:
            words.append(_OPERATORS.get(token.text, token.text))
    return rule.id, eval(f"lambda v: {' '.join(words)}")


def _floor(rules: list[PythonRule], values: dict[str, Any]) -> tuple[str, ...]:
    fired = []
    for rule_id, condition in rules:
        try:
            if condition(values):
                fired.append(rule_id)
        except KeyError:
            continue
    return tuple(fired)


def _floor_from_record(
    rules: list[PythonRule], record: FeatureRecord, index: dict[str, int], lists: dict[str, Any]
) -> tuple[str, ...]:
    return _floor(rules, _values(record, index, lists))


def _values(record: FeatureRecord, index: dict[str, int], lists: dict[str, Any]) -> dict[str, Any]:
    event = record.event
    values = {name: record.features[i] for name, i in index.items() if record.features[i] is not None}
    values.update(dict.fromkeys(lists, False))
    for name in _FIELDS:
        value = getattr(event, name, None)
        if value is not None:
            values[name] = value
    values["event_type"] = type(event).__struct_config__.tag
    return values


def records() -> dict[str, FeatureRecord]:
    """An ordinary failed login, an ordinary payment, and the fortieth guess of an attack."""
    common: dict[str, Any] = {"user_id": "u1", "event_time_ms": 0, "device_id": "d1", "country": "DE"}
    failure = Login(event_id="e1", outcome="failure", **common)
    payment = Payment(event_id="e2", amount_minor=2_000, currency="EUR", **common)
    place = {"travel_km": 3.0, "travel_speed_kmh": 12.0}
    past: dict[str, Any] = {
        "payment_amount_mean_minor_30d": 1_800.0,
        "amount_to_mean_ratio_30d": 1.1,
        "amount_to_max_ratio_30d": 0.4,
        "seconds_since_login": 90.0,
    }
    return {
        "login": _record(failure, login_failure_count_1h=1, failures_in_a_row=1, **place),
        "payment": _record(payment, payment_count_30d=20, payment_count_10m=1, **place, **past),
        "attack": _record(
            failure, login_failure_count_10m=40, login_failure_count_1d=40, failures_in_a_row=40, **place
        ),
    }


def _record(event: Login | Payment, **known: Any) -> FeatureRecord:
    empty = {"int": 0, "float": 0.0, "bool": False}
    values = [known.get(f.name, None if f.nullable else empty[f.type]) for f in FEATURES]
    # Of its entities, an ordinary event is the first for an hour.
    values += [known.get(f.name, int(f.name.endswith("_count_1h")) if f.type == "int" else None) for f in _ENTITIES]
    return FeatureRecord(event, values, 0, 1, "EVENT", False, 0)


def _time(call: Callable[[], Any]) -> float:
    """Microseconds a call: the best of some rounds, as the machine is shared."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        best = min(best, (time.perf_counter() - start) / CALLS)
    return best * 1e6


if __name__ == "__main__":
    main()
