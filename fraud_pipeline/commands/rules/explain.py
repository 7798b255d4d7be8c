"""`fraud-pipeline rules explain`: what do the rules say of one event, and why?"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from fraud_pipeline.errors import UsageError
from fraud_pipeline.rules.arguments import add_surroundings

if TYPE_CHECKING:
    from transforms.rules import RuleSet


def register(actions: Any) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "explain",
        help="say which rules match an event, which nearly, and why",
        description="Says of one event which rules match it, which nearly do, and why: each comparison with the value "
        "seen. The event was scored before (an id, with --history), or a JSON object on standard input: the "
        "names that 'fraud-pipeline rules variables' lists, with values. What isn't given is unknown.",
        epilog="examples: fraud-pipeline rules explain e-17 --history results.duckdb --rules candidate.yaml;  "
        'echo \'{"event_type": "login", "outcome": "failure", "failures_in_a_row": 5}\' | fraud-pipeline rules explain',
    )
    parser.add_argument("event_id", metavar="EVENT_ID", nargs="?", help="id of an event in --history")
    parser.add_argument("--history", metavar="FILE", help="results.duckdb, or scores.parquet or scores.jsonl")
    parser.add_argument("--user", metavar="USER_ID", help="the event's user, where two users have an event of that id")
    parser.add_argument("--rules", metavar="FILE", help="rules file (default: the rules that ship)")
    parser.add_argument("--all", action="store_true", help="show the rules that are far from matching too")
    add_surroundings(parser)
    parser.set_defaults(run=_explain)


def _explain(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules.arguments import rules_of
    from fraud_pipeline.rules.explained import report

    if (args.event_id is None) != (args.history is None):
        raise UsageError(
            "an event's id and --history go together; without both, give the event as JSON on standard input"
        )
    rules = rules_of(args, args.rules)
    values = _from_stdin(rules) if args.event_id is None else _from_history(args.history, args.event_id, args.user)
    try:
        lines = list(report(rules, values, args.all))
    except ValueError as error:
        raise UsageError(f"the event can't be used: {error}") from None
    print("\n".join(lines))
    return 0


def _from_stdin(rules: RuleSet) -> dict[str, Any]:
    import msgspec

    from fraud_pipeline.tables.schema import SCORES
    from transforms.conditions import nearest

    text = sys.stdin.read()
    try:
        values = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"standard input isn't JSON: {error}; give one object such as a row of the table scores"
        ) from None
    if not isinstance(values, dict):
        raise UsageError(f"standard input holds {str(values)[:60]!r}; give one JSON object of names and values")
    known = {*rules.vocabulary.variables, *(column.name for column in SCORES.columns), "event_time_ms"}
    for name in values:
        if name not in known:
            raise UsageError(f"standard input: unknown variable {name!r}{nearest(name, sorted(known))}")
    return values


def _from_history(path: str, event_id: str, user_id: str | None) -> dict[str, Any]:
    import tempfile
    from pathlib import Path

    import duckdb

    from fraud_pipeline.backtest.sources import SCORES, attach_scores

    with tempfile.TemporaryDirectory() as directory, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        attach_scores(connection, path, "TRUE", Path(directory))
        found = connection.execute(
            f"SELECT * FROM {SCORES} WHERE event_id = $id AND ($user IS NULL OR user_id = $user) "
            "QUALIFY ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY version DESC, scored_time DESC) = 1",
            {"id": event_id, "user": user_id},
        )
        names = [column[0] for column in found.description or []]
        rows = found.fetchall()
    if not rows:
        raise UsageError(f"{path} has no event {event_id!r}; give the event_id of a row of its table scores")
    if len(rows) > 1:
        users = ", ".join(sorted(str(row[names.index("user_id")]) for row in rows)[:5])
        raise UsageError(f"{path} has {len(rows)} events {event_id!r}, of users {users}; choose with --user")
    return dict(zip(names, rows[0], strict=True))
