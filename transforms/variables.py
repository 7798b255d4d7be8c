"""What a condition may name: features, fields of the event, declared attributes, lists.

The event's fields are read off the event model, so that a new field can be used by a rule at once.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from transforms import events
from transforms.features import FEATURES, Feature

VariableType: TypeAlias = Literal["int", "float", "bool", "string"]

HAS_PREFIX = "has_"
LIST_PREFIX = "on_list_"


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


_FIELDS: dict[str, tuple[str, str]] = {
    "user_id": ("", "The user."),
    "event_time_ms": ("epoch ms", "Time of the event, UTC."),
    "outcome": ("", "How the login ended."),
    "amount_minor": ("minor units", "Amount of the payment."),
    "currency": ("ISO 4217", "Currency of the payment."),
    "ip": ("", "IP address."),
    "device_id": ("", "Device."),
    "user_agent": ("", "User agent."),
    "country": ("ISO 3166-1 alpha-2", "Country."),
    "latitude": ("degrees", "Latitude, north positive."),
    "longitude": ("degrees", "Longitude, east positive."),
    "merchant_id": ("", "Merchant of the payment."),
    "payee_id": ("", "Payee of the payment."),
    "card_id": ("", "Token of the card."),
    "expected_amount_minor": ("minor units", "Amount that the payment was expected to have."),
    "referrer_id": ("", "Who referred the new user."),
    "promotion_id": ("", "The promotion that is claimed."),
}
"""Unit and help of the event's fields."""

EVENT_MODELS: dict[str, type[msgspec.Struct]] = {
    str(model.__struct_config__.tag): model for model in get_args(events.Activity)
}
"""The types of event that are scored, by name."""

EVENT_TYPES: tuple[str, ...] = tuple(EVENT_MODELS)

_NOT_FIELDS = frozenset({"event_id", "attributes"})
_TYPES: dict[Any, VariableType] = {str: "string", int: "int", float: "float", bool: "bool"}


def _event_variables() -> tuple[Variable, ...]:
    hints: dict[str, Any] = {}
    for model in EVENT_MODELS.values():
        known = get_type_hints(model)
        hints.update((name, known[name]) for name in model.__struct_fields__ if name not in _NOT_FIELDS)
    found = [Variable("event_type", "string", "", "Kind of the event.", choices=EVENT_TYPES)]
    for name, hint in hints.items():
        inner = get_args(hint) if get_origin(hint) in (Union, types.UnionType, Literal) else (hint,)
        choices = tuple(value for value in inner if isinstance(value, str))
        owners = [event_type for event_type, model in EVENT_MODELS.items() if name in model.__struct_fields__]
        everywhere = len(owners) == len(EVENT_MODELS)
        nullable = not everywhere or types.NoneType in inner
        unit, help = _FIELDS[name]
        if not everywhere:
            help += f" Only in: {', '.join(owners)}."
        found.append(Variable(name, "string" if choices else _TYPES[inner[0]], unit, help, nullable, choices))
    return tuple(found)


EVENT_VARIABLES: tuple[Variable, ...] = _event_variables()
"""Fields of the event itself. `event_id` isn't among them: no decision should hang on it."""


class Vocabulary:
    """All that the conditions of one set of rules may name.

    Args:
      entity_features: features of entities, in the order in which they follow the user's in a record's values.
      attributes: declared attributes of events.
      lists: names of lists; each gives a variable `on_list_<name>`.

    Attributes:
      variables: by name.
      presence: `has_<name>`, always true or false, to the variable that it asks for.
      feature_index: position of a feature in a record's values, by name.

    Raises:
      ValueError: two of them have one name.
    """

    def __init__(
        self,
        entity_features: Iterable[Feature] = (),
        attributes: Iterable[Variable] = (),
        lists: Iterable[str] = (),
    ) -> None:
        self.entity_features = tuple(entity_features)
        self.attributes = {variable.name: variable for variable in attributes}
        self.lists = tuple(sorted(set(lists)))
        features = (*FEATURES, *self.entity_features)
        self.feature_index = {feature.name: i for i, feature in enumerate(features)}
        all_variables = (
            *EVENT_VARIABLES,
            *(Variable(f.name, f.type, f.unit, f.help, f.nullable) for f in FEATURES),
            # An event without the entity has none of its features.
            *(Variable(f.name, f.type, f.unit, f.help, True) for f in self.entity_features),
            *self.attributes.values(),
            *(Variable(LIST_PREFIX + n, "bool", "yes/no", f"The event is on the list '{n}'.") for n in self.lists),
        )
        self.variables: dict[str, Variable] = {}
        for variable in all_variables:
            if variable.name in self.variables:
                raise ValueError(f"two things for rules to name are called '{variable.name}'; rename one")
            self.variables[variable.name] = variable
        self.presence = {HAS_PREFIX + v.name: v.name for v in all_variables if v.nullable}

    def _key(self) -> tuple[Any, ...]:
        return self.entity_features, tuple(self.attributes.values()), self.lists

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary, self._key()

    def with_lists(self, names: Iterable[str]) -> Vocabulary:
        """The same with these lists as well."""
        return Vocabulary(self.entity_features, self.attributes.values(), (*self.lists, *names))
