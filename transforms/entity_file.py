"""Reads a declaration of entities: YAML to an `EntityConfig`, or one error that says where, what and how to mend it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, NoReturn

import yaml

from transforms.entities import (
    DAY_MS,
    KINDS,
    Attribute,
    Entity,
    EntityConfig,
    EntityError,
    EntityFeature,
)
from transforms.entity_measures import (
    AGGREGATES,
    DELAYED,
    FIELDS,
    KIND_GROUPS,
    STANDARD,
    help_text,
    type_and_unit,
)
from transforms.features import FEATURE_INDEX, Feature

UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
MIN_WINDOW_MS, MAX_SPAN_MS = 1_000, 90 * DAY_MS
MAX_POINTS_LIMIT = 4_096
DEFAULT_DELAY = "7d"

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it is there, takes a tenth of the time
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SPAN = re.compile(r"([0-9]{1,6})([smhd])")
_ATTRIBUTE = re.compile(r"attributes\.([a-z][a-z0-9_]{0,63})")


def read(text: str, source: str) -> EntityConfig:
    """As `transforms.entities.load_entities`."""
    return _Reader(source).config(_parse(text, source))


class _Map(dict[str, Any]):
    """A mapping that knows the lines of its keys."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


def _parse(text: str, source: str) -> Any:
    try:
        node = yaml.compose(text, Loader=_LOADER)
        return _value(node, source) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise EntityError(f"{source}:{line}: not YAML: {error.problem}; mend indentation, brackets or quotes") from None
    except yaml.YAMLError as error:
        raise EntityError(f"{source}:1: not YAML: {' '.join(str(error).split())}; save it as UTF-8 text") from None
    except RecursionError:
        raise EntityError(f"{source}:1: nested too deeply; docs/entities.md shows the form") from None


def _value(node: yaml.Node, source: str) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        values = _Map(line)
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise EntityError(f"{source}:{line}: this key isn't a name; docs/entities.md shows the form")
            if key.value in values:
                raise EntityError(f"{source}:{line}: {key.value!r} stands twice; remove one, or rename it")
            values[key.value] = _value(value, source)
            values.lines[key.value] = line
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, source) for item in node.value]
    return node.value


