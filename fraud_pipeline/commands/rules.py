"""`fraud-pipeline rules`: check a rules file, list its rules, list what conditions may use."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from fraud_pipeline.rules import DEFAULT, read_rules


def register(subparsers: Any) -> None:
    """Adds the command with its actions."""
    parser = subparsers.add_parser(
        "rules",
        help="check and list detection rules",
        description="Check and list detection rules: YAML, conditions in CEL (docs/rules.md).",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    check = actions.add_parser(
        "check",
        help="check a rules file without running anything",
        description="Checks a rules file: YAML, keys, conditions, names and types of variables. Exit code 0 if it is "
        "right, 2 with the position of the first mistake if not.",
    )
    check.add_argument("file", metavar="FILE", help="rules file, for example rules.yaml")
    check.set_defaults(run=_check)

    listing = actions.add_parser(
        "list",
        help="list rules with severity, weight, reason and description",
        description="Lists the rules of a file, the most severe first, or those that ship if no file is given.",
    )
    listing.add_argument("file", metavar="FILE", nargs="?", help=f"rules file (default: the {DEFAULT} that ships)")
    listing.set_defaults(run=_list)

    variables = actions.add_parser(
        "variables",
        help="list what a condition may use",
        description="Lists the features and event fields that a condition may use, with type and unit.",
    )
    variables.set_defaults(run=_variables)


def _check(args: argparse.Namespace) -> int:
    rules = read_rules(args.file)
    number = len(rules.rules)
    print(f"{args.file} is right: {number} rule{'' if number == 1 else 's'}, version {rules.version}")
    return 0


def _list(args: argparse.Namespace) -> int:
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


def _variables(args: argparse.Namespace) -> int:
    from transforms.conditions import VARIABLES

    for variable in VARIABLES.values():
        kind = f"{variable.type}{'?' if variable.nullable else ''}"
        print(f"{variable.name:30} {kind:8} {variable.unit:20} {variable.help}")
    print("\n'?' may be unknown: a rule that needs it then doesn't fire; has_<name> says whether it is known.")
    return 0
