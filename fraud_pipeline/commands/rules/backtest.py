"""`fraud-pipeline rules backtest`: what would these rules have done?"""

from __future__ import annotations

import argparse
from typing import Any


def register(actions: Any) -> None:
    """Adds the action."""
    from fraud_pipeline.backtest.arguments import add_history

    parser = actions.add_parser(
        "backtest",
        help="try rules on history: hits, precision, recall, amounts saved",
        description="Runs rules over events that were scored before, by the code that scores the stream, and says of "
        "each rule how often it fires, how often that is right by the labels, what it saves, and what it adds to the "
        "other rules (docs/backtest.md).",
        epilog="example: fraud-pipeline rules backtest --rules candidate.yaml --history results.duckdb",
    )
    parser.add_argument("--rules", metavar="FILE", help="rules file (default: the rules that ship)")
    add_history(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs it and prints what it gives."""
    from fraud_pipeline.backtest.arguments import history_of, read_range, show
    from fraud_pipeline.backtest.measures import measure_backtest
    from fraud_pipeline.backtest.run import backtest
    from fraud_pipeline.backtest.tables import backtest as tables
    from fraud_pipeline.rules.arguments import rules_of

    rules = rules_of(args, args.rules)
    with history_of(args) as (history, progress):
        tally = backtest(history, rules, args.workers, progress)
        found = measure_backtest(tally, rules, read_range(history))
    show(found, tables, args.json)
    return 0
