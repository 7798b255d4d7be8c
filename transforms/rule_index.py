"""Many compiled conditions as one plan: an index finds the few that an event may match, their code says which it does.

What Python can't say of a condition is put to CEL (`transforms.condition_code`), once for an event.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import cel

from transforms.condition_code import NEVER, NO_MATCH_ERRORS, Answers, Asked, Translator, function
from transforms.condition_parser import parse
from transforms.predicates import entries
from transforms.rule_values import Reader, Row
from transforms.variables import Vocabulary


class Condition:
    """A condition taken apart.

    Attributes:
      names: the variables that it uses, those behind `has_<name>` included.
    """

    def __init__(self, when: str, vocabulary: Vocabulary) -> None:
        self.text = when
        self.program = cel.compile(when)
        self.names = tuple(sorted({vocabulary.presence.get(name, name) for name in self.program.variables()}))
        self.root = parse(when)

    def can_match(self, event_type: str) -> bool:
        """False if the type of event alone makes the condition false, whatever all the rest is."""
        try:
            return self.program.execute({"event_type": event_type}) is not False
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
    found there are decided. A condition that the type of event rules out isn't in the plan.
    """

    def __init__(self, items: Iterable[T], vocabulary: Vocabulary, event_type: str | None) -> None:
        given = list(items)
        names = sorted({name for item in given for name in item.condition.names})
        self.reader = Reader(names, vocabulary, event_type)
        slots = self.reader.slots
        translator = Translator(vocabulary, slots, event_type)
        codes = [(item, translator.code(item.condition.root)) for item in given]
        codes = [(item, code) for item, code in codes if code.is_true != NEVER]
        self._items = tuple(item for item, _ in codes)
        self._holds = [function(code.is_true) for _, code in codes]
        self._fails = {i: function(code.is_failed) for i, (_, code) in enumerate(codes) if code.is_failed != NEVER}
        self._asked = Asked(translator.asked, vocabulary, slots)
        self._always: list[int] = []
        self._equal: dict[int, dict[Any, list[int]]] = {}
        thresholds: dict[tuple[int, str], list[tuple[float, int]]] = {}
        for i, item in enumerate(self._items):
            found = entries(item.condition.root, vocabulary, event_type)
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
        chosen = self._candidates(row)
        if not chosen:
            return []
        answers = Answers(self._asked, row)
        holds, items = self._holds, self._items
        found = [items[i] for i in chosen if holds[i](row, answers)]
        if answers.has_failed and on_error is not None:
            self._tell(chosen, row, answers, on_error)
        return found

    def _tell(self, chosen: list[int], row: Row, answers: Answers, on_error: Callable[[T, Exception], None]) -> None:
        for i in chosen:
            if i in self._fails and self._fails[i](row, answers):
                try:
                    self._items[i].condition.program.execute(self._asked.context(row))
                except NO_MATCH_ERRORS as error:
                    on_error(self._items[i], error)

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
        # One that stands under several comparisons may come several times.
        return sorted(set(candidates)) if len(candidates) > 1 else candidates


_BISECT: dict[str, Callable[[Sequence[float], float], int]] = {
    ">=": bisect_right,
    ">": bisect_left,
    "<=": bisect_left,
    "<": bisect_right,
}
"""Where the thresholds that a value passes end (above) or begin (below)."""
