"""Traffic through the whole job on the emulators: published, read, scored, written, and accounted for."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fraud_pipeline.emulators.process import EmulatorError, server

if TYPE_CHECKING:
    from google.cloud import bigquery

    from fraud_pipeline.simulate import Arrival

DATASET = "fraud"
TIME_ATTRIBUTE = "event_time"
SCORED, LABEL, LOST = "scored", "label", "lost"

_POLL_SECONDS = 1.0
_EVENTS_A_USER_AND_DAY = 6
_DAY_MS = 86_400_000

# Ends the job when its standard input closes, as it does when the process that started it is killed.
_LAUNCHER = """
import os, signal, sys, threading
def follow():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from fraud_pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Published(msgspec.Struct, frozen=True):
    """A message that was published.

    Attributes:
      message_id: Pub/Sub's.
      event_id: of the event in it; None where it holds no valid one.
    """

    message_id: str
    event_id: str | None


class Ledger(msgspec.Struct, frozen=True):
    """The view `ledger`, all days together."""

    messages_in: int
    scored: int
    labels: int
    duplicate: int
    too_late: int
    conflict: int
    malformed: int
    sink_rejected: int
    balance: int


def recent_traffic(count: int, now_ms: int, seed: int = 7) -> list[Arrival]:
    """The last messages of simulated traffic that ends now, so that none is from the future.

    Args:
      count: how many.
      now_ms: the end, epoch ms.
    """
    from fraud_pipeline.simulate import SimulationConfig, simulate

    users = max(10, count // (2 * _EVENTS_A_USER_AND_DAY))
    while True:
        config = SimulationConfig(
            users=users, days=1, history_days=1, seed=seed, start_ms=now_ms - _DAY_MS, label_events=True
        )
        arrivals: collections.deque[Arrival] = collections.deque(maxlen=count)
        arrivals.extend(arrival for arrival in simulate(config) if arrival.received_ms <= now_ms)
        if len(arrivals) == count:
            return list(arrivals)
        users *= 2


def publish(topic: str, arrivals: Sequence[Arrival], rate: float | None) -> list[Published]:
    """Publishes messages, each with its event time as an attribute; a malformed one has its time of arrival.

    Args:
      topic: `projects/P/topics/T`, on the emulator that PUBSUB_EMULATOR_HOST names.
      rate: messages a second; None for as fast as possible.
    """
    from google.cloud.pubsub_v1 import PublisherClient, types

    from fraud_pipeline.simulate.publish import Rate, wait_until
    from transforms.events import Envelope, Message
    from transforms.parsing import parse

    client = PublisherClient(types.BatchSettings(max_messages=500, max_latency=0.02))
    pace = Rate(rate) if rate else None
    sent = []
    for number, arrival in enumerate(arrivals):
        if pace is not None:
            wait_until(pace.due(arrival.received_ms, number), lambda: False, lambda: None)
        parsed = parse(Message(arrival.payload, arrival.received_ms, ""))
        event = parsed.event if isinstance(parsed, Envelope) else None
        at_ms = arrival.received_ms if event is None else event.event_time_ms
        future = client.publish(topic, arrival.payload, **{TIME_ATTRIBUTE: str(at_ms)})
        sent.append((future, None if event is None else event.event_id))
    published = [Published(future.result(timeout=60), event_id) for future, event_id in sent]
    client.stop()
    return published


@contextlib.contextmanager
def running_job(
    subscription: str, project: str, log: Path, environment: Mapping[str, str], options: Mapping[str, float]
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `fraud-pipeline run` from the subscription to the dataset as a process of its own while the block runs.

    Args:
      log: file that its output is appended to.
      environment: variables with which it finds the emulators.
      options: of the command, such as `{"inactivity-seconds": 5}`.
    """
    command = [sys.executable, "-c", _LAUNCHER, "run", "--input", f"pubsub:{subscription}"]
    command += ["--output", f"bigquery:{project}.{DATASET}", "--timestamp-attribute", TIME_ATTRIBUTE]
    for name, value in options.items():
        command += [f"--{name}", f"{value:g}"]
    with server(
        "the job", command, log=log, is_ready=lambda: True, environment=environment, stop_seconds=30.0
    ) as process:
        yield process


def kill(job: subprocess.Popen[bytes]) -> None:
    """kill -9, the job and all it started."""
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def stop(job: subprocess.Popen[bytes], timeout_seconds: float = 30.0) -> int:
    """Asks the job to stop, as Ctrl-C or a service manager does; gives its exit code."""
    job.terminate()
    return job.wait(timeout_seconds)


def wait_for(is_done: Callable[[], bool], job: subprocess.Popen[bytes], log: Path, timeout_seconds: float) -> bool:
    """Polls until done or out of time; says which.

    Raises:
      EmulatorError: the job ended by itself.
    """
    deadline = time.monotonic() + timeout_seconds
    while not is_done():
        if job.poll() is not None:
            tail = log.read_bytes()[-4_000:].decode(errors="replace")
            raise EmulatorError(f"the job ended with exit code {job.returncode}; {log} ends with:\n{tail}")
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def read_ledger(client: bigquery.Client) -> Ledger:
    """The ledger as the view has it, its days summed up: traffic over midnight is two days."""
    names = Ledger.__struct_fields__
    sums = ", ".join(f"SUM({name}) AS {name}" for name in names)
    (row,) = client.query_and_wait(f"SELECT {sums} FROM {DATASET}.ledger")
    return Ledger(*(int(row[name] or 0) for name in names))


def outcomes(client: bigquery.Client, subscription: str, published: Sequence[Published]) -> collections.Counter[str]:
    """What became of each published message: how many were scored, a label, a dead letter of a reason, or lost.

    Each counts once, however often it was delivered. A message that repeats a scored event counts as scored where no
    dead letter says otherwise: a job that was killed has forgotten what it had seen, and scores the event again.
    """
    reasons = {
        row.source: row.reason
        for row in client.query_and_wait(
            f"SELECT source, MIN(reason) AS reason FROM {DATASET}.dead_letters GROUP BY source"
        )
    }
    events = {
        table: {row.event_id for row in client.query_and_wait(f"SELECT DISTINCT event_id FROM {DATASET}.{table}")}
        for table in ("scores", "labels")
    }
    source = f"pubsub:{subscription.split('/', 2)[2]}"

    def outcome(message: Published) -> str:
        reason = reasons.get(f"{source}#{message.message_id}")
        if reason is not None:
            return str(reason)
        if message.event_id in events["scores"]:
            return SCORED
        return LABEL if message.event_id in events["labels"] else LOST

    return collections.Counter(map(outcome, published))


def sessions(client: bigquery.Client) -> dict[str, tuple[int, int]]:
    """Sessions that stand, and events in them, by what finalized them."""
    rows = client.query_and_wait(
        f"SELECT `trigger`, COUNT(*) AS sessions, SUM(event_count) AS events "
        f"FROM {DATASET}.current_sessions GROUP BY `trigger` ORDER BY `trigger`"
    )
    return {row["trigger"]: (row["sessions"], int(row["events"])) for row in rows}
