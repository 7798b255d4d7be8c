"""`fraud-pipeline report`: what a run caught, as tables and pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from fraud_pipeline.errors import UsageError

_EPILOG = """\
examples:
  what came in, how sessions ended, what was decided and why
    fraud-pipeline report --database results.duckdb
  beside the truth, as the simulator knows it: recall by scenario, false alarms, pictures
    fraud-pipeline simulate --output events.jsonl --labels labels.jsonl
    fraud-pipeline run --input events.jsonl --output results.duckdb
    fraud-pipeline report --database results.duckdb --labels labels.jsonl --plots pictures

how it counts: an event is flagged when its latest decision is review or block. An attack is caught when one of its
events is flagged, and early when the answer on arrival flagged one before half of its events had come. False alarms
are counted on the days (UTC) that have labelled events."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the arguments."""
    parser = subparsers.add_parser(
        "report",
        help="show what a run caught: tables and pictures",
        description="Sums up a results file of fraud-pipeline run: the ledger, sessions, decisions, alerts; with "
        "labels also which attacks were caught, how soon, and at the price of how many false alarms.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--database",
        type=Path,
        default=Path("results.duckdb"),
        metavar="FILE",
        help="the results file (results.duckdb)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="the attacks in it, as fraud-pipeline simulate --labels writes them, gzipped or not",
    )
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="write timeline.png and attacks.png there; needs --labels"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the tables and writes the pictures.

    Raises:
      UsageError: a file can't be read, isn't what it should be, or the pictures can't be written.
    """
    if args.plots is not None and args.labels is None:
        raise UsageError(
            f"--plots {str(args.plots)!r} shows attacks, and nothing says which they are; give --labels too"
        )
    from fraud_pipeline.report import tables
    from fraud_pipeline.report.results import read_labels, read_results

    labels = None if args.labels is None else read_labels(args.labels)
    results = read_results(args.database, labels)
    console = tables.console()
    for part in tables.report(results):
        console.print(part)
    if args.plots is not None and results.detection is not None:
        from fraud_pipeline.report.plots import write_pictures

        for path in write_pictures(results.detection, args.plots):
            console.print(f"wrote {path}", soft_wrap=True)
    return 0
