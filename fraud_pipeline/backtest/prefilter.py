"""Which rows of history a condition may match or fail on, as SQL: never fewer than there are, and mostly no more.

A column is NULL where a variable is unknown. Then SQL's three-valued logic decides as a condition does: `false AND
NULL` is false, `true OR NULL` true, and all else with NULL in it neither. So what SQL can say exactly is said; what it
can't (functions, divisions) may be true and may be false, and so may what can't be evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from transforms.condition_parser import parse
from transforms.condition_tree import Call, Expression, ListOf, Literal, Name, Operation, names_needed
from transforms.variables import HAS_PREFIX


class May(NamedTuple):
    """Two SQL conditions: true on each row where an expression is true, or where it is false."""

    be_true: str
    be_false: str


_ANYTHING = May("TRUE", "TRUE")


class _Value(NamedTuple):
    """A value as SQL: of DuckDB's type `kind`; `exact` unless it can be infinite, no number or too large."""

    sql: str
    kind: str
    exact: bool = True


_NUMBERS = ("BIGINT", "DOUBLE")


class Columns(NamedTuple):
    """What SQL knows of a condition's variables.

    Attributes:
      types: DuckDB's types (BIGINT, DOUBLE, BOOLEAN, VARCHAR) by the names of the variables that are columns.
      known: for other variables, SQL that is true at least wherever they are known.
      true: for yes/no variables that aren't columns and always known, SQL that is true at least wherever they are.
      ask: what is known of an expression that SQL can't say and that looks at one column of texts only; or None.
    """

    types: Mapping[str, str]
    known: Mapping[str, str] = {}
    true: Mapping[str, str] = {}
    ask: Callable[[Expression, str], May | None] = lambda expression, name: None


def prefilter(conditions: Iterable[str], columns: Columns) -> str:
    """SQL that is true on each row on which at least one of the conditions is.

    Args:
      conditions: in CEL, as a rules file may hold them.
    """
    parts = dict.fromkeys(may(parse(condition), columns).be_true for condition in conditions)
    if "TRUE" in parts:
        return "TRUE"
    return " OR ".join(f"({part})" for part in parts) or "FALSE"


def may(expression: Expression, columns: Columns) -> May:
    """Where an expression may be true and where it may be false."""
    match expression:
        case Literal(bool(constant)):
            return May("TRUE", "FALSE") if constant else May("FALSE", "TRUE")
        case Name(name):
            value = _value(expression, columns)
            if value is not None and value.kind == "BOOLEAN":
                return May(value.sql, f"NOT {value.sql}")
            if name in columns.true:
                return May(columns.true[name], "TRUE")
            return _presence(name, columns) or _strict(expression, columns)
        case Operation("!", (inner,)):
            one = may(inner, columns)
            return May(one.be_false, one.be_true)
        case Operation("&&", parts):
            found = [may(part, columns) for part in parts]
            return May(_all(*(p.be_true for p in found)), _any(*(p.be_false for p in found)))
        case Operation("||", parts):
            found = [may(part, columns) for part in parts]
            return May(_any(*(p.be_true for p in found)), _all(*(p.be_false for p in found)))
        case Operation("?:", (condition, then, otherwise)):
            c, a, b = may(condition, columns), may(then, columns), may(otherwise, columns)
            return May(
                _any(_all(c.be_true, a.be_true), _all(c.be_false, b.be_true)),
                _any(_all(c.be_true, a.be_false), _all(c.be_false, b.be_false)),
            )
        case Operation("in", (item, ListOf(items))):
            equal = [_exact_relation("==", item, one, columns) for one in items if isinstance(one, Literal)]
            said = [one for one in equal if one is not None]
            if len(said) < len(items) or not items:
                return _strict(expression, columns)
            return May(_any(*(one.be_true for one in said)), _all(*(one.be_false for one in said)))
        case Operation(operator, (left, right)) if operator in _SQL_RELATIONS:
            return _exact_relation(operator, left, right, columns) or _strict(expression, columns)
        case Call("startsWith" | "endsWith" | "contains" as method, (receiver, Literal(str()) as part)):
            text, wanted = _value(receiver, columns), _value(part, columns)
            if text is None or wanted is None or text.kind != "VARCHAR":
                return _strict(expression, columns)
            sql = f"{_SQL_METHODS[method]}({text.sql}, {wanted.sql})"
            return May(sql, f"NOT {sql}")
    return _strict(expression, columns)


_SQL_RELATIONS = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_SQL_METHODS = {"startsWith": "starts_with", "endsWith": "ends_with", "contains": "contains"}


