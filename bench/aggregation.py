"""Throughput of the pure aggregation with all features, no encoding: one core, events of many users in order.

Measured compiled to C, as `make setup` does where there is a C compiler, and interpreted.

Run: python -m bench.aggregation
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bench import compiled
from bench.traffic import by_user, envelopes
from transforms.aggregation import Aggregation, AggregationConfig

ROUNDS = 9


def measure() -> dict[str, float]:
    """Events a second: median and best of some rounds."""
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
    return {"median": rates[ROUNDS // 2], "best": rates[-1]}


def main() -> dict[str, Any]:
    """Prints and returns the figures."""
    results = compiled.figures("bench.aggregation")
    for name, rates in results.items():
        print(f"{name}: median {rates['median']:,.0f} events/s, best {rates['best']:,.0f}")
    return results


if __name__ == "__main__":
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(measure()))
    else:
        main()
