"""The tree of a condition: it is what CEL reads, and each part of it can be written down again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cel
import pytest
from hypothesis import given, settings
from test_rule_index import CONDITIONS, Condition

from transforms.condition_parser import parse
from transforms.condition_tree import (
    Call,
    Expression,
    ListOf,
    Literal,
    Name,
    Opaque,
    Operation,
    logic_of,
    names_needed,
    text_of,
)

KNOWN = {
    "login_count_1h": 1, "payment_count_1h": 1, "amount_minor": 1, "travel_km": 1.0, "is_new_ip": True,
    "has_travel_km": True, "has_country": True, "country": "DE", "outcome": "success", "event_type": "login",
}  # fmt: skip

A, B, C, D = map(Name, "abcd")


@pytest.mark.parametrize(
    ("condition", "tree"),
    [
        ("!a == b", Operation("==", (Operation("!", (A,)), B))),
        ("a - 1 - 2", Operation("-", (Operation("-", (A, Literal(1))), Literal(2)))),
        ("a + 2 * b", Operation("+", (A, Operation("*", (Literal(2), B))))),
        ("(a + 2) * b", Operation("*", (Operation("+", (A, Literal(2))), B))),
        ("a || b && c", Operation("||", (A, Operation("&&", (B, C))))),
        ("a && b && c || d", Operation("||", (Operation("&&", (A, B, C)), D))),
        ("(a && b) && c", Operation("&&", (Operation("&&", (A, B)), C))),
        ("a ? b : c ? d : a", Operation("?:", (A, B, Operation("?:", (C, D, A))))),
        ("a == -1.5", Operation("==", (A, Literal(-1.5)))),
        ("-a < --1", Operation("<", (Operation("-", (A,)), Operation("-", (Literal(-1),))))),
        ("a in ['x', \"y\",]", Operation("in", (A, ListOf((Literal("x"), Literal("y")))))),
        (r"a.startsWith('a\'b')", Call("startsWith", (A, Literal("a'b")), is_method=True)),
        ("size(a) == 0x10", Operation("==", (Call("size", (A,)), Literal(16)))),
        ("-9223372036854775808 < a", Operation("<", (Literal(-(2**63)), A))),
        ("a.b == 1", Operation("==", (Opaque(), Literal(1)))),
        ("a[0].b || c", Operation("||", (Opaque(), C))),
        ("{'a': 1} == b", Operation("==", (Opaque(), B))),
        ("a == 3u", Operation("==", (A, Opaque()))),
        ("a == b'c'", Operation("==", (A, Opaque()))),
        ("a == 1 b", Opaque()),
        ("a ? b", Opaque()),
        ("", Opaque()),
    ],
)
def test_a_condition_is_read_as_cel_reads_it(condition: str, tree: Any) -> None:
    assert parse(condition) == tree


def every_part(expression: Expression) -> Iterator[Expression]:
    yield expression
    match expression:
        case Operation(_, parts) | Call(_, parts) | ListOf(parts):
            for part in parts:
                yield from every_part(part)


@settings(max_examples=200)
@given(CONDITIONS)
def test_each_part_can_be_written_down_again(condition: Condition) -> None:
    for part in every_part(parse(condition.text)):
        assert parse(part.text) == part == parse(text_of(condition.text, part))
        cel.compile(part.text)


@settings(max_examples=200)
@given(CONDITIONS)
def test_what_lacks_a_needed_name_has_no_value(condition: Condition) -> None:
    for part in every_part(parse(condition.text)):
        cel.evaluate(part.text, KNOWN)
        for name in names_needed(part) or ():
            with pytest.raises(RuntimeError, match="Undefined variable"):
                cel.evaluate(part.text, {other: value for other, value in KNOWN.items() if other != name})


def test_the_logic_of_a_condition_ends_at_its_comparisons() -> None:
    kinds = {"a && b": "all", "a || b": "any", "!a": "not", "a ? b : c": "if", "a == b": "leaf", "a": "leaf"}
    assert {text: logic_of(parse(text))[0] for text in kinds} == kinds
    assert logic_of(parse("a && !b && c == d"))[1] == (A, Operation("!", (B,)), Operation("==", (C, D)))
    assert logic_of(parse("!a == b"))[1] == ()


def test_a_condition_nested_too_deeply_is_told() -> None:
    with pytest.raises(RecursionError):
        parse("(" * 5_000 + "a" + ")" * 5_000)
