"""The entity stage: microseconds an event and entity, a hot key against uniform ones, bytes of state.

Time is that of the processor, not of the clock. A step decodes the state, updates it, answers, and encodes it again, as
the stage does for each event.

Run: python -m bench.entities
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec

from fraud_pipeline import local_runner
from transforms.enrich import EnrichByEntity
from transforms.entities import DEFAULT_ENTITIES, Entity
from transforms.entity_keys import EntityKeys
from transforms.entity_machine import EntityMachine
from transforms.events import Envelope, Login, Payment

EVENTS = 20_000
KEYS = 4_000
ROUNDS = 3
HOT_SHARE = 0.1
START_MS = 1_700_000_000_000
PAYMENTS_ONLY = ("card", "merchant", "payee", "account")

Event = Login | Payment


class Step(NamedTuple):
    """What a run of the machine took.

    Attributes:
      micros: processor time an event.
      sizes: bytes of the state of each entity at the end, ascending.
      approximate: share of answers that were.
    """

    micros: float
    sizes: list[int]
    approximate: float


def events(entity: str, count: int, hot_share: float = 0.0, seed: int = 1) -> Iterator[Event]:
    """Events of many entities over a day, ten of them a second, of which a share belongs to one of them."""
    chance = random.Random(seed)
    for n in range(count):
        key = "hot" if chance.random() < hot_share else f"k{chance.randrange(KEYS)}"
        common: dict[str, Any] = {
            "event_id": f"e{n}",
            "user_id": f"u{chance.randrange(20_000)}",
            "event_time_ms": START_MS + n * 100 + chance.randrange(2_000),
            "ip": "192.0.2.1"
            if entity in ("ip", "network")
            else f"192.0.{chance.randrange(9)}.{chance.randrange(256)}",
            "device_id": f"d{chance.randrange(20_000)}",
            "country": "DE",
        }
        field = {"ip": "ip", "network": "ip", "device": "device_id", "account": "user_id"}.get(entity)
        if field:
            common[field] = key if entity not in ("ip", "network") else _address(key)
        if entity in PAYMENTS_ONLY or chance.random() < 0.3:
            ids: dict[str, Any] = {
                f"{name}_id": f"{name}{chance.randrange(5_000)}" for name in ("card", "merchant", "payee")
            }
            if not field:
                ids[f"{entity}_id"] = key
            yield Payment(**common, **ids, amount_minor=chance.randrange(10_000), currency="EUR")
        else:
            yield Login(**common, outcome=chance.choice(("success", "failure")))


def _address(key: str) -> str:
    number = 0 if key == "hot" else int(key[1:]) + 1
    return f"10.{number >> 8}.{number & 255}.1"


def step(entity: Entity, stream: Sequence[Event]) -> Step:
    """Runs the machine over events, state encoded and decoded at each."""
    machine, keys = EntityMachine(entity), EntityKeys(entity)
    keyed = [(keys.own(event) or "", event) for event in stream]
    states: dict[str, bytes] = {}
    approximate = 0
    start = time.process_time()
    for key, event in keyed:
        data = states.get(key)
        state, answer = machine.on_event(machine.decode(data) if data else None, event)
        states[key] = machine.encode(state)
        approximate += answer.approximate
    micros = (time.process_time() - start) / len(keyed) * 1e6
    return Step(micros, sorted(map(len, states.values())), approximate / len(keyed))


def _envelopes(stream: Sequence[Event]) -> list[Envelope]:
    found = []
    for event in stream:
        values = {name: value for name, value in msgspec.to_builtins(event).items() if value is not None}
        values["event_time"] = values.pop("event_time_ms")
        found.append(Envelope(event, msgspec.json.encode(values), event.event_time_ms, "bench", 1))
    return found


class _Emit(beam.DoFn):
    def __init__(self, entity: str, hot_share: float) -> None:
        self._entity, self._hot_share = entity, hot_share

    def process(self, _: None) -> Iterator[Envelope]:
        yield from _envelopes(list(events(self._entity, EVENTS, self._hot_share)))


def pipeline_seconds(entity: Entity, runner: str, hot_share: float) -> float:
    """Processor seconds of a pipeline of the stage alone."""
    start = time.process_time()
    with beam.Pipeline(runner) as pipeline:
        source = pipeline | beam.Create([None]) | beam.ParDo(_Emit(entity.name, hot_share)).with_output_types(Envelope)
        _ = source | EnrichByEntity(entity)
    return time.process_time() - start


def main() -> dict[str, Any]:
    """Measures, prints, and returns the figures."""
    local_runner.install()
    figures: dict[str, Any] = {}
    print(
        f"{'entity':10} {'features':>8} {'µs/event':>9} {'hot tenth':>9} {'ratio':>6} {'hot alone':>9} "
        f"{'state p50':>9} {'p99':>7} {'hot key':>8}"
    )
    for entity in DEFAULT_ENTITIES.entities:
        if entity.name in ("referrer", "promotion"):
            continue
        uniform_stream = list(events(entity.name, EVENTS))
        hot_stream = list(events(entity.name, EVENTS, HOT_SHARE))
        alone_stream = list(events(entity.name, EVENTS // 4, 1.0))
        rounds = [(step(entity, uniform_stream), step(entity, hot_stream)) for _ in range(ROUNDS)]
        uniform = statistics.median(u.micros for u, _ in rounds)
        hot = statistics.median(h.micros for _, h in rounds)
        ratio = statistics.median(h.micros / u.micros for u, h in rounds)
        alone = sorted(step(entity, alone_stream) for _ in range(ROUNDS))[ROUNDS // 2]
        sizes = rounds[0][0].sizes
        p50, p99 = sizes[len(sizes) // 2], sizes[len(sizes) * 99 // 100]
        figures[entity.name] = {
            "uniform": uniform,
            "hot_tenth": hot,
            "ratio": ratio,
            "hot_alone": alone.micros,
            "p50": p50,
            "p99": p99,
            "hot_bytes": alone.sizes[-1],
        }
        print(
            f"{entity.name:10} {len(entity.features):8} {uniform:9.1f} {hot:9.1f} {ratio:6.2f} {alone.micros:9.1f} "
            f"{p50:9,} {p99:7,} {alone.sizes[-1]:8,}"
        )
    ip = DEFAULT_ENTITIES.entities[0]
    longer = step(ip, list(events("ip", 5 * EVENTS // 4, 1.0)))
    figures["growth"] = longer.sizes[-1] / figures["ip"]["hot_bytes"]
    print(
        f"state of a hot address after {5 * EVENTS // 4:,} events over that after {EVENTS // 4:,}: "
        f"{figures['growth']:.2f}"
    )
    for runner in ("BundleBasedDirectRunner", "FnApiRunner"):
        pairs = [(pipeline_seconds(ip, runner, 0.0), pipeline_seconds(ip, runner, HOT_SHARE)) for _ in range(ROUNDS)]
        ratio = statistics.median(hot / uniform for uniform, hot in pairs)
        rate = EVENTS / statistics.median(uniform for uniform, _ in pairs)
        figures[runner] = {"ratio": ratio, "rate": rate}
        print(f"stage `ip` on {runner}: {rate:,.0f} events/s on uniform keys; a tenth on one key takes {ratio:.2f}×")
    return figures


if __name__ == "__main__":
    main()
