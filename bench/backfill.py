"""The backfill path beside Bytewax session windows, on the same messages.

Ours parses, groups by user, sorts, folds with all features and emits every event's record and every session. Bytewax
parses, keys and folds each session into a count and a sum, features left out. Wall time of each run, in turn.

Measured compiled to C, as `make setup` does where there is a C compiler, and interpreted.

Run: python -m bench.backfill (needs the bench extra)
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from bench import compiled
from bench.traffic import ReadEvents, envelopes, write_lines
from transforms.aggregation import AggregationConfig
from transforms.backfill import BackfillAggregation
from transforms.events import Envelope, Message
from transforms.parsing import parse
from transforms.records import SessionRecord

ROUNDS = 5
END_MS = 4_000_000_000_000
COUNTS: Counter[str] = Counter()


def parsed(line: str) -> Envelope:
    """The event in a line."""
    envelope = parse(Message(line.encode(), END_MS, "bench"))
    assert isinstance(envelope, Envelope)
    return envelope


def _count(record: SessionRecord) -> None:
    COUNTS["ours"] += 1


def ours(path: Path) -> float:
    """Seconds of the backfill path."""
    start = time.perf_counter()
    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        outputs = pipeline | ReadEvents(path) | BackfillAggregation(AggregationConfig())
        _ = outputs.features | "Features" >> beam.Map(lambda record: None)
        _ = outputs.sessions | "Sessions" >> beam.Map(_count)
    return time.perf_counter() - start


def bytewax(path: Path) -> float:
    """Seconds of Bytewax."""
    import bytewax.operators as op
    from bytewax.connectors.files import FileSource
    from bytewax.dataflow import Dataflow
    from bytewax.operators.windowing import EventClock, SessionWindower, fold_window
    from bytewax.testing import TestingSink, run_main

    out: list[Any] = []
    flow = Dataflow("sessions")
    events = op.map("parse", op.input("in", flow, FileSource(path, batch_size=1_000)), parsed)
    keyed = op.key_on("by_user", events, lambda e: e.event.user_id)
    clock = EventClock(
        lambda e: datetime.fromtimestamp(e.event.event_time_ms / 1_000, UTC),
        wait_for_system_duration=timedelta(days=3_650),
    )
    windows = fold_window(
        "sessions",
        keyed,
        clock,
        SessionWindower(gap=timedelta(seconds=300)),
        lambda: (0, 0),
        lambda sums, e: (sums[0] + 1, sums[1] + getattr(e.event, "amount_minor", 0)),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
    )
    op.output("out", windows.down, TestingSink(out))
    start = time.perf_counter()
    run_main(flow)
    seconds = time.perf_counter() - start
    COUNTS["bytewax"] = len(out)
    return seconds


def measure() -> dict[str, float]:
    """Medians of some rounds: events a second of ours and of Bytewax, and the ratio.

    Raises:
      SystemExit: the two find different sessions.
    """
    events = list({e.event.event_id: e for e in envelopes(1_500, 5)}.values())
    path = write_lines(events, Path(tempfile.mkdtemp()) / "events.jsonl")
    rates, peers, ratios = [], [], []
    for _ in range(ROUNDS):
        COUNTS.clear()
        a, b = ours(path), bytewax(path)
        if COUNTS["ours"] != COUNTS["bytewax"]:
            raise SystemExit(f"the sessions differ: {COUNTS['ours']} and {COUNTS['bytewax']}")
        rates.append(len(events) / a)
        peers.append(len(events) / b)
        ratios.append(b / a)
    return {
        "events": len(events),
        "ours": statistics.median(rates),
        "bytewax": statistics.median(peers),
        "ratio": statistics.median(ratios),
    }


def main() -> dict[str, Any]:
    """Prints and returns the figures."""
    results = compiled.figures("bench.backfill")
    for name, found in results.items():
        print(
            f"{found['events']:,} events: ours {found['ours']:,.0f}/s with all features, {name}; "
            f"Bytewax {found['bytewax']:,.0f}/s with a count and a sum, ratio {found['ratio']:.2f}"
        )
    return results


if __name__ == "__main__":
    # Beam pickles what is in __main__ by value, counters included: run what is importable.
    from bench import backfill

    if sys.argv[1:] == ["--json"]:
        print(json.dumps(backfill.measure()))
    else:
        backfill.main()
