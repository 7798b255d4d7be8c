"""Rules and their evaluation: a set of compiled conditions that says which of them an event matches.

A value that is unknown is left out of what a condition sees. CEL then does what three-valued logic does: any operation
on it is an error, but `false && error` is false and `true || error` is true. A rule that needs the value to decide
doesn't fire; one that is decided without it is.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from transforms.condition_tree import tokenize
from transforms.conditions import MAX_CONDITION_CHARS, USER_VOCABULARY
from transforms.lists import NO_LISTS, ListSet
from transforms.records import FeatureRecord, FiredRule
from transforms.rule_index import Condition, Plan
from transforms.rule_values import Reader, Row, attributes_of, time_of
from transforms.variables import EVENT_MODELS, EVENT_TYPES, Vocabulary

Severity: TypeAlias = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[str, ...] = get_args(Severity)
"""From the least to the most severe."""

Action: TypeAlias = Literal["allow", "review", "block"]
Mode: TypeAlias = Literal["live", "shadow"]

_Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]
_Tag: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_.:-]*$", max_length=64)]


class Examples(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events that a rule must match, and events that it must not, each as the values of some variables."""

    match: list[dict[str, Any]] = []
    no_match: list[dict[str, Any]] = []


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule.

    Attributes:
      id: its name, stable over versions of the file: lower case, digits and underscores.
      description: what it finds and why its thresholds are what they are, for an analyst.
      reason_code: what an alert says, upper case: the scenario first (`CARD_TESTING_BURST`).
      weight: probability of fraud given that this rule alone fires, in (0, 1]; may be left out beside an action.
      when: condition in CEL.
      action: what the rule demands when it fires: at least `review`, at least `block`, or `allow`.
      valid_from, valid_to: the rule counts for events from the one until before the other.
      mode: `shadow` for a rule on trial: it is evaluated and recorded and has no effect.
      tags: words to find it by.
      tests: examples, tried whenever the file is loaded.

    Raises:
      ValueError: neither weight nor action, a weight beside `allow`, or an empty time of validity.
    """

    id: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    reason_code: Annotated[str, msgspec.Meta(pattern="^[A-Z][A-Z0-9_]*$", max_length=64)]
    severity: Severity
    when: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CONDITION_CHARS)]
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    action: Action | None = None
    valid_from: _Time | None = None
    valid_to: _Time | None = None
    mode: Mode = "live"
    tags: tuple[_Tag, ...] = ()
    tests: Examples = Examples()

    def __post_init__(self) -> None:
        if self.weight is None and self.action is None:
            raise ValueError("neither weight nor action, so the rule decides nothing; add one")
        if self.weight is not None and self.action == "allow":
            raise ValueError("a rule that allows adds nothing to the score; remove its weight")
        if self.valid_from is not None and self.valid_to is not None and self.valid_from >= self.valid_to:
            raise ValueError(
                f"valid_from {self.valid_from.isoformat()} isn't before valid_to {self.valid_to.isoformat()}; "
                "the rule would never count"
            )


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a score in [0, 1] becomes an action.

    Attributes:
      review_at: scores from here on are looked at by a person.
      block_at: scores from here on are blocked; not below `review_at`.

    Raises:
      ValueError: `block_at` is below `review_at`.
    """

    review_at: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    block_at: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.review_at <= self.block_at <= 1:
            raise ValueError(
                f"thresholds need 0 < review_at <= block_at <= 1, found review_at {self.review_at}, "
                f"block_at {self.block_at}"
            )


RuleErrorHandler: TypeAlias = Callable[[Rule, Exception], None]


class Matches(NamedTuple):
    """What an event matches, rules and lists, the most severe first: what counts, and what is on trial."""

    live: tuple[FiredRule, ...]
    shadow: tuple[FiredRule, ...]


