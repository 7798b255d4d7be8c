"""`fraud-pipeline rules list`: the rules of a file."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from fraud_pipeline.rules import DEFAULT
from fraud_pipeline.rules.arguments import add_surroundings

if TYPE_CHECKING:
    from transforms.rules import Rule


def register(actions: Any) -> None:
    """Adds the action."""
    listing = actions.add_parser(
        "list",
        help="list rules with severity, weight, reason and description",
        description="Lists the rules of a file, the most severe first, or those that ship if no file is given.",
    )
    listing.add_argument("file", metavar="FILE", nargs="?", help=f"rules file (default: the {DEFAULT} that ships)")
    listing.add_argument("--tag", metavar="TAG", help="only rules with this tag")
    add_surroundings(listing)
    listing.set_defaults(run=_list)


def _list(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules.arguments import rules_of

    rules = rules_of(args, args.file)
    limits = rules.thresholds
    print(
        f"{args.file or DEFAULT}: {len(rules.rules)} rules, version {rules.version}, "
        f"review at {limits.review_at:g}, block at {limits.block_at:g}"
    )
    for rule in rules.rules:
        if args.tag is not None and args.tag not in rule.tags:
            continue
        weight = "" if rule.weight is None else f"  {rule.weight:g}"
        print(f"\n{rule.id}  {rule.severity}{weight}  {rule.reason_code}{_notes(rule)}")
        print(textwrap.fill(rule.description, 100, initial_indent="  ", subsequent_indent="  "))
        print(textwrap.indent(" ".join(rule.when.split()), "  when: "))
    return 0


def _notes(rule: Rule) -> str:
    notes = [f"demands {rule.action}"] if rule.action else []
    notes += ["on trial"] if rule.mode == "shadow" else []
    notes += [f"from {rule.valid_from.isoformat()}"] if rule.valid_from else []
    notes += [f"until {rule.valid_to.isoformat()}"] if rule.valid_to else []
    notes += [f"#{tag}" for tag in rule.tags]
    return f"  ({', '.join(notes)})" if notes else ""
