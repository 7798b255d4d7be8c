"""The rules and lists of a job: what travels with it, and where its workers read them again."""

from __future__ import annotations

from fraud_pipeline.errors import UsageError
from fraud_pipeline.rules import read_files
from fraud_pipeline.rules.files import RuleFiles
from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.rules import RuleSet

MAX_TRAVELLING_ENTRIES = 20_000
"""Entries of lists that may travel with a job: about a megabyte of the 10 MB that Dataflow takes for one."""


def rules_and_source(
    rules_path: str | None,
    lists_path: str | None,
    refresh_seconds: float | None,
    entities: EntityConfig = DEFAULT_ENTITIES,
) -> tuple[RuleSet | None, RuleFiles | None]:
    """The rules that travel with a job, and where its workers read them again.

    Args:
      rules_path, lists_path: as in `RuleFiles`.
      refresh_seconds: how often workers look for a change; None for never.

    Returns:
      Rules, and None where their lists are too large to travel; and the source, None where nothing is read again.

    Raises:
      UsageError: a file can't be used, the interval isn't one, or lists too large to travel are never read again.
    """
    if refresh_seconds is not None and not 0 < refresh_seconds <= 86_400:
        raise UsageError(f"--rules-refresh-seconds {refresh_seconds:g} is not above 0 and up to 86400 (a day)")
    if refresh_seconds is not None and rules_path is None and lists_path is None:
        raise UsageError("--rules-refresh-seconds needs --rules or --lists, a path to read again")
    files = RuleFiles(rules_path, lists_path, refresh_seconds or 0, entities)
    rules = read_files(files)
    if rules.lists.size <= MAX_TRAVELLING_ENTRIES:
        return rules, files if refresh_seconds else None
    if refresh_seconds is None:
        raise UsageError(
            f"--lists {lists_path!r} has {rules.lists.size:,} entries, and at most {MAX_TRAVELLING_ENTRIES:,} travel "
            "with a job; give --rules-refresh-seconds, so that workers read them at that path"
        )
    return None, files
