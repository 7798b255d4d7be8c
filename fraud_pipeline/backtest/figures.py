"""Figures of a backtest and of a comparison: what is printed, and what `--json` gives."""

from __future__ import annotations

import msgspec

from fraud_pipeline.backtest.tally import Example

ACTIONS = ("allow", "review", "block")


class Verdicts(msgspec.Struct, frozen=True):
    """Events by what turned out."""

    events: int = 0
    fraud: int = 0
    legitimate: int = 0
    unlabelled: int = 0

    @property
    def precision(self) -> float | None:
        """Fraud among the events with a verdict; None without any."""
        return ratio(self.fraud, self.fraud + self.legitimate)


class Range(msgspec.Struct, frozen=True):
    """What history holds.

    Attributes:
      first_day, last_day: of the events, UTC.
      days: on which there are events: what rates per day are taken over.
      rows: of the scores table; `superseded_rows` of them were replaced by a later version or written twice.
      unlabelled_counts_as: what an event without a label is taken for: `unknown` or `legitimate`.
    """

    first_day: str
    last_day: str
    days: int
    rows: int
    superseded_rows: int
    unlabelled_counts_as: str
    verdicts: Verdicts
    fraud_amount_minor: dict[str, int]


class RuleFigures(msgspec.Struct, frozen=True):
    """How one rule does.

    Attributes:
      rule_id: its id; of a list that decides by itself, `list.<name>`.
      mode: `live`, or `shadow` for a rule on trial.
      action: what it demands; None where its weight alone counts.
      hits: events that it fires on, by verdict.
      precision: fraud among its hits with a verdict.
      recall: its share of all events labelled fraud, of every type.
      false_positives_per_day: hits that are legitimate, over the days.
      saved_minor: amounts of payments labelled fraud that it fires on and that aren't allowed, by currency; of a
        rule on trial, that wouldn't be if the rules on trial were live.
      only: hits on which no other live rule fires.
      only_saved_minor: of `saved_minor`, what is due to those hits.
      overlaps: hits in common with other rules, the most first.
      errors: events on which its condition can't be evaluated, among those that it was asked about.
    """

    rule_id: str
    mode: str
    severity: str
    weight: float
    action: str | None
    hits: Verdicts
    precision: float | None
    recall: float | None
    false_positives_per_day: float
    saved_minor: dict[str, int]
    only: Verdicts
    only_saved_minor: dict[str, int]
    overlaps: dict[str, int]
    errors: int


class Backtest(msgspec.Struct, frozen=True):
    """What a file of rules would have decided.

    Attributes:
      actions: events by decision.
      actions_with_shadow: the same if the rules on trial were live; None where there are none.
      prevented_minor, missed_minor: amounts of payments labelled fraud that aren't allowed, and that are, by currency.
      asked_rows: rows that the rules themselves were asked about; on the others a prefilter shows that none fires.
    """

    rules_version: str
    history: Range
    actions: dict[str, Verdicts]
    actions_with_shadow: dict[str, Verdicts] | None
    prevented_minor: dict[str, int]
    missed_minor: dict[str, int]
    rules: tuple[RuleFigures, ...]
    asked_rows: int


class ActionChange(msgspec.Struct, frozen=True):
    """Events that one file decides one way and the other another way; with equal actions, for other reasons."""

    old_action: str
    new_action: str
    verdicts: Verdicts
    amount_minor: dict[str, int]


class RuleChange(msgspec.Struct, frozen=True):
    """What became of a rule.

    Attributes:
      change: `added`, `removed`, `changed` or `same`.
      gained, lost: events on which it fires in one file only.
    """

    rule_id: str
    change: str
    gained: Verdicts
    lost: Verdicts


class Diff(msgspec.Struct, frozen=True):
    """What two files of rules decide differently.

    Attributes:
      actions: by pairs of actions, those that differ first.
      examples: for each such pair, some events.
    """

    old_version: str
    new_version: str
    history: Range
    actions: tuple[ActionChange, ...]
    rules: tuple[RuleChange, ...]
    examples: tuple[Example, ...]
    asked_rows: int


def ratio(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return part / whole if whole else None
