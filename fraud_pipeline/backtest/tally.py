"""What rules say of many rows, counted: small, and of any part of history, so that parts add up to the whole.

Rows that the rules answer alike are one entry. All figures can be made of these, overlaps of rules among them.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from transforms.records import FiredRule, Score
from transforms.rules import Thresholds
from transforms.scoring import combine, decide


class Outcome(NamedTuple):
    """What a file of rules says of an event, and what turned out.

    Attributes:
      fired: ids of the live rules that fired, the most severe first.
      shadow: ids of those on trial that did.
      action: the decision.
      action_with_shadow: what it would be if the rules on trial were live.
      is_fraud: the verdict, None without one.
      currency: of a payment, None of anything else.
    """

    fired: tuple[str, ...]
    shadow: tuple[str, ...]
    action: str
    action_with_shadow: str
    is_fraud: bool | None
    currency: str | None


class Change(NamedTuple):
    """What two files of rules say of an event, and what turned out.

    Attributes:
      gained: ids of the live rules that fire in the new file only.
      lost: ids of those that fire in the old one only.
    """

    old_action: str
    new_action: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    is_fraud: bool | None
    currency: str | None


class Example(msgspec.Struct, frozen=True):
    """An event on which two files of rules differ.

    Attributes:
      old, new: what each says: action, score, and ids of the rules that fired.
      mattered: values of the features and fields that the rules look at that fired in one file only; of all that fired
        where these are the same.
    """

    event_id: str
    user_id: str
    event_time_ms: int
    amount_minor: int | None
    currency: str | None
    is_fraud: bool | None
    old: Said
    new: Said
    mattered: dict[str, Any]

    @property
    def order(self) -> Order:
        """Its place among the examples."""
        return order(self.user_id, self.event_id)


class Said(msgspec.Struct, frozen=True):
    """A decision in short."""

    action: str
    score: float
    fired: tuple[str, ...]


Order: TypeAlias = tuple[int, str, str]


def order(user_id: str, event_id: str) -> Order:
    """An event's place among the examples: by chance, and the same in each run. Those that come first are kept."""
    return zlib.crc32(event_id.encode("utf-8", "surrogatepass")), user_id, event_id


class Tally:
    """Counts of events, and sums of their amounts (minor units), by outcome or change.

    Attributes:
      errors: by rule, events on which its condition can't be evaluated (a division by zero, an overflow).
      examples: of changes, some by old and new action.
    """

    def __init__(self, most_examples: int = 0) -> None:
        self.events: Counter[Any] = Counter()
        self.amount_minor: Counter[Any] = Counter()
        self.errors: Counter[str] = Counter()
        self.examples: dict[tuple[str, str], list[Example]] = {}
        self.row_count = 0
        self._most_examples = most_examples

    def add(self, key: Outcome | Change, amount_minor: int) -> None:
        """Counts one event."""
        self.events[key] += 1
        self.amount_minor[key] += amount_minor

    def wants(self, old_action: str, new_action: str, place: Order) -> bool:
        """Whether an example at that place would be kept, as far as is known."""
        kept = self.examples.get((old_action, new_action), [])
        return len(kept) < self._most_examples or (bool(kept) and place < kept[-1].order)

    def show(self, example: Example) -> None:
        """Keeps an example, or not."""
        self._keep((example.old.action, example.new.action), [example])

    def merge(self, other: Tally) -> None:
        """Adds what another part of history gave."""
        self.events.update(other.events)
        self.amount_minor.update(other.amount_minor)
        self.errors.update(other.errors)
        self.row_count += other.row_count
        for key, examples in other.examples.items():
            self._keep(key, examples)

    def _keep(self, key: tuple[str, str], examples: Iterable[Example]) -> None:
        kept = [*self.examples.get(key, []), *examples]
        self.examples[key] = sorted(kept, key=lambda example: example.order)[: self._most_examples]


def outcome(found: Score, thresholds: Thresholds, is_fraud: bool | None, currency: str | None) -> Outcome:
    """The entry of an event."""
    with_shadow = found.action
    if found.shadow:
        both = (*found.fired, *found.shadow)
        with_shadow = decide(both, combine(rule.weight for rule in both), thresholds)
    return Outcome(ids(found.fired), ids(found.shadow), found.action, with_shadow, is_fraud, currency)


def change(old: Score, new: Score, is_fraud: bool | None, currency: str | None) -> Change | None:
    """The entry of an event, or None if both files say the same of it, for the same reasons."""
    before, after = ids(old.fired), ids(new.fired)
    if before == after and old.action == new.action and old.score == new.score:
        return None
    gained = tuple(rule for rule in after if rule not in before)
    lost = tuple(rule for rule in before if rule not in after)
    return Change(old.action, new.action, gained, lost, is_fraud, currency)


def ids(fired: Iterable[FiredRule]) -> tuple[str, ...]:
    """The ids of rules."""
    return tuple(rule.rule_id for rule in fired)


def said(found: Score) -> Said:
    """A decision in short."""
    return Said(found.action, found.score, ids(found.fired))


def mattered(old: Score, new: Score, inputs: Mapping[str, Iterable[str]]) -> list[str]:
    """Names of the variables that made the difference, sorted; see `Example.mattered`.

    Args:
      inputs: by rule, what its condition looks at, in either file.
    """
    before, after = set(ids(old.fired)), set(ids(new.fired))
    return sorted({name for rule in before ^ after or before | after for name in inputs[rule]})
