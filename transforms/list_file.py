"""The lists file: YAML to a `ListSet`. Each list has its entries in it, in a file beside it, or in a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TextIO, TypeAlias

import msgspec
import yaml

from transforms.conditions import nearest
from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.lists import NEVER_MS, Entry, ListHead, ListKind, ListSet, ValueList
from transforms.rfc3339 import epoch_ms
from transforms.rules import Mode, to_ms
from transforms.variables import EVENT_VARIABLES
from transforms.yaml_document import Document, FileError, Path, show

MAX_INLINE_ENTRIES = 10_000
"""More entries than this belong into a file of their own: YAML is read a thousand times slower than CSV."""

_Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class EntrySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry that says more than its value."""

    value: Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]
    expires: _Time | None = None
    source: str = ""


class ListSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One list.

    Attributes:
      kind: `deny` blocks, `allow` allows, `watch` is reviewed, `reference` is for conditions alone.
      field: the event's field, or declared attribute, that its entries are values of.
      source: who keeps it, for entries that don't say.
      entries, file, table: one of them: the entries; a file of them, relative to this one; a BigQuery table.
    """

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]
    kind: ListKind
    field: str
    description: str = ""
    source: str = ""
    mode: Mode = "live"
    entries: list[str | EntrySpec] | None = None
    file: str | None = None
    table: str | None = None


class ListFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a lists file holds."""

    lists: list[ListSpec]


class ListError(FileError):
    """A lists file, or a file of entries, that can't be used; as `rule_file.RuleError`."""

    word = "list"


class RawEntry(NamedTuple):
    """An entry of a table: its value, when it ends to count (epoch ms), and who put it there."""

    value: str
    expires_ms: int | None
    source: str | None


class Outside(NamedTuple):
    """How to get at what a lists file names.

    Attributes:
      read_file: the content of a file, by its path as written in the lists file.
      read_table: the entries of a BigQuery table.

    Both raise `OSError` where that can't be done, with the fix.
    """

    read_file: Callable[[str], bytes]
    read_table: Callable[[str], Iterable[RawEntry]]


def load_lists(
    text: str, outside: Outside, source: str = "lists", entities: EntityConfig = DEFAULT_ENTITIES
) -> ListSet:
    """Reads and checks a lists file and what it names.

    Args:
      text: the file's content, YAML.
      source: its name, for error messages.
      entities: whose declared attributes may be fields.

    Raises:
      ListError: the first thing that is wrong with it.
      OSError: something that it names can't be read.
    """
    document = Document(text, source, ListError, "lists", "name", _fields, _FIXES)
    try:
        file = msgspec.convert(document.data, ListFile)
    except msgspec.ValidationError as error:
        document.refuse_shape(str(error))
    fields = [v.name for v in EVENT_VARIABLES if v.type == "string" and not v.choices]
    fields += [a.name for a in entities.attributes if a.type == "string"]
    taken: dict[str, int] = {}
    made = []
    for i, spec in enumerate(file.lists):
        at: Path = ("lists", i)
        if spec.name in taken:
            line, _ = document.position(("lists", taken[spec.name], "name"))
            document.fail((*at, "name"), f"the name is taken by the list at line {line}; rename one")
        taken[spec.name] = i
        if spec.field not in fields:
            fix = nearest(spec.field, fields) or f"; there are {', '.join(fields)}"
            document.fail((*at, "field"), f"field: no text of events is called '{spec.field}'{fix}")
        given = [key for key in ("entries", "file", "table") if getattr(spec, key) is not None]
        if len(given) != 1:
            document.fail(at, f"one of entries, file and table is needed, found {' and '.join(given) or 'none'}")
        head = ListHead(spec.name, spec.kind, spec.field, spec.mode, spec.description)
        made.append(_value_list(document, at, spec, head, outside))
    return ListSet(made)


def references(text: str) -> tuple[tuple[str, str], ...]:
    """The files (`file`) and tables (`table`) that a lists file names, as pairs of kind and name.

    Nothing of a text that isn't right: `load_lists` says what is wrong with it.
    """
    try:
        file = msgspec.convert(yaml.safe_load(text), ListFile)
    except (yaml.YAMLError, msgspec.ValidationError, ValueError, RecursionError):
        return ()
    named = (("file", spec.file) if spec.file is not None else ("table", spec.table) for spec in file.lists)
    return tuple(dict.fromkeys((kind, name) for kind, name in named if name is not None))


