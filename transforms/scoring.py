"""Rules that fired, to one score in [0, 1] and an action."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from transforms.records import FeatureRecord, Score
from transforms.rules import RuleErrorHandler, RuleSet, Thresholds

Action: TypeAlias = Literal["allow", "review", "block"]


def score(record: FeatureRecord, rules: RuleSet, on_error: RuleErrorHandler | None = None) -> Score:
    """The decision on one event: a pure function of its features and the rules (thresholds included).

    Args:
      on_error: as in `RuleSet.evaluate`.
    """
    fired = rules.evaluate(record, on_error)
    value = combine(rule.weight for rule in fired)
    return Score(record, value, action(value, rules.thresholds), fired, rules.version)


def combine(weights: Iterable[float]) -> float:
    """Noisy-or of the weights of the rules that fired: 1 - (1 - w1)(1 - w2)..., 0.0 without any.

    Each weight is the probability of fraud if that rule alone fires, and the rules are taken for independent causes
    (J. Pearl, Probabilistic Reasoning in Intelligent Systems, 1988, section 4.3.2). So one more rule or a larger
    weight never lowers the score, and no number of weak rules reaches a certain one. Rules that look at the same thing
    aren't independent and count too much together: give them weights that allow for it.

    Rounded to 9 decimals, which keeps the order, so that a lone rule of weight 0.9 reaches a threshold of 0.9.
    """
    innocent = 1.0
    for weight in weights:
        innocent *= 1.0 - weight
    return round(1.0 - innocent, 9)


def action(value: float, thresholds: Thresholds) -> Action:
    """What to do at a score."""
    if value >= thresholds.block_at:
        return "block"
    return "review" if value >= thresholds.review_at else "allow"
