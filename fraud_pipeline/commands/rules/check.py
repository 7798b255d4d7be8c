"""`fraud-pipeline rules check`: is a rules file right?"""

from __future__ import annotations

import argparse
from typing import Any


def register(actions: Any) -> None:
    """Adds the action."""
    check = actions.add_parser(
        "check",
        help="check a rules file without running anything",
        description="Checks a rules file: YAML, keys, conditions, names and types of variables. Exit code 0 if it is "
        "right, 2 with the position of the first mistake if not.",
    )
    check.add_argument("file", metavar="FILE", help="rules file, for example rules.yaml")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules import read_rules

    rules = read_rules(args.file)
    number = len(rules.rules)
    print(f"{args.file} is right: {number} rule{'' if number == 1 else 's'}, version {rules.version}")
    return 0
