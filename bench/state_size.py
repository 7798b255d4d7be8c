"""Bytes of state a user takes: idle, active, and one user with a million events beside others.

Active is measured after every event, log of open events included; idle is a user without an open session. The cost of
the others is the time of decode, aggregate and encode an event, with and without the hot user's events in between.

Run: python -m bench.state_size
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from bench.traffic import by_user, envelopes, session
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.events import Envelope

HOT_EVENTS = 1_000_000


class User:
    """A user's state as a worker keeps it between events: bytes and a log."""

    def __init__(self, machine: Aggregation) -> None:
        self.machine = machine
        self.data: bytes | None = None
        self.log = MemoryLog()
        self.timer_ms: int | None = None

    def event(self, envelope: Envelope) -> None:
        """Time passes, then an event comes in."""
        self.advance(envelope.event.event_time_ms)
        state = self.machine.decode(self.data) if self.data else None
        step = self.machine.on_event(state, envelope, self.log)
        assert step.state is not None
        self.data, self.timer_ms = self.machine.encode(step.state), step.timer_ms

    def advance(self, now_ms: int) -> None:
        """The watermark passes; timers fire."""
        while self.data and self.timer_ms is not None and self.timer_ms <= now_ms:
            step = self.machine.on_watermark(self.machine.decode(self.data), self.timer_ms, self.log)
            self.data, self.timer_ms = self.machine.encode(step.state) if step.state else None, step.timer_ms

    @property
    def size(self) -> int:
        """Bytes of the cell and the bag."""
        return len(self.data or b"") + sum(map(len, self.log.entries))


def percentiles(sizes: Sequence[int]) -> dict[str, int]:
    """Median, 90th, 99th percentile and maximum."""
    ordered = sorted(sizes)
    at = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 90, 99)}
    return {**at, "max": ordered[-1]}


def typical(machine: Aggregation, users: int = 200, days: int = 30) -> tuple[list[int], list[int]]:
    """Sizes while active, after each event, and idle, at the end, of users with a month of habits."""
    active, idle = [], []
    for sequence in by_user(envelopes(users, days)).values():
        user = User(machine)
        for envelope in sequence:
            user.event(envelope)
            active.append(user.size)
        user.advance(max(e.event.event_time_ms for e in sequence) + 86_400_000)
        idle.append(user.size)
    return active, idle


def others_cost(machine: Aggregation, hot: Sequence[Envelope]) -> float:
    """Microseconds an event of ordinary users, with the hot user's events in between."""
    users = {f"u{i}": User(machine) for i in range(500)}
    turns = list(zip(*(session(20, name) for name in users), strict=True))
    hot_user, at, spent = User(machine), 0, 0.0
    for turn in turns:
        for envelope in hot[at : at + len(hot) // len(turns)]:
            hot_user.event(envelope)
        at += len(hot) // len(turns)
        start = time.process_time()
        for envelope in turn:
            users[envelope.event.user_id].event(envelope)
        spent += time.process_time() - start
    return spent / (20 * len(users)) * 1e6


def main() -> dict[str, Any]:
    """Prints and returns the figures."""
    machine = Aggregation(AggregationConfig())
    active, idle = typical(machine)
    results: dict[str, Any] = {"active": percentiles(active), "idle": percentiles(idle)}
    hot = User(machine)
    largest = 0
    for start in range(0, HOT_EVENTS, 50_000):
        for i, envelope in enumerate(session(50_000, "hot", 1_750_000_000_000 + start * 300, step_ms=300)):
            hot.event(envelope)
            if i % 1_000 == 0:
                largest = max(largest, hot.size)
    results["hot"] = largest
    for name in ("active", "idle"):
        print(f"{name:7}" + "  ".join(f"{k} {v:,} B" for k, v in results[name].items()))
    print(f"one user with {HOT_EVENTS:,} events in one session: at most {largest:,} B")
    alone = statistics.median(others_cost(machine, []) for _ in range(5))
    beside = statistics.median(others_cost(machine, session(40_000, "hot", step_ms=300)) for _ in range(5))
    results["others"] = (alone, beside, beside / alone)
    print(f"the others: {alone:.1f} us an event alone, {beside:.1f} us beside it, ratio {beside / alone:.2f}")
    return results


if __name__ == "__main__":
    main()
