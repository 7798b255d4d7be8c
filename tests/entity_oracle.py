"""What an entity's features must be, by brute force, written from the laws and the declaration and nothing else.

It keeps the plain lists of accepted events and labels, and works out each answer anew. It shares no code with
`transforms.entity_machine`, and must never do so. Events are in the order of event time, ties by the hash of the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mmh3

from transforms.entities import KINDS, Entity, EntityFeature
from transforms.events import Activity, Label, Login, Payment


def id_hash(text: str) -> bytes:
    return mmh3.mmh3_x64_128_digest(text.encode())[:8]


def position(event: Activity) -> tuple[int, bytes]:
    return event.event_time_ms, id_hash(event.event_id)


def kind(event: Activity) -> str:
    if isinstance(event, Login):
        return f"login_{event.outcome}"
    return type(event).__name__.lower()


def value(event: Any, name: str) -> str | None:
    """A field of an event, or an attribute, as a text."""
    if name.startswith("attributes."):
        found = (event.attributes or {}).get(name.removeprefix("attributes."))
    else:
        found = getattr(event, name, None)
    return None if found is None else str(found)


@dataclass
class OracleEntity:
    """One entity with all that it has accepted, each id once."""

    entity: Entity
    events: dict[str, tuple[int, Activity]] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)

    def accept(self, event: Activity | Label, role: int = 0) -> None:
        if isinstance(event, Label):
            self.labels.setdefault(event.event_id, event)
        else:
            self.events.setdefault(event.event_id, (role, event))

    def answer(self, event: Activity) -> tuple[Any, ...]:
        return tuple(self.feature(feature, event) for feature in self.entity.features)

    def feature(self, feature: EntityFeature, asked: Activity) -> Any:
        now = asked.event_time_ms
        until = now - feature.delay_ms
        inside = [
            event
            for role, event in self.events.values()
            if role == feature.role
            and position(event) <= position(asked)
            and until - feature.window_ms < event.event_time_ms <= until
            and KINDS.index(kind(event)) in feature.kinds
        ]
        payments = [event for event in inside if isinstance(event, Payment)]
        if feature.aggregate == "count":
            return len(inside)
        if feature.aggregate == "sum":
            return sum(payment.amount_minor for payment in payments)
        if feature.aggregate == "distinct":
            return len({value(event, feature.field) for event in inside} - {None})
        verdicts = [self.verdict(payment, now) for payment in payments]
        if feature.aggregate == "payment_count":
            return len(verdicts)
        if feature.aggregate == "labelled_count":
            return sum(verdict is not None for verdict in verdicts)
        if feature.aggregate == "fraud_count":
            return sum(verdict is True for verdict in verdicts)
        return sum(verdict is True for verdict in verdicts) / len(verdicts) if verdicts else None

    def verdict(self, payment: Payment, now_ms: int) -> bool | None:
        """The last word on a payment that is known at a time; None without one."""
        words = [
            (label.event_time_ms, id_hash(label.event_id), label.is_fraud)
            for label in self.labels.values()
            if label.target_event_id == payment.event_id and label.event_time_ms <= now_ms
        ]
        return max(words)[2] if words else None


def differing(entity: Entity, got: Sequence[Any], want: Sequence[Any]) -> dict[str, tuple[Any, Any]]:
    """The features that differ, by name."""
    assert len(got) == len(want) == len(entity.features)
    names = [f.feature.name for f in entity.features]
    return {n: (g, w) for n, g, w in zip(names, got, want, strict=True) if g != w or type(g) is not type(w)}
