"""The command `fraud-pipeline`: parses, runs one subcommand, turns a caller's mistake into one line and exit code 2."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from fraud_pipeline import commands, compiled
from fraud_pipeline.errors import UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """One line, without the usage block, so that the fix isn't scrolled away."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line: a subcommand for each module in `fraud_pipeline.commands`."""
    parser = _Parser(prog="fraud-pipeline", description="Streaming fraud detection on Apache Beam.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda m: m.name):
        importlib.import_module(f"fraud_pipeline.commands.{module.name}").register(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      The exit code: 0 done, 1 the work failed, 2 the command line or a file it names is wrong.
    """
    parser = build_parser()
    args, beam_args = parser.parse_known_args(argv)
    if beam_args and not getattr(args, "takes_beam_options", False):
        parser.error(f"unknown arguments: {' '.join(beam_args)}")
    args.beam_args = beam_args
    if warning := compiled.stale():
        print(f"fraud-pipeline: {warning}", file=sys.stderr)
    try:
        return int(args.run(args) or 0)
    except UsageError as error:
        print(f"fraud-pipeline {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
