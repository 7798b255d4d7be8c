"""The rules file: YAML to a `RuleSet`, or one error that says where, which rule, what, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from transforms.conditions import ConditionError, check_condition
from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.lists import NO_LISTS, ListSet
from transforms.rule_examples import ExampleError, check_example, outcomes, why
from transforms.rules import Examples, Rule, RuleSet, Thresholds
from transforms.variables import Variable, Vocabulary
from transforms.yaml_document import Document, FileError, Path

_ListName = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_]*$", max_length=64)]


class RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rules file holds.

    Attributes:
      lists: names of lists that conditions ask for and that may be missing; then nothing is on them.
    """

    rules: list[Rule]
    thresholds: Thresholds = Thresholds()
    lists: tuple[_ListName, ...] = ()


class RuleError(FileError):
    """A rules file that can't be used. Its text is one line: `source:line:column: rule 'id': what is wrong; the fix`.

    Attributes:
      rule_id: the rule at fault, or None if it is no single one.
    """

    word = "rule"

    @property
    def rule_id(self) -> str | None:
        return self.item


def load_rules(
    text: str,
    source: str = "rules",
    thresholds: Thresholds | None = None,
    entities: EntityConfig = DEFAULT_ENTITIES,
    lists: ListSet = NO_LISTS,
    run_tests: bool = True,
) -> RuleSet:
    """Reads and checks a rules file.

    Args:
      text: the file's content, YAML.
      source: its name, for error messages.
      thresholds: used in place of the file's.
      entities: whose features and attributes the conditions may name.
      lists: lists that the conditions may name and that have an effect of their own.
      run_tests: False to leave the tests in the file untried; they are checked for names and types all the same.

    Raises:
      RuleError: the first thing that is wrong with it, a test that fails among them.
    """
    document = Document(text, source, RuleError, "rules", "id", _fields, _FIXES)
    try:
        file = msgspec.convert(document.data, RuleFile)
    except msgspec.ValidationError as error:
        document.refuse_shape(str(error))
    if not file.rules:
        document.fail(("rules",), "there is no rule; add one, or leave the file out to use those that ship")
    vocabulary = vocabulary_of(entities, (*file.lists, *lists.names()))
    first: dict[str, int] = {}
    for i, rule in enumerate(file.rules):
        if rule.id in first:
            line, _ = document.position(("rules", first[rule.id], "id"))
            document.fail(("rules", i, "id"), f"the id is taken by the rule at line {line}; rename one")
        first[rule.id] = i
        try:
            check_condition(rule.when, vocabulary)
        except ConditionError as error:
            document.fail(("rules", i, "when"), f"when: {error}", within=(rule.when, error.offset))
        _check_examples(document, i, rule, vocabulary)
    rules = RuleSet(tuple(file.rules), thresholds or file.thresholds, vocabulary, lists)
    if run_tests:
        for i, rule in enumerate(file.rules):
            for outcome in outcomes(rules, rule):
                if not outcome.passed:
                    document.fail(("rules", i, "tests", outcome.kind, outcome.position), why(outcome))
    return rules


def vocabulary_of(entities: EntityConfig, lists: Iterable[str] = ()) -> Vocabulary:
    """What conditions may name beside these entities and lists."""
    attributes = (Variable(a.name, a.type, a.unit, a.help, nullable=True) for a in entities.attributes)
    return Vocabulary(entities.features, attributes, lists)


def _check_examples(document: Document, i: int, rule: Rule, vocabulary: Vocabulary) -> None:
    for kind in Examples.__struct_fields__:
        for n, example in enumerate(getattr(rule.tests, kind)):
            try:
                check_example(rule, example, vocabulary)
            except ExampleError as error:
                at_key = error.key if error.key in example else None
                document.fail(("rules", i, "tests", kind, n), str(error), at_key=at_key)


def _fields(path: Path) -> tuple[str, ...]:
    if path[:1] == ("thresholds",):
        return Thresholds.__struct_fields__
    if "tests" in path:
        return Examples.__struct_fields__
    return Rule.__struct_fields__ if path[:1] == ("rules",) else RuleFile.__struct_fields__


_FIXES = {
    "severity": "; it is one of low, medium, high, critical",
    "weight": "; it is a number above 0 and up to 1",
    "id": "; it is a lower-case name such as card_testing_burst",
    "reason_code": "; it is an upper-case name such as CARD_TESTING_BURST",
    "when": "; it is a condition in quotes, or below 'when: |'",
    "description": "; it says what the rule finds and why its thresholds are what they are",
    "action": "; it is one of allow, review, block",
    "mode": "; it is one of live, shadow",
    "valid_from": "; it is a time with an offset such as 2026-03-01T00:00:00Z",
    "valid_to": "; it is a time with an offset such as 2026-03-01T00:00:00Z",
    "tags": "; tags are lower-case words such as payments",
    "lists": "; lists are named by lower-case words such as anonymizers",
    "match": "; it is a list of examples, each of names and values",
    "no_match": "; it is a list of examples, each of names and values",
}