def _value_list(document: Document, at: Path, spec: ListSpec, head: ListHead, outside: Outside) -> ValueList:
    place = _Place()
    if spec.entries is not None:
        if len(spec.entries) > MAX_INLINE_ENTRIES:
            fix = f"more than {MAX_INLINE_ENTRIES:,} belong into a file: write file: {spec.name}.csv"
            document.fail((*at, "entries"), f"entries: there are {len(spec.entries):,}; {fix}")
        entries = _inline(spec.entries, spec.source, place)
    elif spec.file is not None:
        # Decoded as it is read: one step over a hundred megabytes would hold up the threads that score.
        lines = io.TextIOWrapper(io.BytesIO(outside.read_file(spec.file)), "utf-8-sig", newline="")
        entries = (_csv if _is_csv(spec.file) else _lines)(lines, spec.source, place)
    else:
        assert spec.table is not None
        entries = _table(outside.read_table(spec.table), spec.source, place)
    try:
        return ValueList(head, entries)
    except UnicodeDecodeError:
        raise ListError(str(spec.file), place.at + 1, 1, spec.name, "it isn't UTF-8; save it as UTF-8") from None
    except ValueError as error:
        if spec.entries is not None:
            document.fail((*at, "entries", place.at), str(error))
        if spec.file is not None:
            raise ListError(spec.file, place.at, 1, spec.name, str(error)) from None
        document.fail((*at, "table"), f"{spec.table}, row {place.at:,}: {error}")


class _Place:
    """Where the reading of entries is."""

    at = 0


def _inline(entries: Iterable[str | EntrySpec], source: str, place: _Place) -> Iterator[tuple[str, Entry]]:
    for i, entry in enumerate(entries):
        place.at = i
        if isinstance(entry, str):
            yield _checked(entry), Entry(NEVER_MS, source)
        else:
            expires_ms = NEVER_MS if entry.expires is None else to_ms(entry.expires)
            yield _checked(entry.value), Entry(expires_ms, entry.source or source)


def _is_csv(name: str) -> bool:
    return name.removesuffix(".gz").endswith(".csv")


def _lines(lines: TextIO, source: str, place: _Place) -> Iterator[tuple[str, Entry]]:
    entry = Entry(NEVER_MS, source)
    for i, line in enumerate(lines, 1):
        place.at = i
        value = line.partition("#")[0].strip()
        if value:
            yield _checked(value), entry


def _csv(lines: TextIO, source: str, place: _Place) -> Iterator[tuple[str, Entry]]:
    rows = csv.reader(lines)
    place.at = 1
    header = [name.strip().lower() for name in next(rows, [])]
    if "value" not in header:
        raise ValueError(
            f"no column 'value' in the first line, found {', '.join(header)[:80] or 'nothing'}; begin with: "
            "value,expires,source"
        )
    at_value, at_expires, at_source = (
        header.index(name) if name in header else -1 for name in ("value", "expires", "source")
    )
    for row in rows:
        place.at = rows.line_num
        if not row:
            continue
        if len(row) != len(header):
            raise ValueError(f"{len(row)} values under {len(header)} columns; quote values with a comma in them")
        expires = row[at_expires].strip() if at_expires >= 0 else ""
        entry = Entry(_expiry_ms(expires), row[at_source].strip() if at_source >= 0 else source)
        yield _checked(row[at_value].strip()), entry


def _expiry_ms(text: str) -> int:
    try:
        return epoch_ms(text) if text else NEVER_MS
    except ValueError as error:
        raise ValueError(f"expires {show(text)} {error}") from None


def _table(rows: Iterable[RawEntry], source: str, place: _Place) -> Iterator[tuple[str, Entry]]:
    for i, row in enumerate(rows, 1):
        place.at = i
        yield _checked(row.value), Entry(NEVER_MS if row.expires_ms is None else row.expires_ms, row.source or source)


def _checked(value: str) -> str:
    if not value:
        raise ValueError("the value is empty; remove the entry")
    return value


def _fields(path: Path) -> tuple[str, ...]:
    if "entries" in path:
        return EntrySpec.__struct_fields__
    return ListSpec.__struct_fields__ if path[:1] == ("lists",) else ListFile.__struct_fields__


_FIXES: dict[str, Any] = {
    "name": "; it is a lower-case name such as stolen_cards",
    "kind": "; it is one of deny, allow, watch, reference",
    "mode": "; it is one of live, shadow",
    "expires": "; it is a time with an offset such as 2026-03-01T00:00:00Z",
    "entries": "; an entry is a text (in quotes if it looks like a number or yes/no), or value, expires and source",
    "value": "; it is a text, in quotes if it looks like a number or yes/no",
}
