"""What a condition surely needs: comparisons of one variable with a constant, of which each must hold for a match.

`a && b && c` is true only if each of the three is. Where one of them is such a simple comparison, Python can tell in a
tenth of a microsecond that a rule doesn't match, and CEL is asked only of the few rules that are left. CEL alone says
that one does match: a comparison here may be too generous, and never too strict.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from transforms.condition_tree import Node, Token, parse, tokenize
from transforms.variables import Variable, Vocabulary

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


def needed(condition: str, vocabulary: Vocabulary) -> tuple[Predicate, ...]:
    """The simple comparisons that each must hold for the condition to be true; none if there is no such.

    Args:
      condition: one that `check_condition` accepts.
    """
    root = parse(tokenize(condition))
    return tuple(p for part in _conjuncts(root) if (p := _predicate(part, vocabulary)) is not None)


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
