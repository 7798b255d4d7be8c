"""The rules file: YAML to a `RuleSet`, or one error that says where, which rule, what, and how to mend it."""

from __future__ import annotations

import difflib
import re
import reprlib
from typing import Any, NoReturn

import msgspec
import yaml

from transforms.conditions import ConditionError, check_condition, shorten
from transforms.rules import Rule, RuleSet, Thresholds


class RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rules file holds."""

    rules: list[Rule]
    thresholds: Thresholds = Thresholds()


class RuleError(Exception):
    """A rules file that can't be used. Its text is one line: `source:line:column: rule 'id': what is wrong; the fix`.

    Attributes:
      line, column: position in the file, from 1.
      rule_id: the rule at fault, or None if it is no single one.
    """

    def __init__(self, source: str, line: int, column: int, rule_id: str | None, message: str) -> None:
        self.source, self.line, self.column, self.rule_id, self.message = (
            source,
            line,
            column,
            rule_id,
            message,
        )
        super().__init__(source, line, column, rule_id, message)

    def __str__(self) -> str:
        rule = f"rule '{self.rule_id}': " if self.rule_id else ""
        return f"{self.source}:{self.line}:{self.column}: {rule}{self.message}"


def load_rules(text: str, source: str = "rules", thresholds: Thresholds | None = None) -> RuleSet:
    """Reads and checks a rules file.

    Args:
      text: the file's content, YAML.
      source: its name, for error messages.
      thresholds: used in place of the file's.

    Raises:
      RuleError: the first thing that is wrong with it.
    """
    document = _Document(text, source)
    try:
        file = msgspec.convert(document.data, RuleFile)
    except msgspec.ValidationError as error:
        document.refuse_shape(str(error))
    if not file.rules:
        document.fail(("rules",), "there is no rule; add one, or leave the file out to use those that ship")
    first: dict[str, int] = {}
    for i, rule in enumerate(file.rules):
        if rule.id in first:
            line, _ = document.position(("rules", first[rule.id], "id"))
            document.fail(("rules", i, "id"), f"the id is taken by the rule at line {line}; rename one")
        first[rule.id] = i
        try:
            check_condition(rule.when)
        except ConditionError as error:
            document.fail(("rules", i, "when"), f"when: {error}", within=(rule.when, error.offset))
    return RuleSet(tuple(file.rules), thresholds or file.thresholds)


Path = tuple[str | int, ...]


class _Document:
    """The parsed file together with the position of each of its parts."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.node: yaml.Node | None = None
        self.data: Any = None
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
            self._raise(1, 1, "not a rules file: nested too deeply; see docs/rules.md for its form")
        if not isinstance(self.data, dict):
            found = "it is empty" if self.data is None else f"found {_show(self.data)} where 'rules:' should be"
            self._raise(1, 1, f"not a rules file: {found}; see docs/rules.md for its form")

    def position(self, path: Path) -> tuple[int, int]:
        mark = self._find(path).start_mark
        return mark.line + 1, mark.column + 1

    def fail(
        self, path: Path, message: str, within: tuple[str, int] | None = None, at_key: str | None = None
    ) -> NoReturn:
        """Raises `RuleError` at a part of the file, or at a character (`within`: value, offset) or a key of it."""
        node = self._find(path)
        if at_key is not None and isinstance(node, yaml.MappingNode):
            node = next(key for key, _ in node.value if key.value == at_key)
        mark = node.start_mark
        line, column = self._inside(node, *within) if within else (mark.line + 1, mark.column + 1)
        self._raise(line, column, message, self._rule_id(path))

    def refuse_shape(self, error: str) -> NoReturn:
        """Turns msgspec's `what - at $.rules[1].weight` into a `RuleError` at that place."""
        what, _, at = error.partition(" - at `")
        path: Path = tuple(
            int(index) if index else key for key, index in re.findall(r"\.?(\w+)(?<!\])|\[(\d+)\]", at.rstrip("`"))
        )
        unknown = re.search(r"unknown field `(.*)`", what)
        missing = re.search(r"missing required field `(.*)`", what)
        known = Rule.__struct_fields__ if path[:1] == ("rules",) else RuleFile.__struct_fields__
        known = Thresholds.__struct_fields__ if path[:1] == ("thresholds",) else known
        if unknown:
            close = difflib.get_close_matches(unknown[1], known, n=1)
            fix = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
            self.fail(path, f"unknown key '{shorten(unknown[1])}'; {fix}", at_key=unknown[1])
        if missing:
            self.fail(path, f"key '{missing[1]}' is missing; add it")
        name = f"{path[-1]}: " if path and isinstance(path[-1], str) else ""
        what = re.sub(r"`(str|float|object|array)\b", lambda m: _WORDS[m[1]], what).replace("`", "")
        what = what[:1].lower() + what[1:]
        found = "" if "found" in what or "invalid enum" in what else f", found {_show(self._value(path))}"
        self.fail(path, f"{name}{what}{found}{_FIXES.get(str(path[-1]) if path else '', '')}")

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

    def _rule_id(self, path: Path) -> str | None:
        if len(path) < 2 or path[0] != "rules":
            return None
        if isinstance(self._find(path[:2]), yaml.MappingNode):
            node = self._find((*path[:2], "id"))
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

    def _raise(self, line: int, column: int, message: str, rule_id: str | None = None) -> NoReturn:
        raise RuleError(self.source, line, column, rule_id, message) from None


_YAML_FIX = "mend indentation or quotes; a condition with ': ', ' #' or a leading '!' goes below 'when: |', indented"

_WORDS = {"str": "a text", "float": "a number", "object": "keys and values", "array": "a list"}

_FIXES = {
    "severity": "; it is one of low, medium, high, critical",
    "weight": "; it is a number above 0 and up to 1",
    "id": "; it is a lower-case name such as card_testing_burst",
    "reason_code": "; it is an upper-case name such as CARD_TESTING_BURST",
    "when": "; it is a condition in quotes, or below 'when: |'",
    "description": "; it says what the rule finds and why its thresholds are what they are",
}


def _show(value: Any) -> str:
    return shorten(reprlib.repr(value), 60)
