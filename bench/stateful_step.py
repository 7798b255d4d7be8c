"""The whole stateful step (decode state, aggregate, encode, timers) over Beam's own floor, and by length of session.

The floor is the least that such a step can do on Beam: one read-modify-write cell read and written, one blind add to
a bag, one event-time timer. Source, runner and data are the same and run in turn. Whole runs are compared, and the
steps alone, where the time of the source is taken off both. The floor is measured as Beam comes, and with the default
of objsize that `transforms` sets (docs/decisions/state-cache.md), as Beam's cache of state is most of it otherwise.

Measured compiled to C, as `make setup` does where there is a C compiler, and interpreted.

Run: python -m bench.stateful_step
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import objsize
from apache_beam.coders import BytesCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer

from bench import compiled
from bench.traffic import ReadEvents, session, write_lines
from fraud_pipeline import local_runner
from transforms.aggregation import Aggregation, AggregationConfig, MemoryLog
from transforms.events import Envelope
from transforms.hybrid import HybridAggregationDoFn, key_by_user

ROUNDS = 5
RUNNERS = ("FnApiRunner", "BundleBasedDirectRunner")


class Floor(beam.DoFn):
    """The least a stateful step does: one cell, one blind bag add, one timer."""

    CELL = ReadModifyWriteStateSpec("cell", BytesCoder())
    BAG = BagStateSpec("bag", BytesCoder())
    TIMER = TimerSpec("timer", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, Envelope],
        cell: Any = beam.DoFn.StateParam(CELL),
        bag: Any = beam.DoFn.StateParam(BAG),
        timer: Any = beam.DoFn.TimerParam(TIMER),
    ) -> Iterator[Envelope]:
        state = cell.read() or b""
        cell.write(state or bytes(500))
        bag.add(element[1].payload)
        timer.set(element[1].event.event_time_ms / 1_000 + 300)
        yield element[1]

    @on_timer(TIMER)
    def fired(self, cell: Any = beam.DoFn.StateParam(CELL), bag: Any = beam.DoFn.StateParam(BAG)) -> Iterator[Envelope]:
        cell.clear()
        bag.clear()
        yield from ()


def seconds(path: Path, runner: str, step: beam.PTransform[Any, Any] | None) -> float:
    """Seconds of a pipeline from the file through the step; None for the source alone."""
    start = time.perf_counter()
    with beam.Pipeline(options=PipelineOptions([f"--runner={runner}"])) as pipeline:
        keyed = pipeline | ReadEvents(path) | "Key" >> key_by_user()
        if step is not None:
            _ = keyed | "Step" >> step
    return time.perf_counter() - start


def ours() -> beam.PTransform[Any, Any]:
    """The hybrid aggregation, as in the job."""
    return beam.ParDo(HybridAggregationDoFn(AggregationConfig())).with_outputs("sessions", "dead_letters", main="main")


class OverFloor(NamedTuple):
    """Median microseconds an event, net of the source, and medians of the ratios of a round.

    Attributes:
      stock: of the floor as Beam comes.
      floor: of the floor with what `transforms` sets.
      step: of ours.
      over_stock, over_floor: ours over them.
      run_over_stock, run_over_floor: the same of whole runs, the source included.
    """

    stock: float
    floor: float
    step: float
    over_stock: float
    over_floor: float
    run_over_stock: float
    run_over_floor: float


def over_floor(path: Path, count: int, runner: str) -> OverFloor:
    """The step beside the floors."""
    rounds = []
    for _ in range(ROUNDS):
        source = seconds(path, runner, None)
        objsize.default_settings.exclude_modules_globals = True
        stock = seconds(path, runner, beam.ParDo(Floor()))
        objsize.default_settings.exclude_modules_globals = False
        floor = seconds(path, runner, beam.ParDo(Floor()))
        step = seconds(path, runner, ours())
        net = [run - source for run in (stock, floor, step)]
        rounds.append(
            (
                *(each / count * 1e6 for each in net),
                *(net[2] / least for least in net[:2]),
                *(step / least for least in (stock, floor)),
            )
        )
    return OverFloor(*map(statistics.median, zip(*rounds, strict=True)))


class ByLength(NamedTuple):
    """Median microseconds an event in sessions of 10 and of 10,000 events, and the median of their ratios."""

    short: float
    long: float
    ratio: float


def by_length(runner: str, total: int = 10_000) -> ByLength:
    """Sessions of 10,000 events beside those of 10."""
    short = _file(total, 10)
    long = _file(total, 10_000)
    shorts, longs, ratios = [], [], []
    for _ in range(ROUNDS):
        a = seconds(short, runner, ours()) - seconds(short, runner, None)
        b = seconds(long, runner, ours()) - seconds(long, runner, None)
        shorts.append(a / total * 1e6)
        longs.append(b / total * 1e6)
        ratios.append(b / a)
    return ByLength(statistics.median(shorts), statistics.median(longs), statistics.median(ratios))


def alone(length: int, total: int = 10_000) -> float:
    """Microseconds an event of decode, aggregate and encode, without a runner, whose cost by key would hide them."""
    machine = Aggregation(AggregationConfig())
    users = [session(length, f"u{i}") for i in range(total // length)]
    start = time.process_time()
    for events in users:
        data, log = b"", MemoryLog()
        for envelope in events:
            state = machine.decode(data) if data else None
            step = machine.on_event(state, envelope, log)
            assert step.state is not None
            data = machine.encode(step.state)
    return (time.process_time() - start) / total * 1e6


def _file(total: int, length: int) -> Path:
    """Sessions of a length, one a user: in batch no timer fires before the last event, so more would all be open."""
    events = (e for i in range(total // length) for e in session(length, f"u{i}"))
    return write_lines(events, Path(tempfile.mkdtemp()) / "events.jsonl")


def over_floors(total: int = 10_000) -> dict[str, OverFloor]:
    """The step beside the floors, by runner and events a session."""
    found = {}
    for length in (10, 50):
        path = _file(total, length)
        for runner in RUNNERS:
            found[f"{runner}, sessions of {length}"] = over_floor(path, total, runner)
    return found


def by_lengths() -> dict[str, ByLength]:
    """Long sessions beside short ones, by runner and without one."""
    pairs = [(alone(10), alone(10_000)) for _ in range(ROUNDS)]
    short, long = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    return {**{runner: by_length(runner) for runner in RUNNERS}, "without a runner": ByLength(short, long, ratio)}


def main() -> dict[str, Any]:
    """Prints and returns the figures, by form."""
    results: dict[str, dict[str, Any]] = {
        how: {
            "over_floor": {name: OverFloor(*figures) for name, figures in found["over_floor"].items()},
            "by_length": {name: ByLength(*figures) for name, figures in found["by_length"].items()},
        }
        for how, found in compiled.figures("bench.stateful_step").items()
    }
    for how, tables in results.items():
        for name, step in tables["over_floor"].items():
            print(
                f"{name:37} {how:11}: floor as Beam comes {step.stock:6.1f} us, with cheap sizes {step.floor:6.1f} us, "
                f"step {step.step:6.1f} us, ratios {step.over_stock:.2f} and {step.over_floor:.2f}, "
                f"of whole runs {step.run_over_stock:.2f} and {step.run_over_floor:.2f}"
            )
        for name, cost in tables["by_length"].items():
            print(
                f"{name:37} {how:11}: session of 10 {cost.short:6.1f} us, of 10,000 {cost.long:6.1f} us, "
                f"ratio {cost.ratio:.2f}"
            )
    return results


if __name__ == "__main__":
    # Beam pickles what is in __main__ by value: run what is importable, as the job's own steps are.
    from bench import stateful_step

    if sys.argv[1:] == ["--json"]:
        local_runner.install()
        print(json.dumps({"over_floor": stateful_step.over_floors(), "by_length": stateful_step.by_lengths()}))
    else:
        stateful_step.main()
