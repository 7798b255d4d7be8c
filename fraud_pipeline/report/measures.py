"""How good decisions are, given what was an attack: pure figures, the same for a results file and for a benchmark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from fraud_pipeline.simulate.delivery import AttackLabel

DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What was decided on one event.

    Attributes:
      event_time_ms: when it happened, epoch ms.
      received_ms: when its message came in, epoch ms.
      first_action: the answer when it came in; None where that isn't known.
      action: the decision that stands, after all corrections.
    """

    event_id: str
    event_time_ms: int
    received_ms: int
    first_action: str | None
    action: str

    @property
    def flagged(self) -> bool:
        """Whether it isn't simply allowed."""
        return self.action != "allow"


class Attack(msgspec.Struct, frozen=True):
    """What became of one attack.

    Attributes:
      intensity: in (0, 1], from slow and careful to fast and loud.
      events: its labelled events.
      scored: those of them that were scored; the others arrived too late, or with other content before.
      flagged: those that stand as review or block.
      passed_before_alarm: events that had come in when the first one was flagged on arrival; None if none was.
    """

    attack_id: str
    scenario: str
    intensity: float
    events: int
    scored: int
    flagged: int
    passed_before_alarm: int | None

    @property
    def caught(self) -> bool:
        """Whether at least one of its events stands as review or block."""
        return self.flagged > 0

    @property
    def caught_early(self) -> bool:
        """Whether it is caught, and the alarm came on arrival, before half of its events had passed."""
        return self.caught and self.passed_before_alarm is not None and 2 * self.passed_before_alarm < self.events


class Scenario(msgspec.Struct, frozen=True):
    """The attacks of one kind, or of all kinds, counted."""

    name: str
    attacks: int
    caught: int
    caught_early: int
    events: int
    flagged: int

    @property
    def recall(self) -> float | None:
        """Share of the attacks that were caught; None without an attack."""
        return ratio(self.caught, self.attacks)


class Mark(msgspec.Struct, frozen=True, order=True):
    """An event to show: one of an attack, or a normal one that was flagged, whose `attack_id` is empty."""

    event_time_ms: int
    attack_id: str
    action: str


class Detection(msgspec.Struct, frozen=True):
    """Decisions against the truth, on the days (UTC, by event time) that have labelled events.

    Attributes:
      days: those days, as days since the epoch, in order.
      attacks: in order of their ids.
      normal_events: scored events of these days that belong to no attack.
      normal_flagged: those of them that stand as review or block.
      events_by_hour: normal events of these days by hour, as hours since the epoch.
      marks: events of attacks and false alarms, in order of time.
    """

    days: tuple[int, ...]
    attacks: tuple[Attack, ...]
    normal_events: int
    normal_flagged: int
    events_by_hour: dict[int, int]
    marks: tuple[Mark, ...]

    @property
    def false_positive_rate(self) -> float | None:
        """Share of the normal events that were flagged; None without a normal event."""
        return ratio(self.normal_flagged, self.normal_events)

    @property
    def precision(self) -> float | None:
        """Share of the flagged events that belong to an attack; None where none was flagged."""
        flagged = sum(attack.flagged for attack in self.attacks)
        return ratio(flagged, flagged + self.normal_flagged)


def detection(decisions: Iterable[Decision], labels: Iterable[AttackLabel]) -> Detection:
    """Judges decisions by the truth, in one pass: memory grows with what is labelled or flagged.

    Args:
      decisions: one for each scored event, in any order.
      labels: one for each event of an attack; an event without one is normal.
    """
    truth = {label.event_id: label for label in labels}
    attacked: dict[str, list[Decision]] = {label.attack_id: [] for label in truth.values()}
    days: set[int] = set()
    normal: Counter[int] = Counter()
    alarms: list[Mark] = []
    marks: list[Mark] = []
    for decision in decisions:
        label = truth.get(decision.event_id)
        if label is not None:
            attacked[label.attack_id].append(decision)
            days.add(decision.event_time_ms // DAY_MS)
            marks.append(Mark(decision.event_time_ms, label.attack_id, decision.action))
            continue
        normal[decision.event_time_ms // HOUR_MS] += 1
        if decision.flagged:
            alarms.append(Mark(decision.event_time_ms, "", decision.action))
    alarms = [alarm for alarm in alarms if alarm.event_time_ms // DAY_MS in days]
    events_by_hour = {hour: normal[hour] for hour in sorted(normal) if hour * HOUR_MS // DAY_MS in days}
    return Detection(
        days=tuple(sorted(days)),
        attacks=_attacks(truth.values(), attacked),
        normal_events=sum(events_by_hour.values()),
        normal_flagged=len(alarms),
        events_by_hour=events_by_hour,
        marks=tuple(sorted([*marks, *alarms])),
    )


def by_scenario(attacks: Iterable[Attack]) -> list[Scenario]:
    """The attacks counted by scenario, in order of the names."""
    found: dict[str, list[Attack]] = {}
    for attack in attacks:
        found.setdefault(attack.scenario, []).append(attack)
    return [count(name, found[name]) for name in sorted(found)]


def count(name: str, attacks: Sequence[Attack]) -> Scenario:
    """All these attacks counted under one name."""
    return Scenario(
        name=name,
        attacks=len(attacks),
        caught=sum(attack.caught for attack in attacks),
        caught_early=sum(attack.caught_early for attack in attacks),
        events=sum(attack.events for attack in attacks),
        flagged=sum(attack.flagged for attack in attacks),
    )


def ratio(part: float, whole: float) -> float | None:
    """Part of a whole; None where there is no whole."""
    return part / whole if whole else None


def _attacks(labels: Iterable[AttackLabel], attacked: dict[str, list[Decision]]) -> tuple[Attack, ...]:
    events: Counter[str] = Counter()
    one_of: dict[str, AttackLabel] = {}
    for label in labels:
        events[label.attack_id] += 1
        one_of[label.attack_id] = label
    return tuple(
        Attack(
            attack_id=attack_id,
            scenario=one_of[attack_id].scenario,
            intensity=one_of[attack_id].intensity,
            events=events[attack_id],
            scored=len(attacked[attack_id]),
            flagged=sum(decision.flagged for decision in attacked[attack_id]),
            passed_before_alarm=_passed_before_alarm(attacked[attack_id]),
        )
        for attack_id in sorted(attacked)
    )


def _passed_before_alarm(decisions: Iterable[Decision]) -> int | None:
    ordered = sorted(decisions, key=lambda d: (d.received_ms, d.event_time_ms, d.event_id))
    alarms = (i for i, d in enumerate(ordered) if d.first_action not in (None, "allow"))
    return next(alarms, None)
