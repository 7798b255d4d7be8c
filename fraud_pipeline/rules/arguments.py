"""Arguments of the commands on rules: which rules, with which lists and entities."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from transforms.entities import EntityConfig
    from transforms.rules import RuleSet


def add_surroundings(parser: argparse.ArgumentParser) -> None:
    """Adds what rules are read with."""
    parser.add_argument("--lists", metavar="FILE", help="deny, allow and watch lists, for conditions that name one")
    parser.add_argument(
        "--entities", metavar="FILE", help="declaration of entities and attributes (the one that ships)"
    )


def rules_of(args: argparse.Namespace, path: str | None, run_tests: bool = True) -> RuleSet:
    """The rules in a file (None for those that ship), read with what the arguments name.

    Raises:
      UsageError: a file can't be read, or is wrong.
    """
    from fraud_pipeline.rules import read_rules

    return read_rules(path, entities=entities_of(args), lists_path=args.lists, run_tests=run_tests)


def entities_of(args: argparse.Namespace) -> EntityConfig:
    """The entities that the arguments name, or those that ship.

    Raises:
      UsageError: the file can't be read, or is wrong.
    """
    from fraud_pipeline.rules.files import read_bytes
    from transforms.entities import DEFAULT_ENTITIES, EntityError, load_entities

    if args.entities is None:
        return DEFAULT_ENTITIES
    try:
        return load_entities(read_bytes(args.entities).decode("utf-8-sig"), args.entities)
    except UnicodeDecodeError as error:
        raise UsageError(f"{args.entities}: byte {error.start:,} isn't UTF-8; save the file as UTF-8") from None
    except (OSError, EntityError) as error:
        raise UsageError(str(error)) from None