class RuleSet:
    """Rules in a fixed order (severity, then weight, then id), whatever their order in the file; and lists.

    Made by `transforms.rule_file.load_rules`, which checks them. Pickling carries rules and lists; the compiled
    conditions are made again, once a process, where it is unpickled.

    Attributes:
      version: content hash of all that decides in the rules: ids, reason codes, severities, weights, actions, times of
        validity, modes, thresholds and the conditions but for their layout. Descriptions, tags and tests don't decide.
      vocabulary: what the conditions may name.
      lists: lists in use; `lists.version` is their content hash.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...],
        thresholds: Thresholds | None = None,
        vocabulary: Vocabulary = USER_VOCABULARY,
        lists: ListSet = NO_LISTS,
    ) -> None:
        self.rules = tuple(sorted(rules, key=lambda r: (-SEVERITIES.index(r.severity), -(r.weight or 0), r.id)))
        self.thresholds = thresholds or Thresholds()
        self.vocabulary = vocabulary.with_lists(lists.names())
        self.lists = lists
        self.version = _version(self.rules, self.thresholds)
        compiled = [_Compiled(rule, self.vocabulary) for rule in self.rules]
        self._any = Plan(compiled, self.vocabulary, None)
        self._plans = {event_type: Plan(compiled, self.vocabulary, event_type) for event_type in EVENT_TYPES}
        self._by_model = {EVENT_MODELS[event_type]: plan for event_type, plan in self._plans.items()}
        self._everything: dict[str | None, Reader] = {}
        self._pickled: bytes | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._pickled is None:
            self._pickled = pickle.dumps((self.rules, self.thresholds, self.vocabulary))
        return _rule_set, (self._pickled, self.lists)

    def evaluate(
        self, values: FeatureRecord | Mapping[str, Any], on_error: RuleErrorHandler | None = None
    ) -> tuple[FiredRule, ...]:
        """The live part of `match`."""
        return self.match(values, on_error).live

    def match(self, values: FeatureRecord | Mapping[str, Any], on_error: RuleErrorHandler | None = None) -> Matches:
        """The rules that an event matches, and the lists that it is on.

        Args:
          values: a record; or its variables by name (a table's row), where None or absent is unknown, `event_time` may
            stand for `event_time_ms`, and attributes stand by themselves or below `attributes`.
          on_error: called with a rule and the error where its condition can't be evaluated for another reason than an
            unknown value (a division by zero, an overflow); where either would keep it open, it is the unknown value.
            The rule doesn't fire and the others go on.

        Raises:
          ValueError: `event_time` or `attributes` of a mapping can't be read; the message gives the fix.
        """
        if isinstance(values, FeatureRecord):
            plan: Plan[_Compiled] = self._by_model[type(values.event)]
            at_ms: int | None = values.event.event_time_ms
        else:
            plan = self._plans.get(values.get("event_type", ""), self._any)
            at_ms = time_of(values)
        row, listed = self._row(plan.reader, values, at_ms)
        report = None if on_error is None else lambda item, error: on_error(item.rule, error)
        live: list[FiredRule] = []
        shadow: list[FiredRule] = []
        for item in plan.matching(row, report):
            if item.is_bounded and (at_ms is None or not item.from_ms <= at_ms < item.to_ms):
                continue
            (shadow if item.is_shadow else live).append(item.fired)
        for mode, fired in listed:
            (shadow if mode == "shadow" else live).append(fired)
        if listed:
            live.sort(key=_order)
            shadow.sort(key=_order)
        return Matches(tuple(live), tuple(shadow))

    def known(self, values: FeatureRecord | Mapping[str, Any]) -> dict[str, Any]:
        """Every variable that is known, by name, `has_<name>` included: what the conditions see.

        Args, raises: as `match`.
        """
        if isinstance(values, FeatureRecord):
            event_type: str | None = str(type(values.event).__struct_config__.tag)
            at_ms: int | None = values.event.event_time_ms
        else:
            event_type, at_ms = None, time_of(values)
        if event_type not in self._everything:
            self._everything[event_type] = Reader(tuple(self.vocabulary.variables), self.vocabulary, event_type)
        reader = self._everything[event_type]
        row, _ = self._row(reader, values, at_ms)
        found = {name: row[slot] for name, slot in reader.slots.items()}
        return {
            **{name: value for name, value in found.items() if value is not None},
            **{has: found[name] is not None for has, name in self.vocabulary.presence.items()},
        }

    def _row(
        self, reader: Reader, values: FeatureRecord | Mapping[str, Any], at_ms: int | None
    ) -> tuple[Row, list[tuple[str, FiredRule]]]:
        names: list[str] = []
        listed: list[tuple[str, FiredRule]] = []
        if self.lists.lists:
            # Without a time no entry has ended.
            for one in self.lists.on(_field_of(values), 0 if at_ms is None else at_ms):
                names.append(one.head.name)
                if one.fired.action is not None:
                    listed.append((one.head.mode, one.fired))
        if isinstance(values, FeatureRecord):
            return reader.of_record(values, names), listed
        return reader.of_mapping(values, names), listed


@lru_cache(maxsize=8)
def _rule_set(pickled: bytes, lists: ListSet) -> RuleSet:
    """Unpickles: compiled once a process, as some runners unpickle for every bundle."""
    rules, thresholds, vocabulary = pickle.loads(pickled)
    return RuleSet(rules, thresholds, vocabulary, lists)


class _Compiled:
    """A rule ready to run."""

    def __init__(self, rule: Rule, vocabulary: Vocabulary) -> None:
        self.rule = rule
        self.condition = Condition(rule.when, vocabulary)
        inputs = self.condition.names
        self.fired = FiredRule(rule.id, rule.reason_code, rule.severity, rule.weight or 0.0, inputs, rule.action)
        self.is_shadow = rule.mode == "shadow"
        self.is_bounded = rule.valid_from is not None or rule.valid_to is not None
        self.from_ms = -_FOREVER_MS if rule.valid_from is None else to_ms(rule.valid_from)
        self.to_ms = _FOREVER_MS if rule.valid_to is None else to_ms(rule.valid_to)


_FOREVER_MS = 1 << 62


def to_ms(at: datetime) -> int:
    """A time with an offset as epoch ms, cut off."""
    elapsed = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000 + elapsed.microseconds // 1_000


def _order(fired: FiredRule) -> tuple[int, float, str]:
    return -SEVERITIES.index(fired.severity), -fired.weight, fired.rule_id


def _field_of(values: FeatureRecord | Mapping[str, Any]) -> Callable[[str], Any]:
    if isinstance(values, FeatureRecord):
        event = values.event
        given: Mapping[str, Any] = getattr(event, "attributes", None) or {}
        return lambda name: getattr(event, name, None) or given.get(name)
    below = attributes_of(values)
    return lambda name: values.get(name) or below.get(name)


def _version(rules: tuple[Rule, ...], thresholds: Thresholds) -> str:
    decides = [
        [
            r.id, r.reason_code, r.severity, r.weight, " ".join(t.text for t in tokenize(r.when)), r.action,
            r.valid_from and to_ms(r.valid_from), r.valid_to and to_ms(r.valid_to), r.mode,
        ]
        for r in rules
    ]  # fmt: skip
    content = json.dumps([float(thresholds.review_at), float(thresholds.block_at), decides])
    return hashlib.sha256(content.encode()).hexdigest()[:12]
