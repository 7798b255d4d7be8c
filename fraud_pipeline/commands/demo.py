"""`fraud-pipeline demo`: a day of attacks made, run through the job as a stream, and shown."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from fraud_pipeline.report.results import Results
    from fraud_pipeline.simulate import AttackLabel, SimulationConfig
    from fraud_pipeline.stream_replay import ReplayOptions

_SEED = 21  # In its traffic late events join sessions, and retract one, which most seeds have none of.
_HOUR_MS = 3_600_000
_STALL_MS = 20 * 60_000

_EPILOG = """\
what it does: four quiet days give the users habits, the fifth has attacks of six kinds, at all intensities. The traffic
goes through the job as a stream, in order of arrival: answers come at once, sessions end on time, by inactivity (around
noon of the fifth day the watermark stands for 20 minutes, as in an outage) or late; a replay of the same traffic gives
the same results. Then come the tables, two pictures, and questions to ask the results with SQL.

what it leaves in --out: events.jsonl, labels.jsonl, results.duckdb, timeline.png, attacks.png."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="simulate a day of attacks, run the job on it, show what it caught",
        description="Shows the pipeline at work on this machine, in about a minute, without any cloud account.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--users", type=int, default=200, metavar="N", help="users; the time it takes grows with them (200)"
    )
    parser.add_argument("--seed", type=int, default=_SEED, metavar="S", help=f"another seed, other traffic ({_SEED})")
    parser.add_argument(
        "--out", type=Path, default=Path("out/demo"), metavar="DIR", help="where the files go (out/demo)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the demo.

    Returns:
      0, or 128 + the signal's number when SIGINT or SIGTERM stopped the job.

    Raises:
      UsageError: an argument is wrong, or the files can't be written.
    """
    from fraud_pipeline.report import tables
    from fraud_pipeline.report.plots import write_pictures
    from fraud_pipeline.report.results import read_results
    from fraud_pipeline.simulate import SimulationConfig

    try:
        config = SimulationConfig(users=args.users, seed=args.seed)
    except ValueError as error:
        raise UsageError(str(error)) from error
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--out {str(args.out)!r} can't be made: {error.strerror}; choose another directory"
        ) from error
    begun = time.monotonic()
    console = tables.console()
    events, database = args.out / "events.jsonl", args.out / "results.duckdb"

    _step(console, f"Traffic of {config.users:,} users: {config.history_days} quiet days, then one with attacks")
    messages, labels = _simulate(config, events, args.out / "labels.jsonl")
    attacks = len({label.attack_id for label in labels})
    _say(console, f"{messages:,} messages, {len(labels):,} of them events of {attacks:,} attacks, in {events}")

    _step(console, "The job, on Beam's local runner, with the messages as a stream")
    _say(console, "reads, de-duplicates, aggregates by user, scores by rules, sums up sessions, raises alerts")
    code = _replay(events, database, messages, config)
    if code:
        return code
    _say(console, f"results in {database}")

    results = read_results(database, labels or None)
    for part in tables.report(results):
        console.print(part)
    pictures = write_pictures(results.detection, args.out) if results.detection else []
    _next_steps(console, database, pictures, results)
    print(f"done in {time.monotonic() - begun:,.0f} s", file=sys.stderr)
    return 0


def examples(results: Results) -> list[tuple[str, str]]:
    """Questions to ask a results file next: what each is about, and its SQL in BigQuery's dialect."""
    found = [
        (
            "which rules fired, and on how many users:",
            "SELECT rule_id, COUNT(*) AS events, COUNT(DISTINCT user_id) AS users FROM latest_scores "
            "CROSS JOIN UNNEST(fired_rules) AS rule_id GROUP BY rule_id ORDER BY events DESC",
        ),
        (
            "sessions that were corrected when late events came in:",
            "SELECT user_id, session_start, version, trigger, retracted, event_count FROM sessions WHERE session_id IN "
            "(SELECT session_id FROM sessions WHERE trigger = 'LATE') ORDER BY user_id, version",
        ),
        (
            "where the messages of each day went:",
            "SELECT * FROM ledger ORDER BY day",
        ),
    ]
    if results.samples:
        user = results.samples[0].user_id
        story = (
            "SELECT event_time, event_type, outcome, amount_minor, currency, country, action, "
            f"ARRAY_TO_STRING(fired_rules, ', ') AS rules FROM latest_scores WHERE user_id = '{user}' "
            "ORDER BY event_time DESC LIMIT 15"
        )
        found = [(f"what happened to {user}, the latest first:", story), *found[:2]]
    return found


def _simulate(config: SimulationConfig, events: Path, labels: Path) -> tuple[int, list[AttackLabel]]:
    import msgspec

    from fraud_pipeline.simulate import simulate
    from fraud_pipeline.simulate.output import LineFile
    from transforms.message_lines import timed_line

    messages = 0
    truth = []
    with LineFile(str(events)) as event_file, LineFile(str(labels)) as label_file:
        for arrival in simulate(config):
            event_file.write(timed_line(arrival.payload, arrival.received_ms))
            messages += 1
            if arrival.label is not None:
                label_file.write(msgspec.json.encode(arrival.label))
                truth.append(arrival.label)
    return messages, truth


def _replay(events: Path, database: Path, messages: int, config: SimulationConfig) -> int:
    from fraud_pipeline import job
    from fraud_pipeline.config import PipelineConfig
    from fraud_pipeline.sinks.duckdb import DuckdbSink

    class Sink(DuckdbSink):
        """Shows progress by messages."""

        def rows_written(self) -> Mapping[str, int]:
            rows = super().rows_written()
            through = min(messages, rows.get("scores", 0) + rows.get("dead_letters", 0))
            return {f"of {messages:,} messages through": through, "alerts": rows.get("alerts", 0)}

    with _without_beams_remarks():
        return job.replay([str(events)], Sink(database.absolute()), PipelineConfig(), (), _replay_options(config))


def _replay_options(config: SimulationConfig) -> ReplayOptions:
    """As usual, but that the watermark stalls on the day of the attacks."""
    from fraud_pipeline.stream_replay import ReplayOptions

    stall_ms = config.start_ms + 12 * _HOUR_MS
    return ReplayOptions(stalls=((stall_ms, stall_ms + _STALL_MS),))


@contextlib.contextmanager
def _without_beams_remarks() -> Iterator[None]:
    # For each late event that makes a session longer, Beam remarks that the window's end has moved.
    logger = logging.getLogger("apache_beam.transforms.trigger")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _next_steps(console: Console, database: Path, pictures: list[Path], results: Results) -> None:
    from rich.text import Text

    program = _program()
    console.print()
    if pictures:
        _step(console, "Pictures")
        for picture in pictures:
            _say(console, str(picture))
    _step(console, "Ask the results yourself, in BigQuery's SQL (more in docs/queries/)")
    for what, sql in examples(results):
        _say(console, what)
        # In one line, however long, so that it can be copied.
        console.print(Text(f'     {program} query --database {database} "{sql}"', "cyan"), soft_wrap=True)


def _program() -> str:
    """The command as it can be typed here."""
    name = "fraud-pipeline"
    invoked = Path(sys.argv[0])
    return str(invoked) if invoked.name == name and shutil.which(name) is None else name


def _step(console: Console, text: str) -> None:
    console.print(f"== {text}", style="bold", markup=False, soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(f"   {text}", markup=False, soft_wrap=True)
