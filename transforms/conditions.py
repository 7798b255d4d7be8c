"""Conditions of rules: the check that finds a mistake before an event does.

CEL (cel.dev) evaluates to an error where types don't fit, and compares unlike types as unequal without a word. Both
would be a rule that never fires and nobody knows. So a condition is taken apart at its logical operators, and every
comparison in it is evaluated on sample values of its variables' types, apart from the operators that could hide it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import cel

from transforms.condition_parser import parse
from transforms.condition_tree import RELATIONS, Expression, Name, Operation, Token, logic_of, text_of, tokenize
from transforms.variables import LIST_PREFIX, Vocabulary

MAX_CONDITION_CHARS = 4_000
"""Longer conditions are refused; the parser of the CEL library is recursive."""


USER_VOCABULARY = Vocabulary()
"""The event's fields and the user's features."""


class ConditionError(Exception):
    """A condition that can't work.

    Attributes:
      offset: position in the condition's text, in characters from 0.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def check_condition(condition: str, vocabulary: Vocabulary = USER_VOCABULARY) -> tuple[str, ...]:
    """Checks a condition as far as that is possible without an event.

    Args:
      vocabulary: what it may name; without it the event's fields and the user's features.

    Returns:
      The variables that it uses (`has_<name>` included), sorted.

    Raises:
      ConditionError: it is too long or isn't CEL; names an unknown variable or function; compares unlike types, or
        with a value that the variable can't have; doesn't come out as true or false; or uses no variable at all.
    """
    if len(condition) > MAX_CONDITION_CHARS:
        raise ConditionError(
            f"the condition has {len(condition):,} characters, more than {MAX_CONDITION_CHARS:,}; split the rule",
            0,
        )
    tokens = tokenize(condition)
    if not tokens:
        raise ConditionError("the condition is empty; say when the rule fires", 0)
    _refuse_foreign(tokens)
    used = _compile(condition).variables()
    for name in used:
        if name not in vocabulary.variables and name not in vocabulary.presence:
            at = next((t.start for t in tokens if t.kind == "name" and t.text == name), 0)
            raise ConditionError(_unknown(name, vocabulary), at)
    if not used:
        raise ConditionError("the condition uses no variable, so it is always true or always false", 0)
    try:
        _check_boolean(condition, parse(condition), vocabulary)
    except RecursionError:
        raise ConditionError("nested too deeply", 0) from None
    return tuple(used)


_FOREIGN = {
    "and": "write '&&'",
    "or": "write '||'",
    "not": "write '!'",
    "&": "write '&&'",
    "|": "write '||'",
    "=": "write '=='",
    "True": "write 'true'",
    "False": "write 'false'",
    "None": "ask with has_<name> whether a value is known",
    "null": "ask with has_<name> whether a value is known",
}
_MACROS = frozenset({"has", "all", "exists", "exists_one", "map", "filter"})


def _refuse_foreign(tokens: Sequence[Token]) -> None:
    for token, after in zip_longest(tokens, tokens[1:]):
        if token.kind == "comment":
            # A folded YAML text joins lines, and the comment would swallow the rest of the condition.
            raise ConditionError("comments (//) aren't allowed in a condition; put '# ...' above 'when'", token.start)
        if token.kind in ("name", "op") and token.text in _FOREIGN:
            raise ConditionError(f"unexpected '{token.text}'; {_FOREIGN[token.text]}", token.start)
        if token.kind == "name" and token.text in _MACROS and after is not None and after.text == "(":
            raise ConditionError(
                f"macro '{token.text}' isn't available; use 'x in [...]' for lists and has_<name> for presence",
                token.start,
            )


def _compile(condition: str) -> cel.Program:
    try:
        return cel.compile(condition)
    except ValueError as error:
        found = re.search(r"ERROR: <input>:(\d+):(\d+): (.*)", str(error))
        line, column, problem = found.groups() if found else ("1", "1", str(error))
        if "OtherError" in problem:
            problem = "nested too deeply"
        problem = problem.removeprefix("Syntax error: ").partition(" expecting ")[0]
        if problem.endswith("'<EOF>'"):
            problem = "it ends too early: a value, or a closing bracket or quote, is missing"
        lines = condition.splitlines(keepends=True)
        offset = sum(len(text) for text in lines[: int(line) - 1]) + int(column) - 1
        raise ConditionError(f"not CEL: {shorten(problem)}", offset) from None


def _check_boolean(condition: str, node: Expression, vocabulary: Vocabulary) -> None:
    """Checks each comparison by itself, apart from the logical operators that could hide its error."""
    kind, parts = logic_of(node)
    for part in parts:
        _check_boolean(condition, part, vocabulary)
    if kind != "leaf":
        return
    if isinstance(node, Operation) and node.operator in RELATIONS:
        _check_relation(condition, node, vocabulary)
    for value in _sample_values(condition, node, vocabulary):
        if not isinstance(value, bool):
            text = text_of(condition, node)
            fix = f"compare it, as in `{text} > 0`" if _kind(value) == "number" else "compare it with something"
            raise ConditionError(f"`{text}` is a {_kind(value)}, not true or false; {fix}", node.tokens[0].start)


