"""Why a rule matches an event or doesn't: each of its comparisons, with the values seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import cel

from transforms.condition_code import NO_MATCH_ERRORS, is_unknown
from transforms.condition_parser import parse
from transforms.condition_tree import Expression, Kind, logic_of, text_of
from transforms.conditions import shorten
from transforms.records import FeatureRecord
from transforms.rules import Rule, RuleSet, to_ms

Verdict: TypeAlias = Literal["yes", "no", "unknown", "error"]


class Part(NamedTuple):
    """Part of a condition, evaluated.

    Attributes:
      kind: of the tree of the condition: `all`, `any`, `not`, `if` or `leaf`.
      text: as written, on one line.
      depth: how deep it stands in the tree, the whole condition at 0.
      verdict: `unknown` where a value that it needs isn't known.
      seen: of a leaf, the variables that it names; None is unknown.
      error: why it can't be evaluated.
    """

    kind: Kind
    text: str
    depth: int
    verdict: Verdict
    seen: Mapping[str, Any]
    error: str = ""


class Explanation(NamedTuple):
    """What one rule says of one event.

    Attributes:
      matched: whether the condition holds.
      in_time: whether the event is within the rule's time of validity; without that a match has no effect.
      missing: how many comparisons would have to come out otherwise for the condition to hold; 0 if it does.
      parts: the condition and its parts, from the whole down, from left to right.
    """

    rule: Rule
    matched: bool
    in_time: bool
    missing: int
    parts: tuple[Part, ...]


def shown(seen: Mapping[str, Any]) -> str:
    """Variables and their values as a condition would write them: `country is 'DE', travel_km is unknown`."""
    return ", ".join(f"{name} is {_written(value)}" for name, value in seen.items())


def _written(value: Any) -> str:
    if value is None:
        return "unknown"
    return str(value).lower() if isinstance(value, bool) else shorten(repr(value), 60)


def explain(rules: RuleSet, values: FeatureRecord | Mapping[str, Any]) -> tuple[Explanation, ...]:
    """What each rule says of an event: matches first, then those that miss by the fewest comparisons.

    Args, raises: as `RuleSet.match`.
    """
    known = rules.known(values)
    found = [explain_rule(rule, known, rules) for rule in rules.rules]
    return tuple(sorted(found, key=lambda e: (e.missing, not e.in_time)))


def explain_rule(rule: Rule, known: Mapping[str, Any], rules: RuleSet) -> Explanation:
    """What one rule says of an event of which this is known, as `RuleSet.known` gives it."""
    context = cel.Context(variables=dict(known))
    parts: list[Part] = []
    missing = _walk(parse(rule.when), True, 0, rule.when, context, known, rules, parts)
    matched = parts[0].verdict == "yes"
    at_ms = known.get("event_time_ms")
    in_time = at_ms is not None or (rule.valid_from is None and rule.valid_to is None)
    if at_ms is not None:
        in_time = (rule.valid_from is None or to_ms(rule.valid_from) <= at_ms) and (
            rule.valid_to is None or at_ms < to_ms(rule.valid_to)
        )
    return Explanation(rule, matched, in_time, 0 if matched else max(missing, 1), tuple(parts))


def _walk(
    node: Expression,
    wanted: bool,
    depth: int,
    condition: str,
    context: cel.Context,
    known: Mapping[str, Any],
    rules: RuleSet,
    parts: list[Part],
) -> int:
    """Adds the parts of a node; returns how many leaves keep it from being as wanted."""
    text = text_of(condition, node)
    verdict, error = _evaluate(text, context)
    kind, below = logic_of(node)
    seen = {} if kind != "leaf" else _seen(node, known, rules)
    parts.append(Part(kind, " ".join(text.split()), depth, verdict, seen, error))

    def walk(part: Expression, want: bool) -> int:
        return _walk(part, want, depth + 1, condition, context, known, rules, parts)

    if kind == "leaf":
        return int(verdict != ("yes" if wanted else "no"))
    if kind == "not":
        return walk(below[0], not wanted)
    if kind == "if":
        # Whichever side is nearer; the side chosen now costs nothing to choose.
        taken = walk(below[0], True)
        other = 0 if parts[-1].verdict == "no" else 1
        return min(taken + walk(below[1], wanted), other + walk(below[2], wanted))
    counts = [walk(part, wanted) for part in below]
    return sum(counts) if (kind == "all") == wanted else min(counts)


def _evaluate(text: str, context: cel.Context) -> tuple[Verdict, str]:
    try:
        value = cel.compile(text).execute(context)
    except NO_MATCH_ERRORS as error:
        if is_unknown(error):
            return "unknown", ""
        return "error", " ".join(str(error).split())
    return "yes" if value is True else "no", ""


def _seen(node: Expression, known: Mapping[str, Any], rules: RuleSet) -> dict[str, Any]:
    vocabulary = rules.vocabulary
    names = (token.text for token in node.tokens if token.kind == "name")
    variables = (vocabulary.presence.get(name, name) for name in names)
    return {name: known.get(name) for name in dict.fromkeys(variables) if name in vocabulary.variables}
