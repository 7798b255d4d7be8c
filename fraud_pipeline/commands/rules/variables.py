"""`fraud-pipeline rules variables`: what a condition may use."""

from __future__ import annotations

import argparse
from typing import Any


def register(actions: Any) -> None:
    """Adds the action."""
    variables = actions.add_parser(
        "variables",
        help="list what a condition may use",
        description="Lists the features and event fields that a condition may use, with type and unit.",
    )
    variables.add_argument(
        "--entities", metavar="FILE", help="declaration of entities and attributes (the one that ships)"
    )
    variables.set_defaults(run=_variables)


def _variables(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules.arguments import entities_of
    from transforms.rule_file import vocabulary_of

    for variable in vocabulary_of(entities_of(args)).variables.values():
        kind = f"{variable.type}{'?' if variable.nullable else ''}"
        print(f"{variable.name:32} {kind:8} {variable.unit:20} {variable.help}")
    print("\n'?' may be unknown: a rule that needs it then doesn't fire; has_<name> says whether it is known.")
    print(
        "on_list_<name>, yes or no, is there for each list given with --lists or named under lists: in the rules file."
    )
    return 0
