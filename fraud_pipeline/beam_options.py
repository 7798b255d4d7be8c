"""Runner options given on our command line, checked before they reach Beam, which would only warn of a wrong one."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import NoReturn

from apache_beam.options.pipeline_options import PipelineOptions

from fraud_pipeline.errors import UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; runner options are Beam's, see its documentation of PipelineOptions")


def pipeline_options(arguments: Sequence[str], **defaults: object) -> PipelineOptions:
    """Beam's options from the command line.

    Args:
      arguments: what our own command line did not know.
      defaults: options to set where the arguments don't.

    Raises:
      UsageError: an option is unknown or has a wrong value; the nearest name is suggested.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)  # type: ignore[arg-type]
    known, unknown = parser.parse_known_args(list(arguments))
    if unknown:
        names = [name for action in parser._actions for name in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], [*names, *OUR_OPTIONS], n=1)
        raise UsageError(f"unknown argument {unknown[0]!r}" + (f"; did you mean {near[0]}?" if near else ""))
    # Any text is true to Beam, which would submit nothing and say so nowhere.
    if known.dry_run not in (False, "true"):
        raise UsageError(f"--dry_run={known.dry_run} would be a dry run too; give --dry_run=true, or leave it out")
    given = {argument.partition("=")[0].lstrip("-") for argument in arguments if argument.startswith("--")}
    return PipelineOptions(list(arguments), **{k: v for k, v in defaults.items() if k not in given})


OUR_OPTIONS = ("--input", "--output", "--mode", "--rules", "--format", "--timestamp-attribute")
"""Names to suggest beside Beam's."""