def _presence(name: str, columns: Columns) -> May | None:
    asked = name.removeprefix(HAS_PREFIX)
    if asked == name:
        return None
    if asked in columns.types:
        return May(f"{_quoted(asked)} IS NOT NULL", f"{_quoted(asked)} IS NULL")
    return May(columns.known.get(asked, "TRUE"), "TRUE")


def _strict(expression: Expression, columns: Columns) -> May:
    """Of what SQL can't say: that all variables are known, as without one of them it is an error."""
    names = names_needed(expression)
    if names is None:
        return _ANYTHING
    if len(names) == 1 and columns.types.get(names[0]) == "VARCHAR":
        answer = columns.ask(expression, names[0])
        if answer is not None:
            return answer
    known = [
        f"{_quoted(name)} IS NOT NULL" if name in columns.types else columns.known.get(name, "TRUE") for name in names
    ]
    return May(_all(*known), _all(*known))


def _exact_relation(operator: str, left: Expression, right: Expression, columns: Columns) -> May | None:
    a, b = _value(left, columns), _value(right, columns)
    if a is None or b is None:
        return None
    numbers = a.kind in _NUMBERS and b.kind in _NUMBERS
    if not numbers and (a.kind != b.kind or operator not in ("==", "!=")):
        return None
    sql = f"{a.sql} {_SQL_RELATIONS[operator]} {b.sql}"
    names = dict.fromkeys(name for side in (left, right) for name in names_needed(side) or ())
    is_known = _all(*(f"{_quoted(name)} IS NOT NULL" for name in names))
    odd = [_odd(value, is_known) for value in (a, b) if not value.exact]
    return May(_any(sql, *odd), _any(f"NOT ({sql})", *odd))


def _odd(value: _Value, is_known: str) -> str:
    """Where DuckDB and CEL may differ: beyond the finite numbers, which they order otherwise, and where CEL fails."""
    if value.kind == "DOUBLE":
        return f"COALESCE(NOT isfinite({value.sql}), {is_known})"
    return f"{value.sql} IS NULL AND {is_known}"


def _value(expression: Expression, columns: Columns) -> _Value | None:
    match expression:
        case Literal(constant):
            return _literal(constant)
        case Name(name):
            kind = columns.types.get(name)
            return None if kind is None else _Value(_quoted(name), kind)
        case Operation("-", (inner,)):
            value = _value(inner, columns)
            if value is not None and value.kind == "DOUBLE":
                return value._replace(sql=f"(-{value.sql})")
        case Call("double", (inner,)):
            value = _value(inner, columns)
            if value is not None and value.kind in _NUMBERS:
                return value._replace(sql=f"CAST({value.sql} AS DOUBLE)", kind="DOUBLE")
        case Operation("+" | "-" | "*" as operator, (left, right)):
            a, b = _value(left, columns), _value(right, columns)
            if a is not None and b is not None and a.kind == b.kind == "DOUBLE":
                return _Value(f"({a.sql} {operator} {b.sql})", "DOUBLE", exact=False)
            if a is not None and b is not None and a.kind == b.kind == "BIGINT":
                # A HUGEINT holds the product of any two integers; one that is too large for CEL becomes NULL.
                sql = f"TRY_CAST({a.sql}::HUGEINT {operator} {b.sql}::HUGEINT AS BIGINT)"
                return _Value(sql, "BIGINT", exact=False)
    return None


def _literal(value: int | float | str | bool) -> _Value | None:
    if isinstance(value, bool):
        return _Value("TRUE" if value else "FALSE", "BOOLEAN")
    if isinstance(value, int):
        return _Value(f"{value}::BIGINT", "BIGINT")
    if isinstance(value, float):
        # A bare 1.5 is a DECIMAL in DuckDB, and compares as one with a BIGINT.
        return _Value(f"'{value!r}'::DOUBLE", "DOUBLE")
    if "\0" in value:
        return None
    return _Value("'" + value.replace("'", "''") + "'", "VARCHAR")


def _all(*parts: str) -> str:
    """AND, where FALSE and TRUE are known at once."""
    if "FALSE" in parts:
        return "FALSE"
    rest = [part for part in parts if part != "TRUE"]
    return " AND ".join(f"({part})" for part in rest) if rest else "TRUE"


def _any(*parts: str) -> str:
    if "TRUE" in parts:
        return "TRUE"
    rest = [part for part in parts if part != "FALSE"]
    return " OR ".join(f"({part})" for part in rest) if rest else "FALSE"


def _quoted(name: str) -> str:
    return f'"{name}"'
