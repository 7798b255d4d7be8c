"""A YAML file of people's that knows where each of its parts stands, so that an error can say so."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

import yaml

from transforms.conditions import shorten

Path: TypeAlias = tuple[str | int, ...]


class FileError(Exception):
    """A file that can't be used. Its text is one line: `source:line:column: rule 'id': what is wrong; the fix`.

    Attributes:
      line, column: position in the file, from 1.
      item: the rule or list at fault, or None if it is no single one.
    """

    word = "part"

    def __init__(self, source: str, line: int, column: int, item: str | None, message: str) -> None:
        self.source, self.line, self.column, self.item, self.message = source, line, column, item, message
        super().__init__(source, line, column, item, message)

    def __str__(self) -> str:
        item = f"{self.word} '{self.item}': " if self.item else ""
        return f"{self.source}:{self.line}:{self.column}: {item}{self.message}"


class Document:
    """The parsed file together with the position of each of its parts.

    Args:
      error: what to raise.
      section: the key that the items stand below, each with `key` as its name: `rules`, `id`.
      fields: the keys that there may be at a path.
      fixes: what to say of a wrong value, by its key.

    Raises:
      FileError: the text isn't YAML, or is no mapping of texts to something.
    """

    def __init__(
        self,
        text: str,
        source: str,
        error: type[FileError],
        section: str,
        key: str,
        fields: Callable[[Path], tuple[str, ...]],
        fixes: Mapping[str, str],
    ) -> None:
        self.text, self.source = text, source
        self._error, self._section, self._key, self._fields, self._fixes = error, section, key, fields, fixes
        self.node: yaml.Node | None = None
        self.data: Any = None
        self._read()

    def _read(self) -> None:
        text = self.text
        try:
            loader = yaml.SafeLoader(text)
            self.node = loader.get_single_node()
            self._refuse_keys(self.node, set())
            self.data = loader.construct_document(self.node) if self.node else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            assert mark is not None
            self._raise(
                mark.line + 1,
                mark.column + 1,
                f"not YAML: {shorten(error.problem or str(error))}; {_YAML_FIX}",
            )
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            self._raise(
                before.count("\n") + 1,
                len(before) - (before.rfind("\n") + 1) + 1,
                f"not YAML: character U+{ord(text[error.position]):04X} isn't allowed; remove it",
            )
        except RecursionError:
            self._raise(1, 1, f"not a {self._section} file: nested too deeply; see docs/rules.md for its form")
        except (ValueError, OverflowError) as error:
            # A date such as 2026-13-45 matches YAML's pattern of dates.
            self._raise(1, 1, f"not YAML: {shorten(str(error))}; mend that value, or put it in quotes")
        if not isinstance(self.data, dict):
            found = (
                "it is empty" if self.data is None else f"found {show(self.data)} where '{self._section}:' should be"
            )
            self._raise(1, 1, f"not a {self._section} file: {found}; see docs/rules.md for its form")

    def position(self, path: Path) -> tuple[int, int]:
        """Line and column of a part, from 1."""
        mark = self._find(path).start_mark
        return mark.line + 1, mark.column + 1

    def fail(
        self, path: Path, message: str, within: tuple[str, int] | None = None, at_key: str | None = None
    ) -> NoReturn:
        """Raises at a part of the file, or at a character (`within`: value, offset) or a key of it."""
        node = self._find(path)
        if at_key is not None and isinstance(node, yaml.MappingNode):
            node = next(key for key, _ in node.value if key.value == at_key)
        mark = node.start_mark
        line, column = self._inside(node, *within) if within else (mark.line + 1, mark.column + 1)
        self._raise(line, column, message, self._item(path))

    def refuse_shape(self, error: str) -> NoReturn:
        """Turns msgspec's `what - at $.rules[1].weight` into an error at that place."""
        what, _, at = error.partition(" - at `")
        path: Path = tuple(
            int(index) if index else key
            for key, index in re.findall(r"\.?(\w+|\.\.\.)(?<!\])|\[(\d+|\.\.\.)\]", at.rstrip("`"))
            if index != "..."
        )
        path = tuple(step for step in path if step != "...")
        unknown = re.search(r"unknown field `(.*)`", what)
        missing = re.search(r"missing required field `(.*)`", what)
        if unknown:
            known = self._fields(path)
            close = difflib.get_close_matches(unknown[1], known, n=1)
            fix = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
            self.fail(path, f"unknown key '{shorten(unknown[1])}'; {fix}", at_key=unknown[1])
        if missing:
            self.fail(path, f"key '{missing[1]}' is missing; add it")
        last = next((str(step) for step in reversed(path) if isinstance(step, str)), "")
        name = f"{path[-1]}: " if path and isinstance(path[-1], str) else ""
        what = re.sub(r"`(str|float|object|array|datetime)\b", lambda m: _WORDS[m[1]], what).replace("`", "")
        what = what.replace(" | null", "")
        what = what[:1].lower() + what[1:]
        found = "" if "found" in what or "invalid enum" in what else f", found {show(self._value(path))}"
        fix = self._fixes.get(last, "") if name or last in ("entries", "tags") else ""
        self.fail(path, f"{name}{what}{found}{fix}")

    def _find(self, path: Path) -> yaml.Node:
        """The node at a path, or the nearest one above it."""
        node = self.node
        assert node is not None
        for step in path:
            if isinstance(node, yaml.MappingNode):
                pair = next(((k, v) for k, v in node.value if k.value == step), None)
                if pair is None:
                    break
                node = pair[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                break
        return node

    def _value(self, path: Path) -> Any:
        value = self.data
        for step in path:
            value = value[step]
        return value

    def _item(self, path: Path) -> str | None:
        if len(path) < 2 or path[0] != self._section:
            return None
        if isinstance(self._find(path[:2]), yaml.MappingNode):
            node = self._find((*path[:2], self._key))
            if isinstance(node, yaml.ScalarNode) and node.value:
                return shorten(node.value, 64)
        return f"#{int(path[1]) + 1}"

    def _inside(self, node: yaml.Node, value: str, offset: int) -> tuple[int, int]:
        """Position in the file of a character of a text, whichever way YAML wrote it: it may quote, fold and indent,
        but keeps the order of what isn't white space."""
        at, end = node.start_mark.index, node.end_mark.index
        if self.text[at] in "|>":
            at = self.text.index("\n", at)
        elif self.text[at] in "'\"":
            at += 1
        last = at
        for char in value[: offset + 1].split():
            for wanted in char:
                found = self.text.find(wanted, at, end)
                if found < 0:
                    break
                last, at = found, found + 1
        if offset >= len(value.rstrip()):
            last = at
        line_start = self.text.rfind("\n", 0, last) + 1
        return self.text.count("\n", 0, last) + 1, last - line_start + 1

    def _refuse_keys(self, node: yaml.Node | None, seen: set[int]) -> None:
        """Refuses keys that YAML would drop in silence (repeated ones) or that aren't plain texts."""
        if node is None or id(node) in seen:
            return
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                line, column = key.start_mark.line + 1, key.start_mark.column + 1
                if key.tag != "tag:yaml.org,2002:str":
                    self._raise(line, column, "this key isn't a text; see docs/rules.md for the keys there are")
                if key.value in keys:
                    self._raise(line, column, f"key '{shorten(key.value)}' stands twice in one place; remove one")
                keys.add(key.value)
                self._refuse_keys(value, seen)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._refuse_keys(item, seen)

    def _raise(self, line: int, column: int, message: str, item: str | None = None) -> NoReturn:
        raise self._error(self.source, line, column, item, message) from None


_YAML_FIX = "mend indentation or quotes; a condition with ': ', ' #' or a leading '!' goes below 'when: |', indented"

_WORDS = {
    "str": "a text",
    "float": "a number",
    "object": "keys and values",
    "array": "a list",
    "datetime": "a date and time",
}


def show(value: Any) -> str:
    """A value for an error message: on one line, at most 60 characters."""
    return shorten(reprlib.repr(value), 60)
