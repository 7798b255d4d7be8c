"""Many compiled conditions as one plan: an index finds the few that an event may match, CEL says which it does."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import cel

from transforms.condition_tree import parse, tokenize
from transforms.predicates import TESTS, entries, needed
from transforms.rule_values import Reader, Row
from transforms.variables import Vocabulary

NO_MATCH_ERRORS = (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError)
"""What CEL raises where a condition can't be evaluated; a RuntimeError where a value is unknown."""


class Condition:
    """A compiled condition.

    Attributes:
      variables: all that it uses, `has_<name>` included.
      names: the variables behind them, without `has_<name>`.
    """

    def __init__(self, when: str, vocabulary: Vocabulary) -> None:
        program = cel.compile(when)
        self.execute = program.execute
        self.variables = tuple(sorted(program.variables()))
        self.names = tuple(sorted({vocabulary.presence.get(name, name) for name in self.variables}))
        self.root = parse(tokenize(when))
        self.needed = needed(self.root, vocabulary)

    def can_match(self, event_type: str) -> bool:
        """False if the type of event alone makes the condition false, whatever all the rest is."""
        try:
            return self.execute(cel.Context(variables={"event_type": event_type})) is not False
        except NO_MATCH_ERRORS:
            return True


class HasCondition(Protocol):
    """Something to decide on by a condition."""

    condition: Condition


T = TypeVar("T", bound=HasCondition)


class Plan(Generic[T]):
    """Conditions to evaluate together on events of one type, or on mappings of any.

    Each condition stands in the index under a comparison that it needs (`failures_in_a_row >= 6`), or under several of
    which it needs one: thresholds of a variable are sorted and searched, values of an equality looked up. Only those
    found there have the rest of their comparisons tried, and only those that pass are evaluated.
    """

    def __init__(self, items: Sequence[T], vocabulary: Vocabulary, event_type: str | None) -> None:
        self._items = tuple(items)
        names = sorted({name for item in items for name in item.condition.names})
        self.reader = Reader(names, vocabulary, event_type)
        slots = self.reader.slots
        self._uses: list[tuple[tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]] = []
        self._checks: list[tuple[tuple[int, Any, Any], ...]] = []
        self._always: list[int] = []
        self._equal: dict[int, dict[Any, list[int]]] = {}
        thresholds: dict[tuple[int, str], list[tuple[float, int]]] = {}
        for i, item in enumerate(self._items):
            condition = item.condition
            used = condition.variables
            self._uses.append(
                (
                    tuple((name, slots[name]) for name in used if name in slots),
                    tuple((name, slots[vocabulary.presence[name]]) for name in used if name not in slots),
                )
            )
            found = entries(condition.root, vocabulary, event_type)
            checks = (p for p in condition.needed if found != (p,) and (p.name != "event_type" or event_type is None))
            self._checks.append(tuple((slots[p.name], TESTS[p.operator], p.constant) for p in checks))
            if found is None:
                self._always.append(i)
            for name, word, constant in found or ():
                if word in ("==", "in"):
                    table = self._equal.setdefault(slots[name], {})
                    for value in constant if word == "in" else (constant,):
                        table.setdefault(value, []).append(i)
                else:
                    thresholds.setdefault((slots[name], word), []).append((constant, i))
        self._thresholds = [
            (slot, word in (">", ">="), _BISECT[word], [c for c, _ in sorted(pairs)], [i for _, i in sorted(pairs)])
            for (slot, word), pairs in thresholds.items()
        ]
        self._equals = tuple(self._equal.items())

    def matching(self, row: Row, on_error: Callable[[T, Exception], None] | None) -> list[T]:
        """Those whose condition holds, in the order given.

        Args:
          row: as `reader` gives it.
          on_error: called where a condition can't be evaluated for another reason than an unknown value.
        """
        try:
            chosen = self._candidates(row)
        except TypeError:
            # A value of another type than declared, in a row from outside: CEL says what is wrong with it.
            chosen = list(range(len(self._items)))
        if not chosen:
            return []
        variables: dict[str, Any] = {}
        for i in chosen:
            plain, presence = self._uses[i]
            for name, slot in plain:
                value = row[slot]
                if value is not None:
                    variables[name] = value
            for name, slot in presence:
                variables[name] = row[slot] is not None
        context = cel.Context(variables=variables)
        found = []
        for i in chosen:
            item = self._items[i]
            try:
                if item.condition.execute(context) is True:
                    found.append(item)
            except NO_MATCH_ERRORS as error:
                if on_error is not None and not str(error).startswith("Undefined variable"):
                    on_error(item, error)
        return found

    def _candidates(self, row: Row) -> list[int]:
        candidates = self._always.copy()
        for slot, table in self._equals:
            found = table.get(row[slot])
            if found:
                candidates += found
        for slot, is_lower, bisect, constants, items in self._thresholds:
            value = row[slot]
            if value is not None:
                at = bisect(constants, value)
                candidates += items[:at] if is_lower else items[at:]
        if not candidates:
            return candidates
        checks = self._checks
        passing = []
        for i in candidates:
            for slot, test, constant in checks[i]:
                value = row[slot]
                if value is None:
                    if test is not _UNKNOWN:
                        break
                elif not test(value, constant):
                    break
            else:
                passing.append(i)
        # One that stands under several comparisons may come several times.
        return sorted(set(passing)) if len(passing) > 1 else passing


_UNKNOWN = TESTS["unknown"]

_BISECT: dict[str, Callable[[Sequence[float], float], int]] = {
    ">=": bisect_right,
    ">": bisect_left,
    "<=": bisect_left,
    "<": bisect_right,
}
"""Where the thresholds that a value passes end (above) or begin (below)."""


def plans(items: Iterable[T], vocabulary: Vocabulary, event_types: Iterable[str]) -> dict[str, Plan[T]]:
    """A plan for each type of event, of the conditions that it doesn't rule out."""
    kept = list(items)
    return {
        event_type: Plan([i for i in kept if i.condition.can_match(event_type)], vocabulary, event_type)
        for event_type in event_types
    }
