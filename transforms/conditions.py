"""Conditions of rules: the variables they may use, and the check that finds a mistake before an event does.

CEL (cel.dev) evaluates to an error where types don't fit, and compares unlike types as unequal without a word. Both
would be a rule that never fires and nobody knows. So a condition is taken apart at its logical operators, and every
comparison in it is evaluated on sample values of its variables' types, apart from the operators that could hide it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal, NamedTuple, TypeAlias

import cel
import msgspec

from transforms.features import FEATURES

VariableType: TypeAlias = Literal["int", "float", "bool", "string"]

MAX_CONDITION_CHARS = 4_000
"""Longer conditions are refused; the parser of the CEL library is recursive."""


class Variable(msgspec.Struct, frozen=True):
    """A name that a condition may use.

    Attributes:
      nullable: whether it may be unknown; then `has_<name>` exists too.
      choices: the only values it can have; empty if any.
    """

    name: str
    type: VariableType
    unit: str
    help: str
    nullable: bool = False
    choices: tuple[str, ...] = ()


def _field(name: str, type: VariableType, unit: str, help: str, *choices: str) -> Variable:
    return Variable(name, type, unit, help, nullable=True, choices=choices)


EVENT_VARIABLES: tuple[Variable, ...] = (
    Variable("event_type", "string", "", "Kind of the event.", choices=("login", "payment")),
    Variable("user_id", "string", "", "The user."),
    Variable("event_time_ms", "int", "epoch ms", "Time of the event, UTC."),
    _field("outcome", "string", "", "How the login ended; unknown for a payment.", "success", "failure"),
    _field("amount_minor", "int", "minor units", "Amount of the payment; unknown for a login."),
    _field("currency", "string", "ISO 4217", "Currency of the payment; unknown for a login."),
    _field("ip", "string", "", "IP address."),
    _field("device_id", "string", "", "Device."),
    _field("user_agent", "string", "", "User agent."),
    _field("country", "string", "ISO 3166-1 alpha-2", "Country."),
    _field("latitude", "float", "degrees", "Latitude, north positive."),
    _field("longitude", "float", "degrees", "Longitude, east positive."),
    _field("merchant_id", "string", "", "Merchant of the payment."),
    _field("payee_id", "string", "", "Payee of the payment."),
    _field("card_id", "string", "", "Token of the card."),
    _field("expected_amount_minor", "int", "minor units", "Amount that the payment was expected to have."),
)
"""Fields of the event itself. `event_id` isn't among them: no decision should hang on it."""

VARIABLES: dict[str, Variable] = {
    variable.name: variable
    for variable in (
        *EVENT_VARIABLES,
        *(Variable(f.name, f.type, f.unit, f.help, f.nullable) for f in FEATURES),
    )
}
"""Everything that a condition may name, besides `has_<name>` for each that may be unknown."""

HAS_PREFIX = "has_"
PRESENCE: dict[str, str] = {f"{HAS_PREFIX}{v.name}": v.name for v in VARIABLES.values() if v.nullable}
"""`has_<name>`, always true or false, to the variable that it asks for."""


class ConditionError(Exception):
    """A condition that can't work.

    Attributes:
      offset: position in the condition's text, in characters from 0.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class Token(NamedTuple):
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


def check_condition(condition: str) -> tuple[str, ...]:
    """Checks a condition as far as that is possible without an event.

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
        if name not in VARIABLES and name not in PRESENCE:
            at = next((t.start for t in tokens if t.kind == "name" and t.text == name), 0)
            raise ConditionError(f"unknown variable '{name}'{_nearest(name, [*VARIABLES, *PRESENCE])}", at)
    if not used:
        raise ConditionError("the condition uses no variable, so it is always true or always false", 0)
    try:
        _check_boolean(condition, tokens)
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


