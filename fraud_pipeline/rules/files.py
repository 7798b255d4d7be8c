"""Rules and lists at their paths: local, or wherever Beam's file systems reach (`gs://`); lists also in BigQuery."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.list_file import ListError, Outside, RawEntry, load_lists, references
from transforms.lists import NO_LISTS, ListSet
from transforms.reload import Content
from transforms.rule_file import RuleError, load_rules
from transforms.rules import RuleSet, Thresholds, to_ms
from transforms.yaml_document import FileError

DEFAULT = "default.yaml"


class _Parts(NamedTuple):
    rules: bytes
    lists: bytes | None
    outside: Mapping[str, Any]


class RuleFiles(msgspec.Struct, frozen=True):
    """A rules file and a lists file: a `transforms.reload.RuleSource`.

    Attributes:
      rules_path: None for the rules that ship.
      lists_path: None for no lists.
      refresh_seconds: how often a running job looks for a change.
      entities: whose features and attributes the conditions may name.
    """

    rules_path: str | None = None
    lists_path: str | None = None
    refresh_seconds: float = 60.0
    entities: EntityConfig = DEFAULT_ENTITIES
    thresholds: Thresholds | None = None

    @property
    def name(self) -> str:
        """Both paths."""
        return " and ".join(path for path in (self.rules_path or DEFAULT, self.lists_path) if path)

    @property
    def paths(self) -> tuple[tuple[str, str], ...]:
        """The paths given, each with its option."""
        given = (("--rules", self.rules_path), ("--lists", self.lists_path))
        return tuple((option, path) for option, path in given if path is not None)

    def fetch(self) -> Content:
        """The bytes of both files and of all that the lists name.

        Raises:
          OSError: one of them can't be read; the message names it.
        """
        rules = _shipped() if self.rules_path is None else read_bytes(self.rules_path)
        lists = None
        outside: dict[str, Any] = {}
        lists_hash = hashlib.sha256()
        if self.lists_path is not None:
            lists = read_bytes(self.lists_path)
            lists_hash.update(lists)
            for kind, name in _references(lists):
                if kind == "file":
                    outside[name] = read_bytes(beside(self.lists_path, name))
                    lists_hash.update(hashlib.sha256(outside[name]).digest())
                else:
                    rows = list(read_table(name))
                    for row in rows:
                        lists_hash.update(repr(tuple(row)).encode("utf-8", "surrogatepass"))
                    outside[name] = rows
        digest = hashlib.sha256(rules + lists_hash.digest()).hexdigest()
        return Content(digest, lists_hash.hexdigest(), _Parts(rules, lists, outside))

    def build(self, content: Content, before: tuple[Content, RuleSet] | None = None, run_tests: bool = True) -> RuleSet:
        """The rules and lists of a content, checked; lists that didn't change are taken from before.

        Raises:
          FileError: a file is wrong; the message has the place and the fix.
        """
        parts: _Parts = content.parts
        if before is not None and before[0].lists_digest == content.lists_digest:
            lists = before[1].lists
        else:
            lists = self._lists(parts)
        source = self.rules_path or DEFAULT
        text = _decode(parts.rules, source, RuleError)
        return load_rules(text, source, self.thresholds, self.entities, lists, run_tests)

    def _lists(self, parts: _Parts) -> ListSet:
        if parts.lists is None or self.lists_path is None:
            return NO_LISTS
        text = _decode(parts.lists, self.lists_path, ListError)
        outside = Outside(parts.outside.__getitem__, parts.outside.__getitem__)
        return load_lists(text, outside, self.lists_path, self.entities)


def read_bytes(path: str) -> bytes:
    """The content of a file wherever Beam's file systems reach.

    Raises:
      OSError: it can't be read; the message names it and gives the fix.
    """
    from apache_beam.io.filesystems import FileSystems
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    try:
        with FileSystems.open(path) as file:
            return bytes(file.read())
    except (OSError, ValueError, GoogleAPIError, GoogleAuthError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise OSError(
            f"{path}: can't be read ({why[:200]}); give a path to a file that this machine can read"
        ) from None


def read_table(name: str) -> Iterator[RawEntry]:
    """The entries of a BigQuery table: `project.dataset.table`, with a column `value` and perhaps `expires`, `source`.

    Raises:
      OSError: it can't be read, or is no such table; the message names it and gives the fix.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    from fraud_pipeline.tables.bigquery import make_client

    project = name.split(".")[0]
    try:
        client = make_client(project)
        columns = {field.name.lower() for field in client.get_table(name).schema}
        if "value" not in columns:
            raise OSError(
                f"table {name} has no column 'value' but {', '.join(sorted(columns))}; add one, or use a view"
            )
        wanted = [column for column in ("value", "expires", "source") if column in columns]
        # In a fixed order, so that the same content has the same digest.
        query = f"SELECT {', '.join(wanted)} FROM `{name}` ORDER BY {', '.join(wanted)}"
        for row in client.query_and_wait(query):
            yield _entry(name, dict(row.items()))
    except (GoogleAPIError, GoogleAuthError, ValueError) as error:
        why = " ".join(str(getattr(error, "message", None) or error).split())
        raise OSError(
            f"table {name}: can't be read ({why[:200]}); give project.dataset.table and read access"
        ) from None


def _entry(table: str, row: Mapping[str, Any]) -> RawEntry:
    expires = row.get("expires")
    if expires is not None and not isinstance(expires, datetime):
        raise OSError(f"table {table}: column 'expires' is a {type(expires).__name__}; make it a TIMESTAMP")
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    value = row["value"]
    if value is None:
        raise OSError(f"table {table}: a value is NULL; remove that row")
    return RawEntry(str(value), None if expires is None else to_ms(expires), row.get("source"))


def _shipped() -> bytes:
    return resources.files(__package__).joinpath(DEFAULT).read_bytes()


@lru_cache(maxsize=8)
def _references(lists: bytes) -> tuple[tuple[str, str], ...]:
    """What the lists file names; nothing of one that can't be read, which `build` then refuses."""
    return references(lists.decode("utf-8", "replace"))


def beside(path: str, name: str) -> str:
    """The path of a file that another names, relative to that one."""
    from apache_beam.io.filesystems import FileSystems

    if "://" in name or name.startswith("/"):
        return name
    return str(FileSystems.join(FileSystems.split(path)[0], name))


def _decode(content: bytes, source: str, error_type: type[FileError]) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise error_type(source, 1, 1, None, f"byte {error.start:,} isn't UTF-8; save the file as UTF-8") from None
