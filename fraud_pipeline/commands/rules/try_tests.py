"""`fraud-pipeline rules test`: the tests inside a rules file."""

from __future__ import annotations

import argparse
from typing import Any

from fraud_pipeline.rules.arguments import add_surroundings


def register(actions: Any) -> None:
    """Adds the action."""
    test = actions.add_parser(
        "test",
        help="run the tests inside a rules file",
        description="Tries the examples under 'tests:' of each rule, all of them, and says of each that fails why. "
        "Exit code 0 if all pass, 1 if one fails, 2 if the file is wrong otherwise.",
    )
    test.add_argument("file", metavar="FILE", nargs="?", help="rules file (default: the one that ships)")
    test.add_argument("--verbose", action="store_true", help="show each comparison of each test that fails")
    add_surroundings(test)
    test.set_defaults(run=_test)


def _test(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules.arguments import rules_of
    from fraud_pipeline.rules.explained import part_lines
    from transforms.rule_examples import outcomes, why

    rules = rules_of(args, args.file, run_tests=False)
    passed = failed = 0
    untested = []
    for rule in rules.rules:
        found = list(outcomes(rules, rule))
        if not found:
            untested.append(rule.id)
        for outcome in found:
            if outcome.passed:
                passed += 1
                continue
            failed += 1
            print(f"FAILED {rule.id}, {outcome.kind} {outcome.position + 1}: {why(outcome)}")
            if args.verbose:
                for line in part_lines(outcome.explanation):
                    print(f"  {line}")
    print(f"{passed} passed, {failed} failed")
    if untested:
        print(f"without a test: {', '.join(untested)}")
    return 1 if failed else 0
