"""`fraud-pipeline demo-emulators`: the whole job on the Pub/Sub and BigQuery emulators; do its books balance?"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from subprocess import Popen

    from google.cloud.bigquery import Client
    from rich.console import Console
    from rich.table import Table

_DESCRIPTION = """\
Runs the same job as on Dataflow, on this machine and without a cloud account: starts the Pub/Sub and BigQuery
emulators, makes topic, subscription, tables and views, publishes simulated traffic, runs the job as a process of its
own until every message is through, shows the ledger, and stops everything. The exit code is 0 only if the ledger
balances (messages in = scored + labels + dead letters of each reason) and every scored event is in a session.

The traffic is of the last day and ends now; it is published in seconds. Each message has its event time as an
attribute, by which the job's watermark goes, so that a day in ten seconds isn't a day of late events. When the traffic
has ended the watermark moves up to the clock: sessions older than gap and grace are finalized ON_TIME. Those of the
last minutes, and those that fell silent before, are finalized by INACTIVITY: after 5 s here, not 5 minutes.
"""

_EPILOG = """\
with --kill the job is killed (kill -9) in the middle of the traffic and started again. Pub/Sub then delivers again what
was not through. The local runner keeps state in memory: the new job doesn't know what the old one saw. So
  - messages_in counts a message as often as it came, and all else counts it once: the balance is what came again;
  - a duplicate of an event that the killed job scored is scored again: the views count one of the two rows;
  - sessions that were open are forgotten.
What must hold, and is checked then, is that each published message is among the scores, labels or dead letters: none
is lost. On Dataflow state outlives its workers.

examples:
  fraud-pipeline demo-emulators
  fraud-pipeline demo-emulators --events 20000 --rate 1000
  fraud-pipeline demo-emulators --kill"""

_PROJECT = "fraud-local"
_JOB_OPTIONS = {"inactivity-seconds": 5.0}
_SESSIONS_SECONDS = 60.0
_KILL_AT = 0.4


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = subparsers.add_parser(
        "demo-emulators",
        help="run the job on the Pub/Sub and BigQuery emulators, and check that nothing is lost",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--events", type=int, default=3_000, metavar="N", help="messages to publish (default: 3000)")
    parser.add_argument(
        "--rate", type=float, default=500.0, metavar="N", help="messages to publish a second (default: 500)"
    )
    parser.add_argument("--kill", action="store_true", help="kill -9 the job midway and start it again")
    parser.add_argument(
        "--timeout-seconds",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the last message after the first (default: 300)",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="keep the logs and the tables here (default: a temporary directory, removed if all is well)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demo.

    Returns:
      0 if every message is accounted for, 1 if not.

    Raises:
      UsageError: an argument is wrong, or an emulator isn't installed.
    """
    if args.events < 1:
        raise UsageError(f"--events is {args.events}; give a number of messages from 1")
    if not 0 < args.rate < float("inf"):
        raise UsageError(f"--rate is {args.rate:g}; give a number of messages a second above 0")
    if args.data_dir is not None and args.data_dir.exists() and any(args.data_dir.iterdir()):
        raise UsageError(f"--data-dir {str(args.data_dir)!r} is not empty; give a new directory, so that nothing mixes")
    from fraud_pipeline.emulators.process import EmulatorError

    directory = args.data_dir or Path(tempfile.mkdtemp(prefix="fraud-demo-"))
    succeeded = False
    try:
        succeeded = _demo(args, directory)
    except EmulatorError as error:
        print(f"fraud-pipeline demo-emulators: {error}", file=sys.stderr)
    finally:
        if args.data_dir is None and succeeded:
            shutil.rmtree(directory, ignore_errors=True)
    if not succeeded:
        print(f"the logs are in {directory}", file=sys.stderr)
    return 0 if succeeded else 1


