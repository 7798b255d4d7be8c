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
    variables.set_defaults(run=_variables)


def _variables(args: argparse.Namespace) -> int:
    from transforms.conditions import VARIABLES

    for variable in VARIABLES.values():
        kind = f"{variable.type}{'?' if variable.nullable else ''}"
        print(f"{variable.name:30} {kind:8} {variable.unit:20} {variable.help}")
    print("\n'?' may be unknown: a rule that needs it then doesn't fire; has_<name> says whether it is known.")
    return 0
