"""What rules say of an event, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transforms.explain import Explanation, explain, shown
from transforms.rule_values import time_of
from transforms.rules import RuleSet
from transforms.scoring import combine, decide

NEARLY = 1
"""A rule nearly matches where this many of its comparisons are in the way."""

_MARKS = {"yes": "yes", "no": "NO", "unknown": "unknown", "error": "error"}


def report(rules: RuleSet, values: Mapping[str, Any], show_all: bool = False) -> Iterator[str]:
    """Lines that say which rules match an event, which nearly, and why.

    Args:
      values: as `RuleSet.match` takes them; `score`, `action` and `fired_rules` of a table's row are told too.
      show_all: True for the other rules as well.

    Raises:
      ValueError: `event_time` or `attributes` can't be read.
    """
    live, shadow = rules.match(values)
    value = combine(rule.weight for rule in live)
    name = " ".join(str(values[key]) for key in ("event_type", "event_id") if values.get(key)) or "event"
    of = f" of user {values['user_id']}" if values.get("user_id") else ""
    lists = f", lists {rules.lists.version}" if rules.lists.version else ""
    yield f"{name}{of}: {decide(live, value, rules.thresholds)}, score {value:g} (rules {rules.version}{lists})"
    if values.get("rules_version"):
        fired = ", ".join(values.get("fired_rules") or []) or "no rule"
        yield (
            f"recorded: {values.get('action')}, score {values.get('score'):g}, {fired} (rules "
            f"{values['rules_version']})"
        )
    for hit in (*live, *shadow):
        if hit.rule_id.startswith("list."):
            trial = ", on trial" if hit in shadow else ""
            seen = values.get(hit.inputs[0])
            yield f"on list {hit.rule_id.removeprefix('list.')}: {hit.inputs[0]} {seen!r}{trial}, demands {hit.action}"
    explanations = explain(rules, values)
    in_effect = {rule.rule_id for rule in (*live, *shadow)}
    matched = [e for e in explanations if e.matched]
    nearly = [e for e in explanations if e.missing == NEARLY and _is_close(e)]
    others = [e for e in explanations if e not in matched and e not in nearly] if show_all else []
    for title, group in (("matched", matched), ("nearly, one comparison short", nearly), ("not matched", others)):
        if group:
            yield ""
            yield title
        for explanation in group:
            yield f"  {_heading(explanation, in_effect)}"
            for line in part_lines(explanation):
                yield f"    {line}"
    if not matched:
        yield ""
        yield "no rule matches"
    if time_of(values) is None and any(e.rule.valid_from or e.rule.valid_to for e in explanations):
        yield "the event has no event_time, so rules with valid_from or valid_to don't count"


def part_lines(explanation: Explanation) -> Iterator[str]:
    """A line for each comparison of a rule, with the values seen; groups are indented."""
    for part in explanation.parts:
        if part.kind == "leaf":
            error = f"; {part.error}" if part.error else ""
            yield f"{'  ' * part.depth}{_MARKS[part.verdict]:8}{part.text}   [{shown(part.seen)}{error}]"
        elif part.kind != "all" or part.depth:
            words = {"any": "one of", "all": "all of", "not": "not", "if": "if, then, else"}
            yield f"{'  ' * part.depth}{_MARKS[part.verdict]:8}{words[part.kind]}"


def _heading(explanation: Explanation, in_effect: set[str]) -> str:
    rule = explanation.rule
    notes = []
    if rule.mode == "shadow":
        notes.append("on trial")
    if not explanation.in_time:
        notes.append("not valid at the time of the event")
    elif explanation.matched and rule.id not in in_effect:
        notes.append("not in effect")
    weight = [f"{rule.weight:g}"] if rule.weight is not None else []
    demands = [f"demands {rule.action}"] if rule.action else []
    note = f" ({', '.join(notes)})" if notes else ""
    return "  ".join([rule.id, rule.severity, *weight, *demands, rule.reason_code]) + note


def _is_close(explanation: Explanation) -> bool:
    """Whether more than the comparison that fails is there to be near to: a rule of one comparison never is near."""
    leaves = [part for part in explanation.parts if part.kind == "leaf"]
    types = [part for part in leaves if "event_type" in part.seen]
    return all(part.verdict == "yes" for part in types) and any(
        part.verdict == "yes" for part in leaves if part not in types
    )