class _Reader:
    """Turns the parsed file into the configuration. Scalars are texts: a declaration has nothing else but a number."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._about = ""
        self._line = 1

    def config(self, data: Any) -> EntityConfig:
        top = self._mapping(data, "the file", ("attributes", "entities"))
        attributes = self._mapping(top.get("attributes", _Map(1)), "attributes", None)
        parsed = tuple(self._attribute(attributes, name) for name in attributes)
        entities = self._mapping(top.get("entities", _Map(1)), "entities", None)
        config = EntityConfig(tuple(self._entity(entities, name) for name in entities), parsed)
        self._about = ""
        seen: dict[str, str] = dict.fromkeys(FEATURE_INDEX, "a feature of the user")
        for entity in config.entities:
            self._line = entities.lines[entity.name]
            for feature in entity.features:
                name = feature.feature.name
                if name in seen:
                    self._fail(f"entity '{entity.name}': its feature '{name}' is already {seen[name]}; rename one")
                seen[name] = f"a feature of entity '{entity.name}'"
        return config

    def _attribute(self, attributes: _Map, name: str) -> Attribute:
        self._about, self._line = f"attribute '{name}'", attributes.lines[name]
        if not _NAME.fullmatch(name):
            self._fail("no name for an attribute; give lower-case letters, digits and _, such as trip_km")
        given = self._mapping(attributes[name], "it", ("type", "unit", "help"))
        kind = self._one_of("type", given.get("type"), ("string", "int", "float", "bool"))
        return Attribute(name, kind, self._text(given, "unit", ""), self._text(given, "help", f"Attribute {name}."))  # type: ignore[arg-type]

    def _entity(self, entities: _Map, name: str) -> Entity:
        self._about, self._line = f"entity '{name}'", entities.lines[name]
        if not _NAME.fullmatch(name):
            self._fail("no name for an entity; give lower-case letters, digits and _, such as promo_code")
        given = self._mapping(entities[name], "it", ("key", "help", "events", "fed_by", "max_points", "features"))
        keys = self._texts("key", given.get("key"))
        for key in keys:
            self._field("key", key)
        words = self._text(given, "help", name.replace("_", " "))
        events = self._kinds("events", given.get("events", list(KINDS)))
        fed_by = self._mapping(given.get("fed_by", _Map(self._line)), "fed_by", ("role", "key"))
        fed_key, role = fed_by.get("key", ""), fed_by.get("role", "")
        if fed_by:
            self._field("fed_by: key", fed_key)
            if not isinstance(role, str) or not _NAME.fullmatch(role):
                self._fail(f"fed_by: role is {role!r}; name it, such as incoming")
        features = self._mapping(given.get("features"), "features", None)
        if not features:
            self._fail("no features; list some, such as event_count: [1h, 1d]")
        made = [f for what in features for f in self._features(name, words, what, features, role, events)]
        return Entity(name, keys, events, tuple(made), words, fed_key, self._points(given))

    def _features(
        self, entity: str, words: str, what: str, features: _Map, role: str, events: tuple[int, ...]
    ) -> Iterable[EntityFeature]:
        """The features of one line, one a window.

        Args:
          entity, words: name of the entity, and what people call it.
          what: name of the line.
          role: of the events that the entity is fed by; "" where it isn't.
          events: codes of the kinds of events that it takes.
        """
        self._line = features.lines[what]
        about = f"feature '{what}'"
        given = self._feature(about, what, features[what])
        aggregate: Any = self._one_of(f"{about}: aggregate", given["aggregate"], AGGREGATES)
        self._refuse_unused(about, aggregate, given)
        if "role" in given and (given["role"] != role or not role):
            there = f"it is {role}, or left out" if role else "the entity has no fed_by; leave it out"
            self._fail(f"{about}: unknown role {given['role']!r}; {there}")
        fed = "role" in given
        kind_names, kinds = self._counted(about, given, aggregate, events, fed=fed)
        field = self._field(f"{about}: field", given.get("field", "")) if aggregate == "distinct" else ""
        delay = str(given.get("delay", DEFAULT_DELAY)) if aggregate in DELAYED else ""
        delay_ms = self._span(f"{about}: delay", delay, 0) if delay else 0
        for window, window_ms in self._windows(about, given, delay_ms):
            help_ = help_text(
                aggregate,
                list(kind_names) if "of" in given else [],
                field,
                words,
                fed=fed,
                window=window,
                delay=delay if delay_ms else None,
            )
            yield EntityFeature(
                Feature(f"{entity}_{what}_{window}", *type_and_unit(aggregate, field), help_, nullable=True),
                aggregate,
                kinds,
                int(fed),
                window_ms,
                delay_ms,
                field,
            )

    def _feature(self, about: str, what: str, given: Any) -> dict[str, Any]:
        """A feature's line in full: what a standard name stands for is filled in."""
        if isinstance(given, list | str):
            if what not in STANDARD:
                self._fail(f"unknown feature '{what}'{_nearest(what, STANDARD)}, or give its 'aggregate'")
            given = {"windows": given}
        elif isinstance(given, dict) and "aggregate" not in given and what not in STANDARD:
            self._fail(f"{about}: 'aggregate' is missing; give one of {', '.join(AGGREGATES)}")
        if not _NAME.fullmatch(what):
            self._fail(f"{about}: give a name of lower-case letters, digits and _")
        checked = self._mapping(given, about, ("aggregate", "of", "field", "role", "delay", "windows"))
        return checked if "aggregate" in checked else {**STANDARD[what], **checked}

    def _counted(
        self, about: str, given: dict[str, Any], aggregate: str, events: tuple[int, ...], *, fed: bool
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """The kinds of events that a feature counts, as they are named, and their codes."""
        names: Any = ["payment"]
        if aggregate in ("count", "distinct"):
            names = list(KINDS) if fed else [KINDS[k] for k in events]
        names = self._texts(f"{about}: of", given.get("of", names))
        kinds = self._kinds(f"{about}: of", list(names))
        if not fed and not set(kinds) <= set(events):
            odd = next(KINDS[k] for k in kinds if k not in events)
            self._fail(f"{about}: {odd} events never reach this entity; add them to its 'events'")
        return names, kinds

    def _windows(self, about: str, given: dict[str, Any], delay_ms: int) -> Iterable[tuple[str, int]]:
        """A feature's windows as they are named, and in milliseconds."""
        windows = self._texts(f"{about}: windows", given.get("windows"))
        if len(set(windows)) < len(windows):
            self._fail(f"{about}: a window stands twice in {', '.join(windows)}; remove one")
        for window in windows:
            window_ms = self._span(f"{about}: windows", window, MIN_WINDOW_MS)
            if window_ms + delay_ms > MAX_SPAN_MS:
                self._fail(f"{about}: window {window} and delay reach back more than 90 days; shorten them")
            yield window, window_ms

    def _refuse_unused(self, about: str, aggregate: str, given: dict[str, Any]) -> None:
        """Refuses what would have no effect, so that nobody relies on it."""
        allowed = {
            "count": ("of", "role"),
            "sum": ("role",),
            "distinct": ("of", "role", "field"),
        }.get(aggregate, ("delay",))
        for key in ("of", "role", "field", "delay"):
            if key in given and key not in allowed:
                self._fail(f"{about}: '{key}' has no meaning for {aggregate}; leave it out")

    def _kinds(self, about: str, value: Any) -> tuple[int, ...]:
        names = self._texts(about, value)
        codes: set[int] = set()
        for name in names:
            self._one_of(about, name, tuple(KIND_GROUPS))
            codes.update(KINDS.index(kind) for kind in KIND_GROUPS[name])
        return tuple(sorted(codes))

    def _points(self, given: dict[str, Any]) -> int:
        text = str(given.get("max_points", 256))
        if not text.isdigit() or not 16 <= int(text) <= MAX_POINTS_LIMIT:
            self._fail(f"max_points is {text!r}; give a number from 16 to {MAX_POINTS_LIMIT}")
        return int(text)

    def _field(self, about: str, value: Any) -> str:
        if isinstance(value, str) and (value in FIELDS or _ATTRIBUTE.fullmatch(value)):
            return value
        return self._fail(f"{about}: {value!r} is no field{_nearest(str(value), FIELDS)}; or attributes.<name>")

    def _span(self, about: str, text: str, least_ms: int) -> int:
        match = _SPAN.fullmatch(text)
        span_ms = int(match[1]) * UNIT_MS[match[2]] if match else -1
        if not least_ms <= span_ms <= MAX_SPAN_MS:
            low = "1s" if least_ms else "0s"
            self._fail(f"{about}: {text!r} is no time from {low} to 90d; give a number and s, m, h or d, such as 10m")
        return span_ms

    def _texts(self, about: str, value: Any) -> tuple[str, ...]:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(v, str) and v for v in values):
            found = "it is missing" if value is None else f"found {value!r}"
            self._fail(f"{about}: give a name or a list of them, [a, b]; {found}")
        return tuple(values)

    def _text(self, given: dict[str, Any], key: str, default: str) -> str:
        value = given.get(key, default)
        if not isinstance(value, str):
            self._fail(f"{key}: give a text, found {value!r}")
        return value

    def _one_of(self, about: str, value: Any, choices: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in choices:
            self._fail(f"{about}: {value!r} isn't known; give one of {', '.join(choices)}")
        return value

    def _mapping(self, value: Any, about: str, known: tuple[str, ...] | None) -> Any:
        if not isinstance(value, dict):
            found = "nothing" if value in (None, "") else repr(value)
            self._fail(f"{about} must be keys and values, found {found}; docs/entities.md shows the form")
        for key in value if known is not None else ():
            if key not in known:  # type: ignore[operator]
                self._line = value.lines.get(key, self._line) if isinstance(value, _Map) else self._line
                self._fail(f"unknown key '{key}'{_nearest(key, known or ())}")
        return value

    def _fail(self, message: str) -> NoReturn:
        about = f"{self._about}: " if self._about else ""
        raise EntityError(f"{self._source}:{self._line}: {about}{' '.join(message.split())}")


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(known)}"
