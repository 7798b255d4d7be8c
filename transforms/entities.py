"""Entities: what stands behind an event besides its user, and which features are computed of each.

The declaration is a YAML file (`transforms/entities.yaml` ships); `load_entities` reads it. `EntityConfig.features` is
to entities what `transforms.features.FEATURES` is to users: names, types, units and help, in the order of the values.
"""

from __future__ import annotations

from functools import cached_property
from importlib import resources
from typing import Literal, TypeAlias

import msgspec

from transforms.features import Feature

Aggregate: TypeAlias = Literal[
    "count", "sum", "distinct", "payment_count", "labelled_count", "fraud_count", "fraud_share"
]
"""`count`, `sum` (of `amount_minor`) and `distinct` are over events. The others are over the entity's payments and
their verdicts: how many there are, have a verdict, are fraud; and the share of fraud in all."""

AttributeType: TypeAlias = Literal["string", "int", "float", "bool"]

KINDS = ("login_failure", "login_success", "payment", "signup", "claim")
"""Kinds of events; a kind's position is its code in an entity's state, so the order never changes."""

DAY_MS = 86_400_000


class Attribute(msgspec.Struct, frozen=True):
    """An entry of events' `attributes` that rules may name.

    Attributes:
      type: `string`, `int`, `float` or `bool`.
      unit: such as `km`; empty where there is none.
      help: one sentence for an analyst.
    """

    name: str
    type: AttributeType
    unit: str
    help: str


class EntityFeature(msgspec.Struct, frozen=True):
    """How one feature is computed: over the events in `(t - delay - window, t - delay]`.

    Attributes:
      feature: its name, type, unit and help.
      aggregate: what is computed.
      kinds: codes of the kinds of events that count, positions in `KINDS`.
      role: 0 for events that have the entity as their key, 1 for those it is fed by.
      field: of `distinct`: the field whose different values are counted.
    """

    feature: Feature
    aggregate: Aggregate
    kinds: tuple[int, ...]
    role: int
    window_ms: int
    delay_ms: int = 0
    field: str = ""


class Entity(msgspec.Struct, frozen=True):
    """An entity.

    Attributes:
      keys: event fields, `network`, or `attributes.<name>`: the first one that an event has is its entity.
      events: codes of the kinds of events it takes.
      fed_by: a field that names the entity too, of events that update it and don't get its features; or "".
      max_points: most events that windows are exact over; beyond it answers are approximate.
    """

    name: str
    keys: tuple[str, ...]
    events: tuple[int, ...]
    features: tuple[EntityFeature, ...]
    help: str
    fed_by: str = ""
    max_points: int = 256

    @property
    def horizon_ms(self) -> int:
        """How far back an answer looks, in milliseconds."""
        return max((f.window_ms + f.delay_ms for f in self.features), default=0)


class EntityConfig(msgspec.Struct, frozen=True, dict=True):
    """All entities, in the order of their features' values, and the attributes that rules may name."""

    entities: tuple[Entity, ...] = ()
    attributes: tuple[Attribute, ...] = ()

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features, in the order of the values that follow the user's in a `FeatureRecord`."""
        return tuple(f.feature for entity in self.entities for f in entity.features)


class EntityError(ValueError):
    """A declaration that can't be used. Its text is one line: `source:line: entity 'name': what is wrong; the fix`."""


def load_entities(text: str, source: str = "entities") -> EntityConfig:
    """Reads and checks a declaration of entities.

    Args:
      text: the file's content, YAML.
      source: its name, for error messages.

    Raises:
      EntityError: the first thing that is wrong with it.
    """
    from transforms.entity_file import read

    return read(text, source)


def _shipped() -> EntityConfig:
    name = "entities.yaml"
    return load_entities(resources.files("transforms").joinpath(name).read_text("utf-8"), name)


DEFAULT_ENTITIES: EntityConfig = _shipped()
"""The entities that the package ships."""
