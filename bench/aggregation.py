"""Throughput of the pure aggregation with all features, no encoding: one core, events of many users interleaved.

Run: python -m bench.aggregation
"""

from __future__ import annotations

import time
from typing import Any

from bench.traffic import by_user, envelopes
from transforms.aggregation import Aggregation, AggregationConfig

ROUNDS = 7


def main() -> dict[str, Any]:
    """Prints and returns the figures."""
    events = envelopes(300, 20)
    users = by_user(events)
    machine = Aggregation(AggregationConfig())
    rates = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for sequence in users.values():
            machine.backfill(sequence)
        rates.append(len(events) / (time.process_time() - start))
    rates.sort()
    print(f"{len(events):,} events of {len(users)} users: median {rates[ROUNDS // 2]:,.0f}/s, best {rates[-1]:,.0f}/s")
    return {"median": rates[ROUNDS // 2], "best": rates[-1]}


if __name__ == "__main__":
    main()
