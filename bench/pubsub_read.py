"""The local read of Pub/Sub at a steady 2,000 events a second from the emulator, and the whole job behind that read.

A process publishes simulated events, paced in steps of 10 ms; another is the job, as `fraud-pipeline run --input
pubsub:...` makes it: `ReadMessages` and `ParseEvents` alone, then the whole graph into JSON lines. A last step notes
what has come so far. Latency runs from giving a message to the publishing client until its bundle has left the read, or
is scored. 39 hours of event time pass in 20 seconds, so the whole graph ends far more sessions a second than in life.
Emulator, publisher and job share the cores; `transforms` runs compiled or not, as it is in this checkout.

Run: python -m bench.pubsub_read [--read-only] (needs the Pub/Sub emulator; one minute for the read, some for the graph)
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from bench.pubsub_job import ATTRIBUTE, NOTES, Bundle, run_job
from bench.traffic import envelopes
from fraud_pipeline.emulators.pubsub import create_topic_and_subscription, pubsub_emulator
from fraud_pipeline.simulate.publish import Rate, wait_until
from transforms.events import Envelope

RATE, SECONDS, WAITING = 2_000, 20, 20_000
STEP = RATE // 100
SILENT_SECONDS = 90.0
SPAWN = multiprocessing.get_context("spawn")


def publish(topic: str, messages: Sequence[Envelope], rate: float) -> tuple[list[float], float]:
    """Publishes so many a second; gives the time of each and that of the last confirmation, epoch seconds."""
    from google.cloud.pubsub_v1 import PublisherClient, types

    client = PublisherClient(types.BatchSettings(max_messages=500, max_latency=0.01))
    pace, times, futures = Rate(rate), [], []
    for number, message in enumerate(messages):
        wait_until(pace.due(0, number - number % STEP), lambda: False, lambda: None)
        times.append(time.time())
        futures.append(client.publish(topic, message.payload, **{ATTRIBUTE: str(message.event.event_time_ms)}))
    for future in futures:
        future.result(60)
    return times, time.time()


@contextlib.contextmanager
def running(subscription: str, whole: bool = False) -> Iterator[Any]:
    """Runs the job; gives a function that waits until so many events have come, and gives the bundles."""

    def came(count: int) -> list[Bundle]:
        bundles: list[Bundle] = []
        waiting_since = time.time()
        while len({i for bundle in bundles for i in bundle.ids}) < count:
            if not process.is_alive():
                raise SystemExit(f"the job ended with exit code {process.exitcode}; what it said is above")
            if time.time() - max(waiting_since, bundles[-1].at if bundles else 0) > SILENT_SECONDS:
                if len(bundles) < 2:
                    raise SystemExit(f"nothing has come for {SILENT_SECONDS:.0f} s; what the job said is above")
                break
            time.sleep(0.5)
            lines = notes.read_bytes().split(b"\n")[:-1] if notes.exists() else []
            bundles = [msgspec.json.decode(line, type=Bundle) for line in lines]
        return bundles

    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / NOTES
        process = SPAWN.Process(target=run_job, args=(subscription, Path(folder), whole), daemon=True)
        process.start()
        try:
            yield came
        finally:
            process.terminate()
            process.join(60)
            process.kill()


def figures(
    messages: Sequence[Envelope], times: list[float], confirmed: float, bundles: list[Bundle]
) -> dict[str, float]:
    """The figures of messages and of bundles, whose first is of a message before them.

    `published` is a second until all were confirmed, `slowest` in the slowest whole second. `taken` (a second) and
    `backlog` are as of the last one's publishing, `empty_seconds` runs from there. `cpu_us` is the job's processor time
    for a message. `again` came more than once, `lost` not at all until nothing had come for long.
    """
    through: dict[str, float] = {}
    for bundle in reversed(bundles[1:]):
        through.update((event_id, bundle.at) for event_id in bundle.ids)
    began, end, count = times[0], times[-1], len(messages)
    in_time, came = sum(at <= end for at in through.values()), sum(len(bundle.ids) for bundle in bundles[1:])
    seconds = Counter(int(at - began) for at in times)
    given = {message.event.event_id: at for message, at in zip(messages, times, strict=True)}
    late_ms = statistics.quantiles([(at - given[event_id]) * 1_000 for event_id, at in through.items()], n=20)
    return {
        "published": count / (confirmed - began),
        "slowest": min(seconds[i] for i in range(int(end - began))),
        "taken": in_time / (end - began),
        "backlog": count - in_time,
        "empty_seconds": bundles[-1].at - end,
        "p50_ms": late_ms[9],
        "p95_ms": late_ms[18],
        "cpu_us": (bundles[-1].cpu - bundles[0].cpu) / came * 1e6,
        "again": came - len(through),
        "lost": count - len(through),
    }


def verdict(found: dict[str, float]) -> str:
    """Whether less than a second's messages were left when publishing ended, and none was lost."""
    if found["published"] < 0.99 * RATE:
        return f"the publisher was too slow to say anything of {RATE:,}/s"
    return "kept up" if found["backlog"] < RATE and not found["lost"] else "did NOT keep up"


def main(whole: bool = True) -> dict[str, dict[str, float]]:
    """Prints and returns the figures: of the `read` at the rate, of the `whole` graph, and with messages `waiting`."""
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    messages = list({e.event.event_id: e for e in envelopes(RATE * SECONDS // 10, 2)}.values())[: RATE * SECONDS + 1]
    results: dict[str, dict[str, float]] = {}
    with pubsub_emulator() as emulator, ProcessPoolExecutor(1, SPAWN) as publisher:
        for name in ("read", "whole")[: 1 + whole]:
            topic, subscription = create_topic_and_subscription(emulator, name, name)
            with running(subscription, name == "whole") as came:
                publisher.submit(publish, topic, messages[:1], math.inf).result()
                came(1)
                times, confirmed = publisher.submit(publish, topic, messages[1:], RATE).result()
                found = results[name] = figures(messages[1:], times, confirmed, came(len(messages)))
            print(
                "{name}: {verdict}; {taken:,.0f}/s of {published:,.0f}/s published (slowest second {slowest:,}); "
                "{backlog:,} left at the end, empty {empty_seconds:.1f} s later; latency p50 {p50_ms:,.0f} ms, p95 "
                "{p95_ms:,.0f} ms; {cpu_us:.0f} us of processor a message; {again:,} came again, {lost:,} lost".format(
                    name=name, verdict=verdict(found), **found
                )
            )
        topic, subscription = create_topic_and_subscription(emulator, "waiting", "waiting")
        publisher.submit(publish, topic, messages[:WAITING], math.inf).result()
        with running(subscription) as came:
            first, *rest = came(WAITING)
        lost = WAITING - len({i for bundle in (first, *rest) for i in bundle.ids})
        rate = sum(len(bundle.ids) for bundle in rest) / (rest[-1].at - first.at)
        print(f"read, {WAITING:,} waiting: {rate:,.0f}/s, {lost} lost")
    return {**results, "waiting": {"rate": rate, "lost": lost}}


if __name__ == "__main__":
    main(whole="--read-only" not in sys.argv[1:])
