"""The way from the client to the pipeline: what arrives, when, how often, and what is left of it."""

from __future__ import annotations

import math
from random import Random
from typing import Literal

import msgspec

from fraud_pipeline.simulate.config import Delivery
from fraud_pipeline.simulate.drafts import LUCK_BITS, Attack, Draft
from fraud_pipeline.simulate.malformed import malform
from fraud_pipeline.simulate.wire import encode
from transforms.events import Claim, Event, Login, Payment, Signup

TRANSIT_MS = 50
"""How long an undisturbed message takes."""

_BITS = LUCK_BITS // 5
_MASK = (1 << _BITS) - 1
_SECOND_MS, _MINUTE_MS, _HOUR_MS = 1_000, 60_000, 3_600_000


class AttackLabel(msgspec.Struct, frozen=True):
    """The truth about one event of an attack; kept apart from what the pipeline reads."""

    event_id: str
    scenario: str
    attack_id: str
    intensity: float


class Arrival(msgspec.Struct, frozen=True):
    """A message as it reaches the pipeline.

    Attributes:
      received_ms: when, epoch ms.
      payload: what the pipeline reads.
      kind: what it is: an event's first message, the same bytes once more, the same id with other content, or
        something that is no valid event and that arrives in an event's place.
      label: with an attack's event, its label.
    """

    received_ms: int
    payload: bytes
    kind: Literal["event", "duplicate", "conflict", "malformed"]
    label: AttackLabel | None = None


class Postman:
    """Delivers events as `Delivery` says. It has no memory: what becomes of an event depends on its luck alone."""

    def __init__(self, delivery: Delivery) -> None:
        rates = (
            delivery.malformed,
            delivery.late,
            delivery.delayed,
            delivery.duplicates,
            delivery.conflicts,
        )
        self._limits = tuple(round(rate * (_MASK + 1)) for rate in rates)
        self._rng = Random()

    def deliver(self, draft: Draft) -> list[Arrival]:
        """The messages that one event becomes: one, or more with a duplicate or a conflict."""
        luck = draft.luck
        malformed, late, delayed, duplicate, conflict = [
            (luck >> shift & _MASK) < limit
            for shift, limit in zip(range(0, LUCK_BITS, _BITS), self._limits, strict=True)
        ]
        event = draft.event
        received_ms = event.event_time_ms + TRANSIT_MS
        if not (malformed or late or delayed or duplicate or conflict):
            return [Arrival(received_ms, encode(draft), "event", _label(event.event_id, draft.attack))]
        rng = self._rng
        rng.seed(luck)
        if late:
            received_ms += _late_ms(rng)
        elif delayed:
            received_ms += _delay_ms(rng)
        if malformed:
            arrivals = [Arrival(received_ms, malform(rng, draft), "malformed")]
        else:
            label = _label(event.event_id, draft.attack)
            arrivals = [Arrival(received_ms, encode(draft), "event", label)]
            if conflict:
                changed = msgspec.structs.replace(draft, event=_contradict(rng, event))
                after_ms = 200 + int(rng.random() * _MINUTE_MS)
                arrivals.append(Arrival(received_ms + after_ms, encode(changed), "conflict"))
        if duplicate:
            first = arrivals[0]
            kind: Literal["duplicate", "malformed"] = "malformed" if malformed else "duplicate"
            arrivals.append(Arrival(first.received_ms + _redelivery_ms(rng), first.payload, kind))
        return arrivals


def _label(event_id: str, attack: Attack | None) -> AttackLabel | None:
    if attack is None:
        return None
    return AttackLabel(event_id, attack.scenario, attack.attack_id, attack.intensity)


def _delay_ms(rng: Random) -> int:
    """Four of five within about 2 s, the rest up to 4 minutes."""
    if rng.random() < 0.8:
        return int(rng.expovariate(1 / (0.8 * _SECOND_MS)))
    return _between(rng, 2 * _SECOND_MS, 4 * _MINUTE_MS)


def _late_ms(rng: Random) -> int:
    """Beyond 5 minutes, three of ten beyond an hour."""
    if rng.random() < 0.7:
        return _between(rng, 5 * _MINUTE_MS + 1, _HOUR_MS)
    return _between(rng, _HOUR_MS, 12 * _HOUR_MS)


def _redelivery_ms(rng: Random) -> int:
    luck = rng.random()
    if luck < 0.8:
        return _between(rng, 10, 10 * _SECOND_MS)
    return _between(rng, 10 * _SECOND_MS, 10 * _MINUTE_MS if luck < 0.95 else 3 * _HOUR_MS)


def _between(rng: Random, low_ms: int, high_ms: int) -> int:
    """Log-uniform: short more often than long."""
    return int(low_ms * math.exp(rng.random() * math.log(high_ms / low_ms)))


def _contradict(rng: Random, event: Event) -> Event:
    if isinstance(event, Login):
        return msgspec.structs.replace(event, outcome="failure" if event.outcome == "success" else "success")
    if isinstance(event, Payment):
        return msgspec.structs.replace(event, amount_minor=event.amount_minor * 10 + rng.randrange(10))
    if isinstance(event, Signup):
        return msgspec.structs.replace(event, referrer_id="r-" + event.event_id[2:])
    if isinstance(event, Claim):
        return msgspec.structs.replace(event, promotion_id=event.promotion_id + "-b")
    return msgspec.structs.replace(event, is_fraud=not event.is_fraud)
