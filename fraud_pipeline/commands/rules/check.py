"""`fraud-pipeline rules check`: is a rules file right?"""

from __future__ import annotations

import argparse
from typing import Any

from fraud_pipeline.rules.arguments import add_surroundings


def register(actions: Any) -> None:
    """Adds the action."""
    check = actions.add_parser(
        "check",
        help="check a rules file, and the lists beside it, without running anything",
        description="Checks a rules file: YAML, keys, conditions, names and types of variables, the tests in it. Exit "
        "code 0 if it is right, 2 with the position of the first mistake if not.",
    )
    check.add_argument("file", metavar="FILE", help="rules file, for example rules.yaml")
    add_surroundings(check)
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules.arguments import rules_of

    rules = rules_of(args, args.file)
    shadow = sum(rule.mode == "shadow" for rule in rules.rules)
    tests = sum(len(rule.tests.match) + len(rule.tests.no_match) for rule in rules.rules)
    on_trial = f" ({shadow} on trial)" if shadow else ""
    print(
        f"{args.file} is right: {_number(len(rules.rules), 'rule')}{on_trial}, {_number(tests, 'test')} passed, "
        f"version {rules.version}"
    )
    if args.lists is not None:
        lists = rules.lists
        print(f"{args.lists} is right: {_number(len(lists.lists), 'list')}, version {lists.version}")
        for one in lists.lists:
            trial = ", on trial" if one.head.mode == "shadow" else ""
            print(f"  {one.head.name}: {one.head.kind} by {one.head.field}, {one.size:,} entries{trial}")
    return 0


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
