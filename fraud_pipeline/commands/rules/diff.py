"""`fraud-pipeline rules diff`: what would a changed file have decided differently?"""

from __future__ import annotations

import argparse
from typing import Any


def register(actions: Any) -> None:
    """Adds the action."""
    from fraud_pipeline.backtest.arguments import add_history, at_least

    parser = actions.add_parser(
        "diff",
        help="what a changed rules file would have decided differently on history",
        description="Runs two rules files over events that were scored before and says which decisions differ: by "
        "action, by rule, with examples and the values that made the difference (docs/backtest.md).",
        epilog="example: fraud-pipeline rules diff rules.yaml changed.yaml --history results.duckdb",
    )
    parser.add_argument("old", metavar="OLD", help="rules file")
    parser.add_argument("new", metavar="NEW", help="rules file")
    add_history(parser)
    parser.add_argument(
        "--examples",
        type=at_least(0),
        default=3,
        metavar="N",
        help="events to show for each change of action (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs it and prints what it gives."""
    from fraud_pipeline.backtest.arguments import history_of, read_range, show
    from fraud_pipeline.backtest.measures import measure_diff
    from fraud_pipeline.backtest.run import diff
    from fraud_pipeline.backtest.tables import diff as tables
    from fraud_pipeline.rules.arguments import rules_of

    old, new = (rules_of(args, path) for path in (args.old, args.new))
    with history_of(args) as (history, progress):
        tally = diff(history, old, new, args.examples, args.workers, progress)
        found = measure_diff(tally, old, new, read_range(history))
    show(found, tables, args.json)
    return 0