def _check_relation(condition: str, relation: Operation, vocabulary: Vocabulary) -> None:
    left, right = relation.operands
    left_values = _sample_values(condition, left, vocabulary)
    right_values = _sample_values(condition, right, vocabulary)
    if relation.operator == "in":
        lists = [value for value in right_values if not isinstance(value, list)]
        if lists:
            raise ConditionError(
                f"'in' needs a list on its right, such as ['DE', 'FR'], but `{text_of(condition, right)}` is a "
                f"{_kind(lists[0])}",
                right.tokens[0].start,
            )
        right_values = [item for value in right_values for item in value]
    left_kinds, right_kinds = {_kind(v) for v in left_values}, {_kind(v) for v in right_values}
    if left_kinds and right_kinds and (left_kinds != right_kinds or len(left_kinds) > 1):
        raise ConditionError(
            f"`{text_of(condition, relation)}` compares a {'/'.join(sorted(left_kinds))} with a "
            f"{'/'.join(sorted(right_kinds))}, which can never match",
            relation.tokens[0].start,
        )
    for one, other, values in ((left, right, right_values), (right, left, left_values)):
        variable = vocabulary.variables.get(one.name) if isinstance(one, Name) else None
        if (
            variable
            and variable.choices
            and not any(t.text in vocabulary.variables for t in other.tokens if t.kind == "name")
        ):
            for value in values:
                if value not in variable.choices:
                    raise ConditionError(
                        f"'{variable.name}' is never {shorten(repr(value))}; it is one of "
                        f"{', '.join(map(repr, variable.choices))}",
                        other.tokens[0].start,
                    )


@lru_cache(maxsize=8)
def _samples(vocabulary: Vocabulary) -> tuple[cel.Context, ...]:
    """Two events with a value for everything, which between them have each type's zero and something else."""
    return tuple(
        cel.Context(
            variables={
                **{
                    v.name: pick.get(v.type, v.choices[last] if v.choices else text)
                    for v in vocabulary.variables.values()
                },
                **dict.fromkeys(vocabulary.presence, pick["bool"]),
            }
        )
        for pick, last, text in (
            ({"int": 0, "float": 0.0, "bool": False}, 0, ""),
            ({"int": 1, "float": 1.5, "bool": True}, -1, "x"),
        )
    )


def _sample_values(condition: str, part: Expression, vocabulary: Vocabulary) -> list[Any]:
    """What a part of the condition comes out as on the samples. A division by zero or an overflow gives nothing."""
    text, tokens = text_of(condition, part), part.tokens
    values = []
    try:
        program = _compile(text)
        for context in _samples(vocabulary):
            try:
                values.append(program.execute(context))
            except (ZeroDivisionError, OverflowError):
                continue
    except ConditionError as error:
        raise ConditionError(str(error), tokens[0].start + error.offset) from None
    except (TypeError, RuntimeError, ValueError, LookupError) as error:
        raise ConditionError(_why(str(error), text, tokens, vocabulary), tokens[0].start) from None
    return values


def _why(error: str, text: str, tokens: Sequence[Token], vocabulary: Vocabulary) -> str:
    undefined = re.match(r"Undefined variable or function: '(\w*)'", error)
    if undefined:
        return f"unknown function '{undefined[1]}'{nearest(undefined[1], FUNCTIONS)}; there are {', '.join(FUNCTIONS)}"
    failed = re.match(r"Function '(\w+)' error: (.*?)(\. Check function|$)", error, re.DOTALL)
    if failed:
        return f"'{failed[1]}' fails in `{shorten(text)}`: {shorten(failed[2])}; mend its argument"
    known = vocabulary.variables
    types = {t.text: known[t.text].type for t in tokens if t.kind == "name" and t.text in known}
    said = ", ".join(f"{name} is {type}" for name, type in types.items())
    first_sentence = re.split(r"[.:] |\n", error.removeprefix("Unsupported operation: "))[0]
    return (
        f"`{shorten(text)}` can't be evaluated: {shorten(first_sentence)}{f' ({said})' if said else ''}; "
        "arithmetic takes two of one type: convert with double(x) or int(x)"
    )


FUNCTIONS = ("contains", "startsWith", "endsWith", "matches", "size", "int", "double", "string")
"""Functions that are any use in a condition."""


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "yes/no value"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return type(value).__name__


def _unknown(name: str, vocabulary: Vocabulary) -> str:
    if name == "attributes":
        return "unknown variable 'attributes'; name a declared attribute by itself, as in trip_km"
    if name.startswith(LIST_PREFIX):
        given = [LIST_PREFIX + n for n in vocabulary.lists]
        found = nearest(name, given)
        name_only = name.removeprefix(LIST_PREFIX)
        return f"unknown list '{name_only}'{found or f'; give it with --lists, or add {name_only} under lists:'}"
    return f"unknown variable '{name}'{nearest(name, [*vocabulary.variables, *vocabulary.presence])}"


def nearest(name: str, names: Sequence[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no name is close."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def shorten(text: str, limit: int = 100) -> str:
    """The text on one line, cut at `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
