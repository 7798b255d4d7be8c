"""What the commands on history have in common: arguments, progress, output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from fraud_pipeline.errors import UsageError
from fraud_pipeline.rules.arguments import add_surroundings, entities_of

if TYPE_CHECKING:
    from fraud_pipeline.backtest.figures import Range
    from fraud_pipeline.backtest.history import History
    from fraud_pipeline.backtest.run import Progress

T = TypeVar("T")


def add_history(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name history and say how it is read."""
    parser.add_argument(
        "--history",
        required=True,
        metavar="FILE",
        help="scored events: results.duckdb, or scores.parquet or scores.jsonl, of fraud-pipeline run; or of an export "
        "of BigQuery's table scores, as in 'scores-*.parquet'",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="what turned out: results.duckdb, labels.parquet or labels.jsonl of fraud-pipeline run, or what "
        "fraud-pipeline simulate --labels wrote (default: the labels beside the scores)",
    )
    parser.add_argument(
        "--unlabelled",
        choices=("unknown", "legitimate"),
        default="unknown",
        help="what an event without a label counts as (default: %(default)s; of a simulation's labels: legitimate)",
    )
    parser.add_argument("--from", type=_time, metavar="TIME", dest="from_ms", help="events from this time on")
    parser.add_argument(
        "--to", type=_time, metavar="TIME", dest="to_ms", help="events before this time; a date, or RFC 3339"
    )
    add_surroundings(parser)
    parser.add_argument("--workers", type=at_least(1), metavar="N", help="processes (default: a process for each core)")
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def at_least(least: int) -> Callable[[str], int]:
    """A type of argument: an integer that isn't below that."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} isn't an integer of {least} or more")
        return int(text)

    return parse


def _time(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date such as 2025-06-02 nor a time such as 2025-06-02T12:00:00Z"
        ) from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return round(time.timestamp() * 1000)


@contextmanager
def history_of(args: argparse.Namespace) -> Iterator[tuple[History, Progress]]:
    """The history that the arguments name, and what to call as it is read.

    Raises:
      UsageError: it can't be read, or the arguments don't go together.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from fraud_pipeline.backtest.history import open_history

    if args.from_ms is not None and args.to_ms is not None and args.from_ms >= args.to_ms:
        raise UsageError("--from isn't before --to, so there is no event between them; exchange them")
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading history", total=None)
        with open_history(
            args.history,
            args.labels,
            args.from_ms,
            args.to_ms,
            unlabelled_is_legitimate=args.unlabelled == "legitimate",
            entities=entities_of(args),
        ) as history:
            yield (
                history,
                lambda done: bar.update(task, description="running rules", total=1.0, completed=done),
            )


def read_range(history: History) -> Range:
    """What history holds in all."""
    from fraud_pipeline.backtest.measures import measure_range

    counts_as = "legitimate" if history.unlabelled_is_legitimate else "unknown"
    return measure_range(history.days(), history.row_count, history.superseded_count, history.totals(), counts_as)


def show(found: T, tables: Callable[[T], Iterable[Any]], as_json: bool) -> None:
    """Prints figures, as tables or as one JSON object."""
    if as_json:
        import msgspec

        print(msgspec.json.encode(found).decode())
        return
    from fraud_pipeline.report.tables import console

    output = console()
    for table in tables(found):
        output.print(table)
