"""Rules that fired and lists that an event is on, to one score in [0, 1] and an action."""

from __future__ import annotations

from collections.abc import Iterable

from transforms.lists import FIRED_PREFIX
from transforms.records import FeatureRecord, FiredRule, Score
from transforms.rules import Action, RuleErrorHandler, RuleSet, Thresholds


def score(record: FeatureRecord, rules: RuleSet, on_error: RuleErrorHandler | None = None) -> Score:
    """The decision on one event: a pure function of its features, the rules (thresholds included) and the lists.

    Args:
      on_error: as in `RuleSet.match`.
    """
    live, shadow = rules.match(record, on_error)
    value = combine(rule.weight for rule in live)
    return Score(record, value, decide(live, value, rules.thresholds), live, rules.version, shadow, rules.lists.version)


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


def decide(fired: Iterable[FiredRule], value: float, thresholds: Thresholds) -> Action:
    """What to do with an event, of the rules and lists that it matches and their score.

    The first that applies: a deny list blocks; an allow list or a rule that allows, allows; else the strictest of what
    the score gives and what the rules and watch lists demand.
    """
    result = action(value, thresholds)
    allowed = False
    for rule in fired:
        if rule.action is None:
            continue
        if rule.action == "allow":
            allowed = True
        elif rule.action == "block" and rule.rule_id.startswith(FIRED_PREFIX):
            return "block"
        elif rule.action == "block" or result == "allow":
            result = "block" if rule.action == "block" else "review"
    return "allow" if allowed else result