def _check_boolean(condition: str, tokens: Sequence[Token]) -> None:
    """Takes the condition apart at its logical operators, down to comparisons, each checked by itself."""
    tokens = _without_parentheses(tokens)
    top = _top_level(tokens)
    question = next((i for i in top if tokens[i].text == "?"), None)
    if question is not None:
        colon = next(i for i in top if i > question and tokens[i].text == ":")
        parts = [tokens[:question], tokens[question + 1 : colon], tokens[colon + 1 :]]
    else:
        parts = _split(tokens, top, "||")
        parts = _split(tokens, top, "&&") if len(parts) == 1 else parts
    if len(parts) > 1:
        for part in parts:
            _check_boolean(condition, part)
        return
    relation = next((i for i in reversed(top) if tokens[i].text in _RELATIONS), None)
    if relation is not None:
        _check_relation(condition, tokens, relation)
    elif tokens[0].text == "!":
        _check_boolean(condition, tokens[1:])
        return
    for value in _sample_values(condition, tokens):
        if not isinstance(value, bool):
            text = _text(condition, tokens)
            fix = f"compare it, as in `{text} > 0`" if _kind(value) == "number" else "compare it with something"
            raise ConditionError(f"`{text}` is a {_kind(value)}, not true or false; {fix}", tokens[0].start)


_RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})


def _check_relation(condition: str, tokens: Sequence[Token], at: int) -> None:
    left, right = tokens[:at], tokens[at + 1 :]
    left_values, right_values = _sample_values(condition, left), _sample_values(condition, right)
    if tokens[at].text == "in":
        lists = [value for value in right_values if not isinstance(value, list)]
        if lists:
            raise ConditionError(
                f"'in' needs a list on its right, such as ['DE', 'FR'], but `{_text(condition, right)}` is a "
                f"{_kind(lists[0])}",
                right[0].start,
            )
        right_values = [item for value in right_values for item in value]
    left_kinds, right_kinds = {_kind(v) for v in left_values}, {_kind(v) for v in right_values}
    if left_kinds and right_kinds and (left_kinds != right_kinds or len(left_kinds) > 1):
        raise ConditionError(
            f"`{_text(condition, tokens)}` compares a {'/'.join(sorted(left_kinds))} with a "
            f"{'/'.join(sorted(right_kinds))}, which can never match",
            tokens[0].start,
        )
    for names, others, values in ((left, right, right_values), (right, left, left_values)):
        variable = VARIABLES.get(names[0].text) if len(names) == 1 else None
        if variable and variable.choices and not any(t.text in VARIABLES for t in others if t.kind == "name"):
            for value in values:
                if value not in variable.choices:
                    raise ConditionError(
                        f"'{variable.name}' is never {shorten(repr(value))}; it is one of "
                        f"{', '.join(map(repr, variable.choices))}",
                        others[0].start,
                    )


_SAMPLES: list[dict[str, Any]] = [
    {
        **{v.name: pick.get(v.type, v.choices[last] if v.choices else text) for v in VARIABLES.values()},
        **dict.fromkeys(PRESENCE, pick["bool"]),
    }
    for pick, last, text in (
        ({"int": 0, "float": 0.0, "bool": False}, 0, ""),
        ({"int": 1, "float": 1.5, "bool": True}, -1, "x"),
    )
]
_CONTEXTS = [cel.Context(variables=sample) for sample in _SAMPLES]


def _sample_values(condition: str, tokens: Sequence[Token]) -> list[Any]:
    """What a part of the condition comes out as on the samples. A division by zero or an overflow gives nothing."""
    text = _text(condition, tokens)
    values = []
    try:
        program = _compile(text)
        for context in _CONTEXTS:
            try:
                values.append(program.execute(context))
            except (ZeroDivisionError, OverflowError):
                continue
    except ConditionError as error:
        raise ConditionError(str(error), tokens[0].start + error.offset if tokens else 0) from None
    except (TypeError, RuntimeError, ValueError, LookupError) as error:
        raise ConditionError(_why(str(error), text, tokens), tokens[0].start) from None
    return values


def _why(error: str, text: str, tokens: Sequence[Token]) -> str:
    undefined = re.match(r"Undefined variable or function: '(\w*)'", error)
    if undefined:
        return f"unknown function '{undefined[1]}'{_nearest(undefined[1], FUNCTIONS)}; there are {', '.join(FUNCTIONS)}"
    failed = re.match(r"Function '(\w+)' error: (.*?)(\. Check function|$)", error, re.DOTALL)
    if failed:
        return f"'{failed[1]}' fails in `{shorten(text)}`: {shorten(failed[2])}; mend its argument"
    types = {t.text: VARIABLES[t.text].type for t in tokens if t.kind == "name" and t.text in VARIABLES}
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


def _text(condition: str, tokens: Sequence[Token]) -> str:
    if not tokens:
        return ""
    return condition[tokens[0].start : tokens[-1].start + len(tokens[-1].text)]


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


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def shorten(text: str, limit: int = 100) -> str:
    """The text on one line, cut at `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
