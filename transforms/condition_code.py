"""Conditions as Python code that says exactly what CEL says, and asks CEL itself where Python can't.

CEL's `&&` and `||` are three-valued: false decides the one and true the other, whatever stands beside it, and an
operand that can't be evaluated leaves it open (CEL language definition, "Logical Operators"). So each part of a
condition becomes a Python expression for where it is true and another for where it is false. A comparison of a
variable with a constant is Python's own; any other is put to CEL, once for an event, however many conditions share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import cel

from transforms.condition_tree import Expression, Literal, logic_of, names_needed
from transforms.predicates import Predicate, predicate_of
from transforms.rule_values import Row
from transforms.variables import Vocabulary

NO_MATCH_ERRORS = (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError)
"""What CEL raises where a condition can't be evaluated; a RuntimeError where a value is unknown."""


def is_unknown(error: Exception) -> bool:
    """Whether CEL can't evaluate a condition because a value is unknown."""
    return str(error).startswith("Undefined variable")


class Asked:
    """CEL, to be asked about rows.

    Args:
      texts: the questions, expressions in CEL.
      slots: position in a row of each variable.
    """

    def __init__(self, texts: Iterable[str], vocabulary: Vocabulary, slots: Mapping[str, int]) -> None:
        self.questions = [cel.compile(text).execute for text in texts]
        self._slots = slots
        self._presence = {has: slots[name] for has, name in vocabulary.presence.items() if name in slots}

    def context(self, row: Row) -> cel.Context:
        """What the questions see of a row."""
        slots, presence = self._slots, self._presence

        def value(name: str) -> Any:
            if name in slots:
                return row[slots[name]]
            return row[presence[name]] is not None if name in presence else None

        context = cel.Context()
        # Half a microsecond for each value that is looked at, where to hand over all would be one for each there is.
        context.set_variable_resolver(value)
        return context


class Answers(dict[int, Any]):
    """CEL's answers on one row, by number of the question, each asked when it is first needed.

    An answer is True, False, None where a value is unknown, or the error.

    Attributes:
      has_failed: whether an answer is an error.
    """

    __slots__ = ("_asked", "_context", "_row", "has_failed")

    def __init__(self, asked: Asked, row: Row) -> None:
        self._asked = asked
        self._row = row
        self._context: cel.Context | None = None
        self.has_failed = False

    def __missing__(self, number: int) -> Any:
        if self._context is None:
            self._context = self._asked.context(self._row)
        try:
            answer = self._asked.questions[number](self._context)
        except NO_MATCH_ERRORS as error:
            answer = None if is_unknown(error) else error
            self.has_failed = self.has_failed or answer is not None
        self[number] = answer
        return answer


Function: TypeAlias = Callable[[Row, Answers], bool]

_MAX_DEPTH = 40
"""Logic that is nested deeper is left to CEL; Python's parser stops at 200 brackets."""


class Code(NamedTuple):
    """Python expressions over a row `r` and CEL's answers `q`; where none is true, the condition has failed.

    Unknown goes before failed, as in CEL's partial evaluation: a condition that lacks a value to be decided is unknown,
    whatever else in it can't be evaluated.
    """

    is_true: str
    is_false: str
    is_unknown: str

    @property
    def is_failed(self) -> str:
        """Code for where a condition can't be evaluated although no unknown value keeps it open."""
        # Only CEL's answers can fail.
        return _not(_any(*self)) if "q[" in self.is_true else NEVER


class Translator:
    """Translates conditions for rows in which variables stand at these positions.

    Args:
      slots: position in a row of each variable.
      event_type: type of the events, or None for any.

    Attributes:
      asked: what is to be put to CEL, by its text, with its number.
    """

    def __init__(self, vocabulary: Vocabulary, slots: Mapping[str, int], event_type: str | None) -> None:
        self._vocabulary = vocabulary
        self._slots = slots
        self._event_type = event_type
        self.asked: dict[str, int] = {}

    def code(self, expression: Expression, depth: int = 0) -> Code:
        """The code of an expression."""
        kind, parts = logic_of(expression)
        # Of the three parts of `?:` CEL evaluates two.
        if kind in ("leaf", "if") or depth > _MAX_DEPTH:
            return self._leaf(expression)
        found = [self.code(part, depth + 1) for part in parts]
        is_true, is_false, is_unknown = zip(*found, strict=True)
        if kind == "not":
            return Code(is_false[0], is_true[0], is_unknown[0])
        if kind == "all":
            false = _any(*is_false)
            return Code(_all(*is_true), false, _all(_not(false), _any(*is_unknown)))
        true = _any(*is_true)
        return Code(true, _all(*is_false), _all(_not(true), _any(*is_unknown)))

    def _leaf(self, expression: Expression) -> Code:
        if isinstance(expression, Literal) and isinstance(expression.value, bool):
            return _constant(expression.value)
        predicate = predicate_of(expression, self._vocabulary)
        return self._ask(expression) if predicate is None else self._compare(predicate)

    def _compare(self, predicate: Predicate) -> Code:
        if predicate.name == "event_type" and self._event_type is not None:
            return _constant(predicate.operator == "known" or predicate.holds_for(self._event_type))
        value = f"r[{self._slots[predicate.name]}]"
        is_unknown, word, constant = f"{value} is None", predicate.operator, predicate.constant
        if word in ("known", "unknown"):
            is_known = f"{value} is not None"
            return Code(is_known, is_unknown, NEVER) if word == "known" else Code(is_unknown, is_known, NEVER)
        if isinstance(constant, bool):
            return Code(f"{value} is {constant}", f"{value} is {not constant}", is_unknown)
        return Code(_test(value, word, constant), _test(value, _OPPOSITE[word], constant), is_unknown)

    def _ask(self, expression: Expression) -> Code:
        answer = f"q[{self.asked.setdefault(expression.text, len(self.asked))}]"
        # What CEL can't evaluate isn't put to it: an error costs three times as much as an answer.
        slots = [self._slots[name] for name in names_needed(expression) or () if name in self._slots]
        return Code(
            _all(*(f"r[{slot}] is not None" for slot in slots), f"{answer} is True"),
            _all(*(f"r[{slot}] is not None" for slot in slots), f"{answer} is False"),
            _any(*(f"r[{slot}] is None" for slot in slots), f"{answer} is None"),
        )


_OPPOSITE = {"==": "!=", "!=": "==", "in": "not in", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


def _test(value: str, operator: str, constant: Any) -> str:
    # None equals no constant.
    if operator in ("==", "in"):
        return f"{value} {operator} {constant!r}"
    return f"(v := {value}) is not None and v {operator} {constant!r}"


NEVER = "False"
"""The code of a condition that no event fulfils."""


def _constant(value: bool) -> Code:
    return Code(str(value), str(not value), NEVER)


def _not(code: str) -> str:
    return f"not ({code})"


def _all(*codes: str) -> str:
    if "False" in codes:
        return "False"
    rest = dict.fromkeys(code for code in codes if code != "True")
    return " and ".join(f"({code})" for code in rest) or "True"


def _any(*codes: str) -> str:
    if "True" in codes:
        return "True"
    rest = dict.fromkeys(code for code in codes if code != "False")
    return " or ".join(f"({code})" for code in rest) or "False"


def function(code: str) -> Function:
    """The function that a piece of code is."""
    # Its names are `r`, `q` and `v`, its constants numbers and texts as `repr` writes them.
    return eval(f"lambda r, q: {code}", {"__builtins__": {}})
