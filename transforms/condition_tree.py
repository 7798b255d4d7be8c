"""A condition taken apart: tokens, and the tree of its logical operators down to single comparisons.

The check of a condition, its explanation and the index over many conditions read this tree; what a condition *means*
is CEL's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias


class Token(NamedTuple):
    """A word of a condition; `start` counts characters from 0."""

    kind: str
    text: str
    start: int


_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<comment>//)
    | (?P<string>
        [rR][bB]?(?:'[^'\n]*'|"[^"\n]*")
        | [bB]?(?:'{3}(?:\\.|[^\\])*?'{3} | "{3}(?:\\.|[^\\])*?"{3}
                 | '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*"))
    | (?P<number>0x[0-9a-fA-F]+u? | (?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?u?)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<op>&& | \|\| | == | != | <= | >= | .)
    """,
    re.VERBOSE | re.DOTALL,
)


def tokenize(condition: str) -> list[Token]:
    """Tokens of a condition, without the white space. What isn't CEL comes out as single characters."""
    return [
        Token(match.lastgroup or "", match.group(), match.start())
        for match in _TOKEN.finditer(condition)
        if match.lastgroup != "space"
    ]


Kind: TypeAlias = Literal["all", "any", "not", "if", "leaf"]

RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})


class Node(NamedTuple):
    """Part of a condition.

    Attributes:
      kind: `all` (&&), `any` (||), `not` (!), `if` (? :, with its three parts) or `leaf`.
      tokens: its tokens, without brackets around all of it.
      relation: of a leaf, the position of its comparison in `tokens`; None if it has none.
    """

    kind: Kind
    tokens: Sequence[Token]
    parts: tuple[Node, ...] = ()
    relation: int | None = None

    def leaves(self) -> Iterator[Node]:
        """Its leaves, from left to right."""
        if self.kind == "leaf":
            yield self
        for part in self.parts:
            yield from part.leaves()


def parse(tokens: Sequence[Token]) -> Node:
    """The tree of a condition that CEL accepts.

    Raises:
      RecursionError: it is nested too deeply.
    """
    tokens = _without_parentheses(tokens)
    top = _top_level(tokens)
    question = next((i for i in top if tokens[i].text == "?"), None)
    if question is not None:
        colon = _colon(tokens, top, question)
        pieces = (tokens[:question], tokens[question + 1 : colon], tokens[colon + 1 :])
        return Node("if", tokens, tuple(map(parse, pieces)))
    for operator, kind in (("||", "any"), ("&&", "all")):
        split = _split(tokens, top, operator)
        if len(split) > 1:
            return Node("any" if kind == "any" else "all", tokens, tuple(map(parse, split)))
    relation = next((i for i in reversed(top) if tokens[i].text in RELATIONS), None)
    if relation is None and tokens and tokens[0].text == "!":
        return Node("not", tokens, (parse(tokens[1:]),))
    return Node("leaf", tokens, (), relation)


def text_of(condition: str, tokens: Sequence[Token]) -> str:
    """The part of the condition that the tokens span."""
    if not tokens:
        return ""
    return condition[tokens[0].start : tokens[-1].start + len(tokens[-1].text)]


def _colon(tokens: Sequence[Token], top: Sequence[int], question: int) -> int:
    """The ':' of a '?': each '?' between the two takes one for itself."""
    open_questions = 0
    for i in top:
        if i > question and tokens[i].text == "?":
            open_questions += 1
        elif i > question and tokens[i].text == ":":
            if open_questions == 0:
                return i
            open_questions -= 1
    return len(tokens)


def _top_level(tokens: Sequence[Token]) -> list[int]:
    """Positions of the tokens outside all brackets."""
    depth, found = 0, []
    for i, token in enumerate(tokens):
        if token.kind == "op" and token.text in ")]}":
            depth -= 1
        if depth == 0:
            found.append(i)
        if token.kind == "op" and token.text in "([{":
            depth += 1
    return found


def _without_parentheses(tokens: Sequence[Token]) -> Sequence[Token]:
    while len(tokens) > 2 and tokens[0].text == "(" and _top_level(tokens) == [0, len(tokens) - 1]:
        tokens = tokens[1:-1]
    return tokens


def _split(tokens: Sequence[Token], top: Sequence[int], operator: str) -> list[Sequence[Token]]:
    cuts = [i for i in top if tokens[i].text == operator]
    return [tokens[a + 1 : b] for a, b in zip([-1, *cuts], [*cuts, len(tokens)], strict=True)]
