"""Rules and their evaluation: a set of compiled conditions that says which of them an event matches.

A value that is unknown is left out of what a condition sees. CEL then does what three-valued logic does: any operation
on it is an error, but `false && error` is false and `true || error` is true. A rule that needs the value to decide
doesn't fire; one that is decided without it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, get_args

import cel
import msgspec

from transforms.conditions import MAX_CONDITION_CHARS, PRESENCE, tokenize
from transforms.features import FEATURE_INDEX
from transforms.records import FeatureRecord, FiredRule

Severity: TypeAlias = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[str, ...] = get_args(Severity)
"""From the least to the most severe."""

EVENT_TYPES = ("login", "payment")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule.

    Attributes:
      id: its name, stable over versions of the file: lower case, digits and underscores.
      description: what it finds and why its thresholds are what they are, for an analyst.
      reason_code: what an alert says, upper case: the scenario first (`CARD_TESTING_BURST`).
      weight: probability of fraud given that this rule alone fires, in (0, 1].
      when: condition in CEL.
    """

    id: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
    description: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    reason_code: Annotated[str, msgspec.Meta(pattern="^[A-Z][A-Z0-9_]*$", max_length=64)]
    severity: Severity
    weight: Annotated[float, msgspec.Meta(gt=0, le=1)]
    when: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CONDITION_CHARS)]


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


class RuleSet:
    """Rules in a fixed order (severity, then weight, then id), whatever their order in the file.

    Made by `transforms.rule_file.load_rules`, which checks them. Pickling carries the rules; the compiled conditions
    are made again where it is unpickled.

    Attributes:
      version: content hash of all that decides: ids, reason codes, severities, weights, thresholds and the conditions
        but for their layout. Descriptions don't decide.
    """

    def __init__(self, rules: tuple[Rule, ...], thresholds: Thresholds | None = None) -> None:
        self.rules = tuple(sorted(rules, key=lambda r: (-SEVERITIES.index(r.severity), -r.weight, r.id)))
        self.thresholds = thresholds or Thresholds()
        self.version = _version(self.rules, self.thresholds)
        compiled = [_Compiled(rule) for rule in self.rules]
        self._all = _Plan(compiled)
        self._plans = {t: _Plan([c for c in compiled if c.can_match(t)]) for t in EVENT_TYPES}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rule_set, (self.rules, self.thresholds)

    def evaluate(
        self, values: FeatureRecord | Mapping[str, Any], on_error: RuleErrorHandler | None = None
    ) -> tuple[FiredRule, ...]:
        """The rules that an event matches, the most severe first.

        Args:
          values: a record; or its variables by name (a table's row), where None or absent is unknown.
          on_error: called with a rule and the error where its condition can't be evaluated for another reason than an
            unknown value (a division by zero, an overflow); the rule doesn't fire and the others go on.
        """
        if isinstance(values, FeatureRecord):
            plan = self._plans[_event_type(values)]
            variables = plan.of_record(values)
        else:
            plan = self._plans.get(values.get("event_type", ""), self._all)
            variables = plan.of_mapping(values)
        # Making the context costs more than a condition, so all conditions share one with what any of them uses.
        context = cel.Context(variables=variables)
        fired = []
        for compiled in plan.compiled:
            try:
                if compiled.execute(context) is True:
                    fired.append(compiled.fired)
            except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
                if on_error is not None and not str(error).startswith("Undefined variable"):
                    on_error(compiled.rule, error)
        return tuple(fired)


@lru_cache(maxsize=8)
def _rule_set(rules: tuple[Rule, ...], thresholds: Thresholds) -> RuleSet:
    """Unpickles: compiled once a process, as some runners unpickle for every bundle."""
    return RuleSet(rules, thresholds)


class _Compiled:
    def __init__(self, rule: Rule) -> None:
        program = cel.compile(rule.when)
        self.rule = rule
        self.execute = program.execute
        self.variables = frozenset(program.variables())
        inputs = tuple(sorted({PRESENCE.get(name, name) for name in self.variables}))
        self.fired = FiredRule(rule.id, rule.reason_code, rule.severity, rule.weight, inputs)

    def can_match(self, event_type: str) -> bool:
        """False if the type of event alone makes the condition false, whatever all the rest is."""
        try:
            return self.execute(cel.Context(variables={"event_type": event_type})) is not False
        except Exception:
            return True


class _Plan:
    """Conditions to evaluate together, and where to find the variables that they use."""

    def __init__(self, compiled: list[_Compiled]) -> None:
        self.compiled = compiled
        used = sorted(frozenset[str]().union(*(c.variables for c in compiled)))
        self._plain = tuple(name for name in used if name not in PRESENCE)
        self._presence = tuple((name, PRESENCE[name]) for name in used if name in PRESENCE)
        self._features = tuple((name, FEATURE_INDEX[name]) for name in self._plain if name in FEATURE_INDEX)
        self._fields = tuple(name for name in self._plain if name not in FEATURE_INDEX and name != "event_type")
        self._event_type = "event_type" in used

    def of_record(self, record: FeatureRecord) -> dict[str, Any]:
        features, event = record.features, record.event
        known: dict[str, Any] = {}
        for name, i in self._features:
            value = features[i]
            if value is not None:
                known[name] = value
        for name in self._fields:
            value = getattr(event, name, None)
            if value is not None:
                known[name] = value
        if self._event_type:
            known["event_type"] = _event_type(record)
        for has, name in self._presence:
            i = FEATURE_INDEX.get(name, -1)
            known[has] = (features[i] if i >= 0 else getattr(event, name, None)) is not None
        return known

    def of_mapping(self, values: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: values[name] for name in self._plain if values.get(name) is not None}
        known.update((has, values.get(name) is not None) for has, name in self._presence)
        return known


def _event_type(record: FeatureRecord) -> str:
    return str(type(record.event).__struct_config__.tag)


def _version(rules: tuple[Rule, ...], thresholds: Thresholds) -> str:
    decides = [
        [r.id, r.reason_code, r.severity, float(r.weight), " ".join(t.text for t in tokenize(r.when))] for r in rules
    ]
    content = json.dumps([float(thresholds.review_at), float(thresholds.block_at), decides])
    return hashlib.sha256(content.encode()).hexdigest()[:12]
