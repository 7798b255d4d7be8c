"""Which rows some rule or list of a file may match: the prefilter of its conditions, and who is on its lists.

What SQL can't say of a text (`user_agent.matches('...')`, a network that holds an address) is asked once for each
different value in history.
"""

from __future__ import annotations

from collections.abc import Mapping

import cel

from fraud_pipeline.backtest.history import History
from fraud_pipeline.backtest.prefilter import Columns, May, prefilter
from transforms.condition_code import NO_MATCH_ERRORS
from transforms.condition_tree import Expression
from transforms.lists import ValueList
from transforms.rules import RuleSet
from transforms.variables import LIST_PREFIX, Vocabulary

_KINDS = frozenset({"BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR"})

_BEFORE_ALL_MS = -(1 << 62)


def matches_some(history: History, rules: RuleSet) -> str:
    """SQL that is true on each row of history on which a rule or a list fires, live or on trial."""
    lists = _on_lists(history, rules)
    columns = variables(history.columns, rules.vocabulary, lists)._replace(ask=_Asked(history, rules))
    decided = [lists[one.head.name] for one in rules.lists.lists if one.fired.action is not None]
    conditions = prefilter((rule.when for rule in rules.rules), columns)
    return " OR ".join(f"({part})" for part in (conditions, *decided))


def variables(columns: Mapping[str, str], vocabulary: Vocabulary, lists: Mapping[str, str]) -> Columns:
    """What SQL knows of the variables that conditions may name.

    Args:
      columns: DuckDB's types of a table's columns.
      lists: by name, SQL that is true at least where an event is on it.
    """
    has_key = """COALESCE(contains(attributes, '"{}"'), FALSE)""" if "attributes" in columns else "FALSE"
    return Columns(
        types={name: kind for name, kind in columns.items() if name in vocabulary.variables and kind in _KINDS},
        # The text of a JSON object that has the key holds it in quotes.
        known={name: has_key.format(name) for name in vocabulary.attributes},
        true={LIST_PREFIX + name: lists.get(name, "FALSE") for name in vocabulary.lists},
    )


def _on_lists(history: History, rules: RuleSet) -> dict[str, str]:
    """By list, SQL that is true at least where an event is on it: entries that ended count as well.

    Each different value in history is looked up once, by the list itself.
    """
    found = {}
    for number, one in enumerate(rules.lists.lists):
        field = one.head.field
        if field in rules.vocabulary.attributes and "attributes" in history.columns:
            found[one.head.name] = "attributes IS NOT NULL"
        elif history.columns.get(field) == "VARCHAR":
            table = f"list_{rules.version}_{number}"
            history.keep(table, [value for value in history.values(field) if _is_on(one, value)])
            found[one.head.name] = _is_in(field, table)
        else:
            found[one.head.name] = "FALSE"
    return found


def _is_on(one: ValueList, value: str) -> bool:
    return one.find(value, _BEFORE_ALL_MS) is not None


MOST_VALUES = 1_000_000
"""Where a column has more different values, asking for each isn't worth it."""


class _Asked:
    """Finds for which values of a column of texts an expression is true, and for which false."""

    def __init__(self, history: History, rules: RuleSet) -> None:
        self._history = history
        self._name = f"asked_{rules.version}"
        self._number = 0

    def __call__(self, expression: Expression, column: str) -> May | None:
        values = self._history.values(column, MOST_VALUES + 1)
        if len(values) > MOST_VALUES:
            return None
        program = cel.compile(expression.text)
        answers: dict[bool, list[str]] = {True: [], False: []}
        for value in values:
            try:
                answer = program.execute(cel.Context(variables={column: value}))
            except NO_MATCH_ERRORS:
                # The rules themselves are to tell of it.
                answers[True].append(value)
                answers[False].append(value)
                continue
            if isinstance(answer, bool):
                answers[answer].append(value)
        self._number += 1
        tables = {answer: f"{self._name}_{self._number}_{str(answer).lower()}" for answer in answers}
        for answer, table in tables.items():
            self._history.keep(table, answers[answer])
        return May(_is_in(column, tables[True]), _is_in(column, tables[False]))


def _is_in(column: str, table: str) -> str:
    return f'"{column}" IN (SELECT value FROM "{table}")'
