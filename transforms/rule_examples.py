"""Tests inside a rules file: an example event that a rule must match, one that it must not.

An example gives the variables that matter: event fields, features, attributes, `on_list_<name>`. The rest is as it is
for an uneventful event: counts are 0, yes/no values are no, and what may be unknown is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from transforms.conditions import nearest
from transforms.explain import Explanation, explain_rule, shown
from transforms.rfc3339 import epoch_ms
from transforms.rule_index import Condition
from transforms.rule_values import typed
from transforms.rules import Rule, RuleSet, to_ms
from transforms.variables import EVENT_MODELS, EVENT_TYPES, EVENT_VARIABLES, Variable, Vocabulary
from transforms.yaml_document import show

NOON_MS = 1_767_268_800_000
"""2026-01-01T12:00:00Z: the time of an example that gives none, where the rule's validity doesn't say another."""

_REQUIRED: dict[str, Any] = {
    "user_id": "user",
    "outcome": "success",
    "amount_minor": 1_000,
    "currency": "EUR",
    "promotion_id": "promotion",
}
"""What an event has to have, where an example doesn't give it."""

_EMPTY: dict[str, Any] = {"int": 0, "float": 0.0, "bool": False}
_FIELDS = {variable.name for variable in EVENT_VARIABLES}


class ExampleError(ValueError):
    """An example that can't be.

    Attributes:
      key: the variable at fault.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class Outcome(NamedTuple):
    """What became of one example.

    Attributes:
      kind: `match` or `no_match`: where it stands.
      position: which of these, from 0.
    """

    rule: Rule
    kind: str
    position: int
    passed: bool
    explanation: Explanation


def check_example(rule: Rule, example: Mapping[str, Any], vocabulary: Vocabulary) -> None:
    """Checks names and types of an example.

    Raises:
      ExampleError: a name is unknown, or a value isn't of its variable's type or can't be in such an event.
    """
    for name, value in example.items():
        if name == "event_time":
            _time(value)
            continue
        variable = vocabulary.variables.get(name)
        if variable is None:
            if name in vocabulary.presence:
                raise ExampleError(name, f"{name} follows from {vocabulary.presence[name]}; give that, or leave it out")
            raise ExampleError(name, f"unknown variable '{name}'{nearest(name, [*vocabulary.variables, 'event_time'])}")
        _check_value(variable, value)
    event_type = _event_type(rule, example, vocabulary)
    fields = EVENT_MODELS[event_type].__struct_fields__
    for name, value in example.items():
        if name in _FIELDS and name != "event_type" and name not in fields and value is not None:
            raise ExampleError(name, f"a {event_type} has no {name}; remove it, or give another event_type")


def complete(rule: Rule, example: Mapping[str, Any], vocabulary: Vocabulary) -> dict[str, Any]:
    """The example as a whole event: what `RuleSet.match` takes.

    Args:
      example: one that `check_example` accepts.
    """
    event_type = _event_type(rule, example, vocabulary)
    fields = EVENT_MODELS[event_type].__struct_fields__
    values: dict[str, Any] = {
        v.name: _EMPTY[v.type] for v in vocabulary.variables.values() if not v.nullable and v.name not in _FIELDS
    }
    values.update((name, value) for name, value in _REQUIRED.items() if name in fields)
    values.update({name: value for name, value in example.items() if name != "event_time"}, event_type=event_type)
    if "event_time_ms" not in example:
        values["event_time_ms"] = _time(example["event_time"]) if "event_time" in example else _valid_time(rule)
    return values


def outcomes(rules: RuleSet, rule: Rule) -> Iterator[Outcome]:
    """Tries the examples of a rule, whether it is live or on trial.

    Args:
      rules: those that the rule is of.
    """
    for kind, examples in (("match", rule.tests.match), ("no_match", rule.tests.no_match)):
        for i, example in enumerate(examples):
            values = complete(rule, example, rules.vocabulary)
            explanation = explain_rule(rule, rules.known(values), rules)
            matches = rules.match(values)
            fired = any(one.rule_id == rule.id for one in (*matches.live, *matches.shadow))
            yield Outcome(rule, kind, i, fired == (kind == "match"), explanation)


def why(outcome: Outcome) -> str:
    """Why an example failed, in one line."""
    if outcome.kind == "no_match":
        return "the example must not match, and the condition holds; mend one of the two"
    if outcome.explanation.matched:
        return "the example must match, but its time is not within valid_from and valid_to; give it an event_time"
    leaf = next(
        (p for p in outcome.explanation.parts if p.kind == "leaf" and p.verdict != "yes"), outcome.explanation.parts[0]
    )
    verdict = f"{_WORDS[leaf.verdict]} ({shown(leaf.seen)})"
    return f"the example must match, but `{leaf.text[:80]}` is {verdict}; mend one of the two"


_WORDS = {"yes": "true", "no": "false", "unknown": "unknown", "error": "an error"}


def _check_value(variable: Variable, value: Any) -> None:
    if value is None:
        if not variable.nullable:
            raise ExampleError(variable.name, f"{variable.name} is never unknown; give a value, or leave it out")
        return
    if typed(value, variable.type) is None:
        words = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "a text"}
        fix = "; put it in quotes" if variable.type == "string" else ""
        raise ExampleError(variable.name, f"{variable.name} is {words[variable.type]}, found {show(value)}{fix}")
    if variable.choices and value not in variable.choices:
        choices = ", ".join(map(repr, variable.choices))
        raise ExampleError(variable.name, f"{variable.name} is never {show(value)}; it is one of {choices}")


def _event_type(rule: Rule, example: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    """The type given; else the first that has the example's fields and that the condition doesn't rule out."""
    if "event_type" in example:
        return str(example["event_type"])
    given = {name for name, value in example.items() if name in _FIELDS and value is not None}
    fitting = [t for t in EVENT_TYPES if given <= set(EVENT_MODELS[t].__struct_fields__)]
    condition = Condition(rule.when, vocabulary)
    return next((t for t in fitting if condition.can_match(t)), (fitting or EVENT_TYPES)[0])


def _valid_time(rule: Rule) -> int:
    if rule.valid_from is not None:
        return to_ms(rule.valid_from)
    return min(NOON_MS, to_ms(rule.valid_to) - 1) if rule.valid_to is not None else NOON_MS


def _time(value: Any) -> int:
    try:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return to_ms(value)
        if isinstance(value, str):
            return epoch_ms(value)
    except ValueError as error:
        raise ExampleError("event_time", f"event_time {show(value)} {error}") from None
    fix = "give a time with an offset such as 2026-03-01T12:00:00Z"
    raise ExampleError("event_time", f"event_time is a time, found {show(value)}; {fix}")
