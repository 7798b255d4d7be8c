"""The rules that ship, and reading a rules file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from transforms.rules import RuleSet, Thresholds

DEFAULT = "default.yaml"


def read_rules(path: str | None = None, thresholds: Thresholds | None = None) -> RuleSet:
    """Reads and checks rules.

    Args:
      path: a rules file, or None for the rules that ship.
      thresholds: used in place of the file's.

    Raises:
      UsageError: the file can't be read, or is no valid rules file.
    """
    # CEL and YAML are imported here for a quick `--help`.
    from transforms.rule_file import RuleError, load_rules

    try:
        if path is None:
            text, source = resources.files(__package__).joinpath(DEFAULT).read_text("utf-8"), DEFAULT
        else:
            text, source = Path(path).read_text("utf-8"), path
        return load_rules(text, source, thresholds)
    except OSError as error:
        raise UsageError(f"{path}: can't read the rules file ({error.strerror}); give a path to one") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start:,} isn't UTF-8; save the rules file as UTF-8") from None
    except RuleError as error:
        raise UsageError(str(error)) from None
