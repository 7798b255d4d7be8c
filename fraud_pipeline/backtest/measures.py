"""Makes figures of a tally and of what history holds in all: pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fraud_pipeline.backtest.figures import (
    ACTIONS,
    ActionChange,
    Backtest,
    Diff,
    Range,
    RuleChange,
    RuleFigures,
    Verdicts,
    ratio,
)
from fraud_pipeline.backtest.history import Total
from fraud_pipeline.backtest.tally import Change, Outcome, Tally
from transforms.records import FiredRule
from transforms.rules import Rule, RuleSet


def measure_range(
    days: tuple[str, str, int], rows: int, superseded_rows: int, totals: Iterable[Total], unlabelled: str
) -> Range:
    """What history holds, of its parts."""
    verdicts, amounts = _Sum(), Counter[str]()
    for total in totals:
        verdicts.add(total.is_fraud, total.events)
        if total.is_fraud and total.currency is not None:
            amounts[total.currency] += total.amount_minor
    return Range(*days, rows, superseded_rows, unlabelled, verdicts.done(), _amounts(amounts))


def measure_backtest(tally: Tally, rules: RuleSet, history: Range) -> Backtest:
    """The figures of a file of rules.

    Args:
      tally: of `Outcome`.
    """
    heads = _heads(rules)
    by_action: dict[str, _Sum] = defaultdict(_Sum)
    with_shadow: dict[str, _Sum] = defaultdict(_Sum)
    hits: dict[str, _Sum] = defaultdict(_Sum)
    only: dict[str, _Sum] = defaultdict(_Sum)
    saved: dict[str, Counter[str]] = defaultdict(Counter)
    only_saved: dict[str, Counter[str]] = defaultdict(Counter)
    overlaps: dict[str, Counter[str]] = defaultdict(Counter)
    prevented: Counter[str] = Counter()
    outcome: Outcome
    for outcome, events in tally.events.items():
        by_action[outcome.action].add(outcome.is_fraud, events)
        with_shadow[outcome.action_with_shadow].add(outcome.is_fraud, events)
        stopped = _stopped(outcome, outcome.action, tally)
        prevented.update(stopped)
        every = (*outcome.fired, *outcome.shadow)
        for rule in every:
            own = stopped if rule in outcome.fired else _stopped(outcome, outcome.action_with_shadow, tally)
            hits[rule].add(outcome.is_fraud, events)
            saved[rule].update(own)
            overlaps[rule].update({other: events for other in every if other != rule})
            if all(other == rule for other in outcome.fired):
                only[rule].add(outcome.is_fraud, events)
                only_saved[rule].update(own)
    return Backtest(
        rules_version=rules.version,
        history=history,
        actions=_actions(by_action, history.verdicts),
        actions_with_shadow=_actions(with_shadow, history.verdicts) if any(h.is_shadow for h in heads) else None,
        prevented_minor=_amounts(prevented),
        missed_minor=_amounts(Counter(history.fraud_amount_minor) - prevented),
        rules=tuple(
            RuleFigures(
                rule_id=head.fired.rule_id,
                mode="shadow" if head.is_shadow else "live",
                severity=head.fired.severity,
                weight=head.fired.weight,
                action=head.fired.action,
                hits=(found := hits[head.fired.rule_id].done()),
                precision=found.precision,
                recall=ratio(found.fraud, history.verdicts.fraud),
                false_positives_per_day=found.legitimate / history.days,
                saved_minor=_amounts(saved[head.fired.rule_id]),
                only=only[head.fired.rule_id].done(),
                only_saved_minor=_amounts(only_saved[head.fired.rule_id]),
                overlaps=dict(sorted(overlaps[head.fired.rule_id].items(), key=lambda pair: (-pair[1], pair[0]))),
                errors=tally.errors[head.fired.rule_id],
            )
            for head in heads
        ),
        asked_rows=tally.row_count,
    )


class _Head(NamedTuple):
    fired: FiredRule
    is_shadow: bool


def _heads(rules: RuleSet) -> list[_Head]:
    """The rules, and the lists that decide by themselves."""
    found = [
        _Head(FiredRule(r.id, r.reason_code, r.severity, r.weight or 0.0, (), r.action), r.mode == "shadow")
        for r in rules.rules
    ]
    return found + [
        _Head(one.fired, one.head.mode == "shadow") for one in rules.lists.lists if one.fired.action is not None
    ]


def _stopped(outcome: Outcome, action: str, tally: Tally) -> Counter[str]:
    """Amounts of payments labelled fraud that an action doesn't let through."""
    if not outcome.is_fraud or action == "allow" or outcome.currency is None:
        return Counter()
    return Counter({outcome.currency: tally.amount_minor[outcome]})


def measure_diff(tally: Tally, old: RuleSet, new: RuleSet, history: Range) -> Diff:
    """The figures of a comparison.

    Args:
      tally: of `Change`.
    """
    actions: dict[tuple[str, str], _Sum] = defaultdict(_Sum)
    amounts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    gained: dict[str, _Sum] = defaultdict(_Sum)
    lost: dict[str, _Sum] = defaultdict(_Sum)
    change: Change
    for change, events in tally.events.items():
        pair = change.old_action, change.new_action
        actions[pair].add(change.is_fraud, events)
        if change.currency is not None:
            amounts[pair][change.currency] += tally.amount_minor[change]
        for rule in change.gained:
            gained[rule].add(change.is_fraud, events)
        for rule in change.lost:
            lost[rule].add(change.is_fraud, events)
    pairs = sorted(actions, key=lambda p: (p[0] == p[1], -actions[p].done().events, p))
    return Diff(
        old_version=old.version,
        new_version=new.version,
        history=history,
        actions=tuple(ActionChange(*pair, actions[pair].done(), _amounts(amounts[pair])) for pair in pairs),
        rules=tuple(
            RuleChange(rule, what, gained[rule].done(), lost[rule].done())
            for rule, what in _changes(old.rules, new.rules)
        ),
        examples=tuple(example for pair in pairs for example in tally.examples.get(pair, [])),
        asked_rows=tally.row_count,
    )


def _changes(old: Sequence[Rule], new: Sequence[Rule]) -> Iterable[tuple[str, str]]:
    before, after = {rule.id: rule for rule in old}, {rule.id: rule for rule in new}
    for rule in {**after, **before}:
        if rule not in before or rule not in after:
            yield rule, "removed" if rule in before else "added"
        else:
            yield rule, "same" if before[rule] == after[rule] else "changed"


def _actions(decided: dict[str, _Sum], all_events: Verdicts) -> dict[str, Verdicts]:
    """Events by action: those on which no rule fires are allowed."""
    others = [decided[action].done() for action in ACTIONS if action != "allow"]
    rest = Verdicts(
        **{
            field: getattr(all_events, field) - sum(getattr(other, field) for other in others)
            for field in Verdicts.__struct_fields__
        }
    )
    return {action: rest if action == "allow" else decided[action].done() for action in ACTIONS}


class _Sum:
    def __init__(self) -> None:
        self._counts: Counter[bool | None] = Counter()

    def add(self, is_fraud: bool | None, events: int) -> None:
        self._counts[is_fraud] += events

    def done(self) -> Verdicts:
        counts = self._counts
        return Verdicts(sum(counts.values()), counts[True], counts[False], counts[None])


def _amounts(amounts: Counter[str]) -> dict[str, int]:
    """The largest first."""
    return dict(sorted(amounts.items(), key=lambda pair: (-pair[1], pair[0])))
