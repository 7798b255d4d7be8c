"""CEL's grammar: the text of a condition to its tree."""

from __future__ import annotations

from collections.abc import Sequence

import cel

from transforms.condition_tree import (
    RELATIONS,
    Call,
    Expression,
    ListOf,
    Literal,
    Name,
    Opaque,
    Operation,
    Token,
    tokenize,
)


def parse(condition: str) -> Expression:
    """The tree of a condition that CEL accepts; of any other text, `Opaque` where the grammar ends.

    Raises:
      RecursionError: it is nested too deeply.
    """
    tokens = tokenize(condition)
    parser = _Parser(tokens)
    try:
        tree = parser.expression()
    except _UnknownError:
        return Opaque(tokens=tokens)
    return tree if parser.at_end() else Opaque(tokens=tokens)


class _UnknownError(Exception):
    """The grammar here doesn't know what comes next."""


_PRECEDENCE = {
    **{"||": 0, "&&": 1},
    **dict.fromkeys(RELATIONS, 2),
    **dict.fromkeys("+-", 3),
    **dict.fromkeys("*/%", 4),
}
"""Of the operators with two operands, the weakest first; all group to the left."""


class _Parser:
    """Recursive descent over the grammar of CEL's language definition, section "Syntax"."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def at_end(self) -> bool:
        return self._at == len(self._tokens)

    def expression(self) -> Expression:
        start = self._at
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        then = self._binary(0)
        self._expect(":")
        otherwise = self.expression()
        return Operation("?:", (condition, then, otherwise), tokens=self._since(start))

    def _binary(self, weakest: int) -> Expression:
        start = self._at
        left = self._unary()
        chain: list[Expression] = []
        while (precedence := self._precedence()) >= weakest:
            operator = self._tokens[self._at].text
            self._at += 1
            right = self._binary(precedence + 1)
            is_chain = chain and isinstance(left, Operation) and left.operator == operator and precedence < 2
            chain = [*chain, right] if is_chain else [left, right]
            left = Operation(operator, tuple(chain), tokens=self._since(start))
        return left

    def _precedence(self) -> int:
        if self.at_end() or self._tokens[self._at].kind not in ("op", "name"):
            return -1
        return _PRECEDENCE.get(self._tokens[self._at].text, -1)

    def _unary(self) -> Expression:
        start = self._at
        operator = self._take("!", "-")
        if not operator:
            return self._member()
        if operator == "-" and not self.at_end() and self._tokens[self._at].kind == "number":
            self._at += 1
            return _literal(self._since(start))
        inner = self._unary()
        return Operation(operator, (inner,), tokens=self._since(start))

    def _member(self) -> Expression:
        start = self._at
        found = self._primary()
        while mark := self._take(".", "["):
            if mark == "[":
                self.expression()
                self._expect("]")
                found = Opaque(tokens=self._since(start))
                continue
            method = self._next("name").text
            if self._take("("):
                operands = (found, *self._items(")"))
                found = Call(method, operands, is_method=True, tokens=self._since(start))
            else:
                found = Opaque(tokens=self._since(start))
        return found

    def _primary(self) -> Expression:
        start = self._at
        if self._take("("):
            inner = self.expression()
            self._expect(")")
            return inner
        if self._take("["):
            return ListOf(self._items("]"), tokens=self._since(start))
        if self._take("{"):
            self._entries()
            return Opaque(tokens=self._since(start))
        token = self._next("name", "number", "string")
        if token.kind != "name" or token.text in ("true", "false"):
            return _literal([token])
        if self._take("("):
            return Call(token.text, self._items(")"), tokens=self._since(start))
        return Name(token.text, tokens=[token])

    def _items(self, end: str) -> tuple[Expression, ...]:
        items: list[Expression] = []
        while not self._take(end):
            items.append(self.expression())
            if not self._take(","):
                self._expect(end)
                break
        return tuple(items)

    def _entries(self) -> None:
        while not self._take("}"):
            self.expression()
            self._expect(":")
            self.expression()
            if not self._take(","):
                self._expect("}")
                break

    def _since(self, start: int) -> Sequence[Token]:
        return self._tokens[start : self._at]

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


def _literal(tokens: Sequence[Token]) -> Expression:
    """A literal by CEL itself: escapes, raw texts and hexadecimal numbers are its own."""
    if tokens[-1].kind == "number" and tokens[-1].text[-1] in "uU":
        return Opaque(tokens=tokens)
    try:
        value = cel.evaluate("".join(token.text for token in tokens))
    except (ValueError, RuntimeError, TypeError):
        return Opaque(tokens=tokens)
    return Literal(value, tokens=tokens) if isinstance(value, int | float | str) else Opaque(tokens=tokens)
