"""A condition taken apart: tokens, and the tree that `transforms.condition_parser` makes of them.

The check of a condition, its explanation, the index over many conditions and the translations to Python and SQL read
this tree. What a condition *means* is CEL's to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal as OneOf
from typing import NamedTuple, TypeAlias


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


@dataclass(frozen=True)
class _Expression:
    """Any part of a condition; `tokens` are its own, without brackets around all of it."""

    tokens: Sequence[Token] = field(default=(), compare=False, repr=False, kw_only=True)

    @property
    def text(self) -> str:
        """Its tokens on one line, a space between them: CEL that means the same."""
        return " ".join(token.text for token in self.tokens)


@dataclass(frozen=True)
class Literal(_Expression):
    """A number, a text, true or false."""

    value: int | float | str | bool


@dataclass(frozen=True)
class Name(_Expression):
    """A variable."""

    name: str


@dataclass(frozen=True)
class ListOf(_Expression):
    """`[a, b, ...]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Operation(_Expression):
    """An operator with its operands: one (`!`, `-`), two, three (`?:`), or two and more (`&&`, `||`)."""

    operator: str
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Call(_Expression):
    """A function of that name; of a method, the first operand is what stands before the dot."""

    function: str
    operands: tuple[Expression, ...]
    is_method: bool = False


@dataclass(frozen=True)
class Opaque(_Expression):
    """Something that no rule needs: a map, a field of a value, an element of a list, a text of bytes."""


Expression: TypeAlias = Literal | Name | ListOf | Operation | Call | Opaque

Kind: TypeAlias = OneOf["all", "any", "not", "if", "leaf"]
"""What an expression is to the logic of a condition: `&&`, `||`, `!`, `?:`, or a comparison, whatever is in it."""

_KINDS: dict[str, Kind] = {"&&": "all", "||": "any", "!": "not", "?:": "if"}

RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})


def logic_of(expression: Expression) -> tuple[Kind, tuple[Expression, ...]]:
    """What an expression is to the logic of its condition, with its parts; a leaf has none."""
    if isinstance(expression, Operation) and expression.operator in _KINDS:
        return _KINDS[expression.operator], expression.operands
    return "leaf", ()


def names_needed(expression: Expression) -> tuple[str, ...] | None:
    """The variables without any of which an expression has no value; None where it may have one all the same."""
    match expression:
        case Literal():
            return ()
        case Name(name):
            return (name,)
        case Operation("&&" | "||" | "?:") | Opaque():
            return None
        case Operation(_, parts) | Call(_, parts) | ListOf(parts):
            found = [names_needed(part) for part in parts]
            return None if None in found else tuple(dict.fromkeys(name for names in found for name in names or ()))


def text_of(condition: str, expression: Expression) -> str:
    """An expression as it is written in its condition."""
    tokens = expression.tokens
    return condition[tokens[0].start : tokens[-1].start + len(tokens[-1].text)] if tokens else ""
