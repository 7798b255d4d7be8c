"""What a condition surely needs: comparisons of one variable with a constant, of which each must hold for a match.

`a && b && c` is true only if each of the three is. Where one of them is such a simple comparison, Python can tell in a
tenth of a microsecond that a rule doesn't match, and CEL is asked only of the few rules that are left. CEL alone says
that one does match: a comparison here may be too generous, and never too strict.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from transforms.condition_tree import Node, Token
from transforms.variables import LIST_PREFIX, Variable, Vocabulary

EXACT = 2**53
"""Integers of this size and more aren't all floats, and CEL compares the two as floats."""


class Predicate(NamedTuple):
    """`name operator constant`.

    Attributes:
      operator: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` (constant is a tuple), `known` or `unknown` (constant is None).
    """

    name: str
    operator: str
    constant: Any


TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, constant: value in constant,
    "known": lambda value, _: True,
    "unknown": lambda value, _: False,
}
"""For each operator, whether a known value passes. An unknown one passes `unknown` alone."""

_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def needed(root: Node, vocabulary: Vocabulary) -> tuple[Predicate, ...]:
    """The simple comparisons that each must hold for a condition to be true; none if there is no such.

    Args:
      root: tree of a condition that `check_condition` accepts.
    """
    return tuple(p for part in _conjuncts(root) if (p := _predicate(part, vocabulary)) is not None)


def entries(node: Node, vocabulary: Vocabulary, event_type: str | None) -> tuple[Predicate, ...] | None:
    """Simple comparisons that an index can search, of which one at least must hold for a condition to be true.

    Of `a && b` those of the better of the two, of `a || b` those of both.

    Args:
      node: tree of a condition, as in `needed`.
      event_type: type of the events in question, or None for any.

    Returns:
      None where there is no such; empty where the condition is never true of such events.
    """
    if node.kind == "all":
        options = [found for part in node.parts if (found := entries(part, vocabulary, event_type)) is not None]
        return min(options, key=_cost, default=None)
    if node.kind in ("any", "if"):
        # Either side of `c ? a : b`, whatever c.
        parts = node.parts[1:] if node.kind == "if" else node.parts
        sides = [entries(part, vocabulary, event_type) for part in parts]
        return None if None in sides else tuple(p for side in sides if side is not None for p in side)
    predicate = _predicate(node, vocabulary)
    if predicate is None or rank(predicate) == NOT_INDEXED:
        return None
    if predicate.name == "event_type" and event_type is not None:
        return None if TESTS[predicate.operator](event_type, predicate.constant) else ()
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


def _conjuncts(node: Node) -> Iterator[Node]:
    if node.kind == "all":
        for part in node.parts:
            yield from _conjuncts(part)
    else:
        yield node


def _predicate(node: Node, vocabulary: Vocabulary) -> Predicate | None:
    if node.kind == "not" and node.parts[0].kind == "leaf":
        found = _bare(node.parts[0], vocabulary)
        if found is None:
            return None
        return Predicate(found.name, "unknown", None) if found.operator == "known" else found._replace(constant=False)
    if node.kind != "leaf":
        return None
    return _bare(node, vocabulary) if node.relation is None else _comparison(node, node.relation, vocabulary)


def _bare(node: Node, vocabulary: Vocabulary) -> Predicate | None:
    if len(node.tokens) != 1:
        return None
    name = node.tokens[0].text
    if name in vocabulary.presence:
        return Predicate(vocabulary.presence[name], "known", None)
    variable = vocabulary.variables.get(name)
    return Predicate(name, "==", True) if variable and variable.type == "bool" else None


def _comparison(node: Node, at: int, vocabulary: Vocabulary) -> Predicate | None:
    left, right, operator_ = node.tokens[:at], node.tokens[at + 1 :], node.tokens[at].text
    if operator_ == "in":
        variable, constants = _variable(left, vocabulary), _constants(right)
        if variable is None or not constants or any(not _fits(c, variable) for c in constants):
            return None
        return Predicate(variable.name, "in", constants)
    for one, other, word in ((left, right, operator_), (right, left, _FLIPPED[operator_])):
        variable = _variable(one, vocabulary)
        constant = _constant(other)
        if variable is None or constant is None or not _fits(constant, variable):
            continue
        # Python's order of texts need not be CEL's.
        if (isinstance(constant, int | float) and not isinstance(constant, bool)) or word in ("==", "!="):
            return Predicate(variable.name, word, constant)
    return None


def _variable(tokens: Sequence[Token], vocabulary: Vocabulary) -> Variable | None:
    return vocabulary.variables.get(tokens[0].text) if len(tokens) == 1 and tokens[0].kind == "name" else None


def _constants(tokens: Sequence[Token]) -> tuple[Any, ...]:
    if len(tokens) < 3 or tokens[0].text != "[" or tokens[-1].text != "]":
        return ()
    inside = tokens[1:-1]
    if any(token.text != "," for token in inside[1::2]) or len(inside) % 2 == 0:
        return ()
    found = tuple(_constant([token]) for token in inside[::2])
    return () if None in found else found


def _constant(tokens: Sequence[Token]) -> Any:
    """The value of a plain constant, or None for anything else."""
    negative = len(tokens) == 2 and tokens[0].text == "-" and tokens[1].kind == "number"
    if len(tokens) != 1 and not negative:
        return None
    token = tokens[-1]
    if token.text in ("true", "false"):
        return token.text == "true"
    if token.kind == "string" and "\\" not in token.text and token.text[0] in "'\"" and token.text[:3] not in _TRIPLE:
        return token.text[1:-1]
    if token.kind != "number" or token.text[-1] == "u" or token.text[:2] == "0x":
        return None
    number = float(token.text) if any(c in token.text for c in ".eE") else int(token.text)
    if abs(number) >= EXACT:
        return None
    return -number if negative else number


_TRIPLE = ("'''", '"""')


def _fits(constant: Any, variable: Variable) -> bool:
    if isinstance(constant, bool):
        return variable.type == "bool"
    return variable.type == "string" if isinstance(constant, str) else variable.type in ("int", "float")
