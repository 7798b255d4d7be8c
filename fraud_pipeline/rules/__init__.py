"""The rules that ship, and reading rules and lists files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from fraud_pipeline.rules.files import RuleFiles
    from transforms.entities import EntityConfig
    from transforms.rules import RuleSet, Thresholds

DEFAULT = "default.yaml"


def read_rules(
    path: str | None = None,
    thresholds: Thresholds | None = None,
    entities: EntityConfig | None = None,
    lists_path: str | None = None,
    run_tests: bool = True,
) -> RuleSet:
    """Reads and checks rules and lists.

    Args:
      path: a rules file, local or `gs://`; or None for the rules that ship.
      thresholds: used in place of the file's.
      entities: whose features and attributes the conditions may name; None for those that ship.
      lists_path: a lists file, or None for no lists.
      run_tests: False to leave the tests in the file untried.

    Raises:
      UsageError: a file can't be read, or is no valid one.
    """
    # CEL and YAML are imported here for a quick `--help`.
    from fraud_pipeline.rules.files import RuleFiles
    from transforms.entities import DEFAULT_ENTITIES

    files = RuleFiles(path, lists_path, entities=entities or DEFAULT_ENTITIES, thresholds=thresholds)
    return read_files(files, run_tests)


def read_files(files: RuleFiles, run_tests: bool = True) -> RuleSet:
    """As `read_rules`, of a source of rules."""
    from transforms.yaml_document import FileError

    try:
        return files.build(files.fetch(), run_tests=run_tests)
    except (OSError, FileError) as error:
        raise UsageError(str(error)) from None
