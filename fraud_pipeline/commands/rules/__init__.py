"""`fraud-pipeline rules`: an action for each module in this package."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def register(subparsers: Any) -> None:
    """Adds the command; each module here adds its action by its own `register(actions)`."""
    parser = subparsers.add_parser(
        "rules",
        help="check, test, explain and list detection rules",
        description="Works with detection rules: YAML, conditions in CEL (docs/rules.md).",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        importlib.import_module(f"{__name__}.{module.name}").register(actions)
