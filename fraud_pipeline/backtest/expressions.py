"""Conditions as trees: enough of CEL's grammar to see what a condition asks, for those who don't evaluate it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

import cel
import msgspec

from transforms.condition_tree import Token, tokenize


class Literal(msgspec.Struct, frozen=True):
    """A number, a text, true or false."""

    value: int | float | str | bool


class Name(msgspec.Struct, frozen=True):
    """A variable."""

    name: str


class ListOf(msgspec.Struct, frozen=True):
    """`[a, b, ...]`."""

    items: tuple[Expression, ...]


class Operation(msgspec.Struct, frozen=True):
    """An operator with its operands: one (`!`, `-`), two, or three (`?:`)."""

    operator: str
    operands: tuple[Expression, ...]


class Call(msgspec.Struct, frozen=True):
    """A function of that name; of a method, the first operand is what stands before the dot."""

    function: str
    operands: tuple[Expression, ...]
    is_method: bool = False


class Opaque(msgspec.Struct, frozen=True):
    """Something else."""


Expression: TypeAlias = Literal | Name | ListOf | Operation | Call | Opaque


def parse(condition: str) -> Expression:
    """The tree of a condition; `Opaque` for the whole of it where a part isn't understood."""
    parser = _Parser(tokenize(condition))
    try:
        tree = parser.ternary()
    except (_UnknownError, RecursionError):
        return Opaque()
    return tree if parser.at_end() else Opaque()


def unparse(expression: Expression) -> str:
    """CEL that means the same.

    Raises:
      ValueError: the tree holds something that isn't understood.
    """
    match expression:
        case Literal(bool(value)):
            return "true" if value else "false"
        case Literal(str(value)):
            # JSON's escapes are CEL's as well.
            return json.dumps(value, ensure_ascii=False)
        case Literal(value):
            return repr(value)
        case Name(name):
            return name
        case ListOf(items):
            return f"[{', '.join(map(unparse, items))}]"
        case Operation("?:", (condition, then, otherwise)):
            return f"({unparse(condition)} ? {unparse(then)} : {unparse(otherwise)})"
        case Operation(operator, (one,)):
            return f"({operator}{unparse(one)})"
        case Operation(operator, (left, right)):
            return f"({unparse(left)} {operator} {unparse(right)})"
        case Call(function, (receiver, *rest), True):
            return f"{unparse(receiver)}.{function}({', '.join(map(unparse, rest))})"
        case Call(function, operands):
            return f"{function}({', '.join(map(unparse, operands))})"
    raise ValueError(f"{expression} can't be written as CEL")


class _UnknownError(Exception):
    """The grammar here doesn't know what comes next."""


_LEVELS: tuple[tuple[str, ...], ...] = (
    ("||",),
    ("&&",),
    ("==", "!=", "<", "<=", ">", ">=", "in"),
    ("+", "-"),
    ("*", "/", "%"),
)
"""Operators of two operands by precedence, the weakest first; all group to the left."""


class _Parser:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def at_end(self) -> bool:
        return self._at == len(self._tokens)

    def ternary(self) -> Expression:
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        then = self._binary(0)
        self._expect(":")
        return Operation("?:", (condition, then, self.ternary()))

    def _binary(self, level: int) -> Expression:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while operator := self._take(*_LEVELS[level]):
            left = Operation(operator, (left, self._binary(level + 1)))
        return left

    def _unary(self) -> Expression:
        if operator := self._take("!", "-"):
            return Operation(operator, (self._unary(),))
        found = self._primary()
        while self._take("."):
            method = self._next("name").text
            self._expect("(")
            found = Call(method, (found, *self._items(")")), is_method=True)
        return found

    def _primary(self) -> Expression:
        if self._take("("):
            inner = self.ternary()
            self._expect(")")
            return inner
        if self._take("["):
            return ListOf(self._items("]"))
        token = self._next("name", "number", "string")
        if token.kind != "name":
            return _literal(token)
        if token.text in ("true", "false"):
            return Literal(token.text == "true")
        return Call(token.text, self._items(")")) if self._take("(") else Name(token.text)

    def _items(self, end: str) -> tuple[Expression, ...]:
        items: list[Expression] = []
        while not self._take(end):
            items.append(self.ternary())
            if not self._take(","):
                self._expect(end)
                break
        return tuple(items)

    def _next(self, *kinds: str) -> Token:
        if self.at_end() or self._tokens[self._at].kind not in kinds:
            raise _UnknownError
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, *texts: str) -> str:
        if self.at_end():
            return ""
        token = self._tokens[self._at]
        if token.text not in texts or token.kind not in ("op", "name"):
            return ""
        self._at += 1
        return token.text

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise _UnknownError


def _literal(token: Token) -> Expression:
    """A literal by CEL itself: escapes, raw texts and hexadecimal numbers are its own."""
    if token.text[-1] in "uU" and token.kind == "number":
        return Opaque()
    try:
        value = cel.evaluate(token.text)
    except (ValueError, RuntimeError, TypeError):
        return Opaque()
    return Literal(value) if isinstance(value, int | float | str) else Opaque()
