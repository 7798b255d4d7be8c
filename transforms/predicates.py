"""The simple comparisons in a condition, of one variable with a constant: what Python can say as exactly as CEL."""

from __future__ import annotations

from typing import Any, NamedTuple

from transforms.condition_tree import Expression, ListOf, Literal, Name, Operation, logic_of
from transforms.variables import LIST_PREFIX, Variable, Vocabulary

EXACT = 2**53
"""Integers of this size and more aren't all floats, and CEL compares the two as floats."""


class Predicate(NamedTuple):
    """`name operator constant`.

    Attributes:
      operator: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` (constant is a tuple), `known` or `unknown` (constant is None).
        Of a yes/no variable it is `==`.
    """

    name: str
    operator: str
    constant: Any

    def holds_for(self, value: Any) -> bool:
        """Whether a text passes an equality."""
        if self.operator == "in":
            return value in self.constant
        return bool((value == self.constant) == (self.operator == "=="))


_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def predicate_of(expression: Expression, vocabulary: Vocabulary) -> Predicate | None:
    """The simple comparison that an expression is, or None if it is something else."""
    match expression:
        case Name(name):
            return _bare(name, vocabulary)
        case Operation("!", (Name(name),)):
            found = _bare(name, vocabulary)
            if found is not None and found.operator == "known":
                return found._replace(operator="unknown")
            return found and found._replace(constant=False)
        case Operation("in", (Name(name), ListOf(items))) if items:
            variable = vocabulary.variables.get(name)
            constants = tuple(item.value for item in items if isinstance(item, Literal) and _fits(item.value, variable))
            if len(constants) == len(items):
                return Predicate(name, "in", constants)
        case Operation(operator, (Name(name), Literal(constant))) if operator in _FLIPPED:
            return _comparison(name, operator, constant, vocabulary)
        case Operation(operator, (Literal(constant), Name(name))) if operator in _FLIPPED:
            return _comparison(name, _FLIPPED[operator], constant, vocabulary)
    return None


def _bare(name: str, vocabulary: Vocabulary) -> Predicate | None:
    if name in vocabulary.presence:
        return Predicate(vocabulary.presence[name], "known", None)
    variable = vocabulary.variables.get(name)
    return Predicate(name, "==", True) if variable and variable.type == "bool" else None


def _comparison(name: str, operator: str, constant: Any, vocabulary: Vocabulary) -> Predicate | None:
    if not _fits(constant, vocabulary.variables.get(name)):
        return None
    if isinstance(constant, bool):
        is_equality = operator in ("==", "!=")
        return Predicate(name, "==", constant == (operator == "==")) if is_equality else None
    # Python's order of texts need not be CEL's.
    return None if isinstance(constant, str) and operator not in ("==", "!=") else Predicate(name, operator, constant)


def _fits(constant: Any, variable: Variable | None) -> bool:
    if variable is None:
        return False
    if isinstance(constant, bool | str):
        return variable.type == ("bool" if isinstance(constant, bool) else "string")
    return variable.type in ("int", "float") and abs(constant) < EXACT


def entries(expression: Expression, vocabulary: Vocabulary, event_type: str | None) -> tuple[Predicate, ...] | None:
    """Simple comparisons that an index can search, of which one at least must hold for a condition to be true.

    Of `a && b` those of the better of the two, of `a || b` those of both.

    Args:
      event_type: type of the events in question, or None for any.

    Returns:
      None where there is no such; empty where the condition is never true of such events.
    """
    kind, parts = logic_of(expression)
    if kind == "all":
        options = [found for part in parts if (found := entries(part, vocabulary, event_type)) is not None]
        return min(options, key=_cost, default=None)
    if kind == "any":
        sides = [entries(part, vocabulary, event_type) for part in parts]
        return None if None in sides else tuple(p for side in sides if side is not None for p in side)
    predicate = predicate_of(expression, vocabulary)
    if predicate is None or rank(predicate) == NOT_INDEXED:
        return None
    if predicate.name == "event_type" and event_type is not None:
        return None if predicate.holds_for(event_type) else ()
    return (predicate,)


NOT_INDEXED = 9


def rank(predicate: Predicate) -> int:
    """How good an index a comparison makes, the rarest to hold first: most events are on no list, most counts are 0."""
    name, word, constant = predicate
    if name.startswith(LIST_PREFIX):
        return 0 if constant is True else 5
    if word in (">", ">="):
        return 1 if constant > 0 else 6
    if word in ("==", "in"):
        return 5 if constant is False else 2 if name != "event_type" else 4
    return 3 if word in ("<", "<=") else NOT_INDEXED


def _cost(found: tuple[Predicate, ...]) -> tuple[int, int]:
    return max(map(rank, found), default=-1), len(found)
