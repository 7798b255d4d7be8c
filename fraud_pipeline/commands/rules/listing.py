"""`fraud-pipeline rules list`: the rules of a file."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from fraud_pipeline.rules import DEFAULT


def register(actions: Any) -> None:
    """Adds the action."""
    listing = actions.add_parser(
        "list",
        help="list rules with severity, weight, reason and description",
        description="Lists the rules of a file, the most severe first, or those that ship if no file is given.",
    )
    listing.add_argument("file", metavar="FILE", nargs="?", help=f"rules file (default: the {DEFAULT} that ships)")
    listing.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules import read_rules

    rules = read_rules(args.file)
    limits = rules.thresholds
    print(
        f"{args.file or DEFAULT}: {len(rules.rules)} rules, version {rules.version}, "
        f"review at {limits.review_at:g}, block at {limits.block_at:g}"
    )
    for rule in rules.rules:
        print(f"\n{rule.id}  {rule.severity}  {rule.weight:g}  {rule.reason_code}")
        print(textwrap.fill(rule.description, 100, initial_indent="  ", subsequent_indent="  "))
        print(textwrap.indent(" ".join(rule.when.split()), "  when: "))
    return 0