def _demo(args: argparse.Namespace, directory: Path) -> bool:
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console

    from fraud_pipeline.emulators import bigquery, pubsub
    from fraud_pipeline.emulators import round_trip as trip
    from fraud_pipeline.tables.bigquery import create_or_update

    console = Console(highlight=False, soft_wrap=True)
    log = directory / "job.log"
    with (
        bigquery.bigquery_emulator(directory / "bigquery", project=_PROJECT) as tables,
        pubsub.pubsub_emulator(directory / "pubsub", project=_PROJECT) as messages,
        ThreadPoolExecutor(1) as publisher,
    ):
        topic, subscription = pubsub.create_topic_and_subscription(
            messages, "events", "fraud-pipeline", ack_deadline_seconds=10 if args.kill else 60
        )
        client = tables.client()
        made = create_or_update(client, trip.DATASET)
        console.print(f"emulators: Pub/Sub {messages.host}, BigQuery {tables.host}; {len(made)} tables and views made")
        arrivals = trip.recent_traffic(args.events, time.time_ns() // 1_000_000)

        def running_job() -> AbstractContextManager[Popen[bytes]]:
            return trip.running_job(subscription, _PROJECT, log, tables.environment(), _JOB_OPTIONS)

        def is_midway() -> bool:
            return trip.read_ledger(client).messages_in >= _KILL_AT * args.events

        def is_through() -> bool:
            if not sent.done():
                return False
            if args.kill:
                return not trip.outcomes(client, subscription, sent.result())[trip.LOST]
            ledger = trip.read_ledger(client)
            return ledger.messages_in >= args.events and ledger.balance == 0

        sent = publisher.submit(trip.publish, topic, arrivals, args.rate)
        with running_job() as job:
            console.print(f"job started; publishing {args.events:,} messages, {args.rate:g} a second")
            if args.kill:
                trip.wait_for(is_midway, job, log, args.timeout_seconds)
                trip.kill(job)
                console.print(f"job killed after {trip.read_ledger(client).messages_in:,} messages")
            else:
                ended = _finish(console, client, job, log, is_through, args.timeout_seconds, killed=args.kill)
        if args.kill:
            with running_job() as job:
                console.print("job started again")
                ended = _finish(console, client, job, log, is_through, args.timeout_seconds, killed=args.kill)
        return _report(console, client, trip.outcomes(client, subscription, sent.result()), killed=args.kill) and ended


def _finish(
    console: Console,
    client: Client,
    job: Popen[bytes],
    log: Path,
    is_through: Callable[[], bool],
    timeout_seconds: float,
    *,
    killed: bool,
) -> bool:
    """Waits for the last message and for its session; stops the job; says whether all went well."""
    from fraud_pipeline.emulators import round_trip as trip

    begun = time.monotonic()
    through = trip.wait_for(is_through, job, log, timeout_seconds)
    words = "every message is through" if through else "not every message is through"
    console.print(f"{words} after {time.monotonic() - begun:.0f} s")

    def all_finalized() -> bool:
        events = sum(events for _, events in trip.sessions(client).values())
        return events >= trip.read_ledger(client).scored

    if through and not killed:
        through = trip.wait_for(all_finalized, job, log, _SESSIONS_SECONDS)
        console.print("every scored event is in a finalized session" if through else "[red]sessions stay open[/]")
    code = trip.stop(job)
    console.print(f"job stopped by SIGTERM, exit code {code}")
    return through and code == 128 + signal.SIGTERM


def _report(console: Console, client: Client, outcomes: Counter[str], *, killed: bool) -> bool:
    """Shows the books; says whether they balance."""
    from fraud_pipeline.emulators import round_trip as trip

    ledger = trip.read_ledger(client)
    table = _table("ledger", "messages")
    for name in ledger.__struct_fields__:
        table.add_row(name, f"{getattr(ledger, name):,}", style="bold" if name in ("messages_in", "balance") else None)
    console.print(table)
    table = _table("published messages, each once", "messages")
    for outcome, count in outcomes.most_common():
        table.add_row(outcome, f"{count:,}")
    table.add_row("all", f"{outcomes.total():,}", style="bold")
    console.print(table)
    table = _table("sessions finalized by", "sessions", "events")
    for trigger, (sessions, events) in trip.sessions(client).items():
        table.add_row(trigger, f"{sessions:,}", f"{events:,}")
    console.print(table)
    lost, again = outcomes[trip.LOST], ledger.messages_in - outcomes.total()
    if again:
        console.print(f"{again:,} messages were delivered again, or counted twice when a bundle was repeated")
    if lost:
        console.print(f"[red]lost: {lost:,} messages are in no table[/]")
    elif killed:
        console.print(f"nothing is lost; the ledger's balance is {ledger.balance:,} (see --help)")
    elif ledger.balance:
        console.print(f"[red]the ledger's balance is {ledger.balance:,}, not 0[/]")
    else:
        console.print("the ledger balances; nothing is lost")
    return not lost and (killed or ledger.balance == 0)


def _table(first: str, *numbers: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(first, box=box.SIMPLE_HEAD)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
