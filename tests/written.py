"""Elements for the tests of sinks: labels and dead letters, a number each."""

from __future__ import annotations

from collections import namedtuple

from transforms.events import DeadLetter, Envelope, Label

Outputs = namedtuple("Outputs", "labels dead_letters")


def label(n: int) -> Envelope:
    """A label of event `e<n>`, with the id `l<n>`."""
    event = Label(
        event_id=f"l{n}",
        user_id=f"u{n % 7}",
        event_time_ms=1_772_368_496_789 + n,
        target_event_id=f"e{n}",
        target_event_time_ms=1_772_368_000_000,
        is_fraud=True,
        source="analyst",
    )
    return Envelope(event, b"{}", 1_772_368_500_000 + n, f"test:{n}", n)


def dead_letter(n: int) -> DeadLetter:
    """A dead letter with a payload that is no text."""
    payload = bytes([n % 256, 0, 10, 255])
    return DeadLetter("NOT_JSON", None, "it isn't JSON", payload, 1_772_368_500_000 + n, f"test:{n}")
