"""A row of history to the record that it was scored by, so that `score` answers as it does in the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from transforms.condition_tree import tokenize
from transforms.records import FeatureRecord
from transforms.rules import RuleSet
from transforms.variables import EVENT_MODELS, HAS_PREFIX, Vocabulary

EVENT_FIELDS = frozenset(field for model in EVENT_MODELS.values() for field in model.__struct_fields__)

Row: TypeAlias = Sequence[Any]


def columns_needed(rule_sets: Iterable[RuleSet], columns: Iterable[str]) -> tuple[str, ...]:
    """Names of the columns that rules, and what is counted of them, need: the event's fields, and the features named.

    Args:
      columns: all there are.
    """
    words: set[str] = set()
    for rules in rule_sets:
        for rule in rules.rules:
            words |= names_in(rule.when)
    return tuple(name for name in columns if name in EVENT_FIELDS or name == "event_type" or name in words)


def names_in(condition: str) -> set[str]:
    """Names of the variables in a condition, and of some more things; `has_<name>` counts as the name."""
    words = {token.text for token in tokenize(condition) if token.kind == "name"}
    return {word.removeprefix(HAS_PREFIX) for word in words}


class Reader:
    """Makes records of rows.

    Args:
      columns: names of a row's values. Fields and features that aren't among them are unknown.
      vocabulary: where the features stand in a record.
    """

    def __init__(self, columns: Sequence[str], vocabulary: Vocabulary) -> None:
        at = {name: i for i, name in enumerate(columns)}
        index = vocabulary.feature_index
        self._type = at["event_type"]
        self._features = tuple((index[name], i) for name, i in at.items() if name in index)
        self._unknown = [None] * len(index)
        self._models = {tag: _maker(model, at) for tag, model in EVENT_MODELS.items()}

    def record(self, row: Row) -> FeatureRecord:
        """The record of a row.

        Raises:
          KeyError: its type of event isn't one that is scored.
        """
        features: list[Any] = self._unknown.copy()
        for position, i in self._features:
            features[position] = row[i]
        event = self._models[row[self._type]](row)
        return FeatureRecord(event, features, event.event_time_ms, 0, "EVENT", False, event.event_time_ms)


def _maker(model: type[Any], at: dict[str, int]) -> Callable[[Row], Any]:
    given = tuple((field, at[field]) for field in model.__struct_fields__ if field in at and field != "attributes")
    # What the table doesn't hold is unknown, also where an event always has it.
    absent = {field: None for field in model.__struct_fields__ if field not in at}
    attributes_at = at.get("attributes")

    def make(row: Row) -> Any:
        values = {field: row[i] for field, i in given}
        if attributes_at is not None:
            text = row[attributes_at]
            values["attributes"] = None if text is None else _decode(text)
        return model(**values, **absent)

    return make


_decode = msgspec.json.Decoder(dict[str, str | int | float | bool]).decode
