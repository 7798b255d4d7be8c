"""The values that conditions see, of a record or of a mapping (a table's row, an example), in the order asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isnan
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

import msgspec

from transforms.predicates import EXACT
from transforms.records import FeatureRecord
from transforms.rfc3339 import epoch_ms
from transforms.variables import EVENT_MODELS, LIST_PREFIX, VariableType, Vocabulary

Row: TypeAlias = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Reader:
    """Reads the values of the named variables; unknown ones are None.

    Args:
      names: variables, without `has_<name>`.
      event_type: the type of the records that it reads; None for mappings of any type.

    Attributes:
      slots: position in a row of each name.
      list_names: names of the lists among the variables, without `on_list_`.
    """

    def __init__(self, names: Sequence[str], vocabulary: Vocabulary, event_type: str | None) -> None:
        model = EVENT_MODELS[event_type].__struct_fields__ if event_type is not None else ()
        index = vocabulary.feature_index
        features = [n for n in names if n in index]
        lists = [n for n in names if n.startswith(LIST_PREFIX) and n not in index]
        attributes = [n for n in names if n in vocabulary.attributes]
        fields = [n for n in names if n in model and n not in index]
        ordered = [*features, *fields, *attributes, *lists]
        absent = [n for n in names if n not in ordered]
        self.slots = {name: i for i, name in enumerate((*ordered, *absent))}
        self.list_names = tuple(n.removeprefix(LIST_PREFIX) for n in lists)
        self._features = _getter(itemgetter, [index[n] for n in features])
        self._last = max((index[n] for n in features), default=-1)
        self._fields = _getter(attrgetter, fields)
        self._attributes = tuple((n, vocabulary.attributes[n].type) for n in attributes)
        self._rest = tuple(event_type if n == "event_type" else None for n in absent)
        # Of a mapping, whatever it holds counts.
        self._plain = tuple((n, vocabulary.variables[n].type) for n in self.slots)

    def of_record(self, record: FeatureRecord, on_lists: Sequence[str]) -> Row:
        """The row of a record of an event that is on these lists."""
        features, event = record.features, record.event
        if len(features) <= self._last:
            features = (*features, *[None] * (self._last + 1 - len(features)))
        row: Row = self._features(features) + self._fields(event)
        if self._attributes:
            given = getattr(event, "attributes", None) or {}
            row += tuple([typed(given.get(name), kind) for name, kind in self._attributes])
        if self.list_names:
            row += tuple([name in on_lists for name in self.list_names])
        return row + self._rest

    def of_mapping(self, values: Mapping[str, Any], on_lists: Sequence[str]) -> Row:
        """The row of a mapping by name. It may hold `event_time` (a datetime or RFC 3339) in place of `event_time_ms`,
        and attributes below `attributes`. What it says of a list goes before the list."""
        attributes = attributes_of(values)
        row = []
        for name, kind in self._plain:
            value = values.get(name)
            if value is None:
                value = attributes.get(name)
            if value is None and name == "event_time_ms":
                value = time_of(values)
            elif value is None and name.startswith(LIST_PREFIX):
                value = name.removeprefix(LIST_PREFIX) in on_lists
            row.append(typed(value, kind))
        return tuple(row)


def typed(value: Any, kind: VariableType) -> Any:
    """The value as its variable's type, where nothing is lost by it; None where it is of another kind, or no number."""
    if isinstance(value, bool):
        return value if kind == "bool" else None
    if isinstance(value, int):
        if kind == "int":
            return value
        return float(value) if kind == "float" and abs(value) <= EXACT else None
    if isinstance(value, float):
        if kind == "float":
            return None if isnan(value) else value
        return int(value) if kind == "int" and value.is_integer() else None
    return value if isinstance(value, str) and kind == "string" else None


def attributes_of(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of a mapping: an object, or the JSON text that tables hold.

    Raises:
      ValueError: the text isn't a JSON object.
    """
    given = values.get("attributes")
    if isinstance(given, str):
        try:
            given = msgspec.json.decode(given)
        except msgspec.DecodeError as error:
            raise ValueError(f"attributes {given[:80]!r} aren't JSON: {error}; give an object") from None
    if given is not None and not isinstance(given, Mapping):
        raise ValueError(f"attributes {str(given)[:80]!r} aren't an object of names and values; give one")
    return given or {}


def time_of(values: Mapping[str, Any]) -> int | None:
    """The event's time in a mapping, epoch ms, as far as it is known.

    Raises:
      ValueError: `event_time` is no RFC 3339 time; the message gives the fix.
    """
    known = values.get("event_time_ms")
    if known is not None:
        return int(known)
    at = values.get("event_time")
    if isinstance(at, datetime):
        # What a database gives without a zone is UTC.
        return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
    return epoch_ms(at) if isinstance(at, str) else None


def _getter(kind: Callable[..., Callable[[Any], Any]], names: Sequence[Any]) -> Callable[[Any], Row]:
    if not names:
        return lambda source: ()
    get = kind(*names)
    return (lambda source: (get(source),)) if len(names) == 1 else get
