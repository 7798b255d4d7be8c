"""The analyst's questions: the same answer on DuckDB and on BigQuery's emulator, and the right one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery as google_bigquery
from sample import ms, sample

from fraud_pipeline.emulators.bigquery import Emulator
from fraud_pipeline.tables.bigquery import create_or_update
from fraud_pipeline.tables.duckdb import load
from fraud_pipeline.tables.query import run_query
from fraud_pipeline.tables.rows import split_row
from fraud_pipeline.tables.views import VIEWS, description

QUERIES = sorted((Path(__file__).parents[1] / "docs" / "queries").glob("*.sql"))
IDS = [path.stem for path in QUERIES]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file with the sample."""
    directory = tmp_path_factory.mktemp("results")
    staged = {}
    for table, rows in sample().items():
        staged[table] = [directory / f"{table}.jsonl"]
        staged[table][0].write_text("".join(json.dumps(row) + "\n" for row in rows))
    load(directory / "results.duckdb", staged)
    return directory / "results.duckdb"


@pytest.fixture(scope="module")
def dataset(bigquery: Emulator) -> Iterator[google_bigquery.Client]:
    """A client of a project with the sample in the dataset `fraud`."""
    client = bigquery.client("queries-test")
    create_or_update(client, "fraud")
    for table, rows in sample().items():
        parts = [part for row in rows for part in split_row(table, row)]
        assert client.insert_rows_json(f"queries-test.fraud.{table}", parts) == []
    yield client
    client.close()


def _on_duckdb(database: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    result = run_query(database, sql)
    return result.columns, list(result.rows)


def _on_bigquery(client: google_bigquery.Client, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    rows = client.query_and_wait(sql)
    return [field.name for field in rows.schema], [tuple(row.values()) for row in rows]


def _assert_same(left: list[tuple[Any, ...]], right: list[tuple[Any, ...]]) -> None:
    assert len(left) == len(right)
    for left_row, right_row in zip(left, right, strict=True):
        assert [_approx(value) for value in left_row] == list(right_row)


def _approx(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


def test_there_are_ten_questions_at_least_each_with_what_to_look_at() -> None:
    assert len(QUERIES) >= 10
    for path in QUERIES:
        assert re.match(r"[A-Z].*\? .*Look (at|for) ", description(path.read_text())), path.name


def test_the_index_of_questions_is_complete() -> None:
    index = (QUERIES[0].parent / "README.md").read_text()
    assert sorted(re.findall(r"\((\w+\.sql)\)", index)) == [path.name for path in QUERIES]


@pytest.mark.emulator
@pytest.mark.parametrize("path", QUERIES, ids=IDS)
def test_a_question_has_the_same_answer_on_both(path: Path, database: Path, dataset: google_bigquery.Client) -> None:
    sql = path.read_text()
    columns, here = _on_duckdb(database, sql)
    assert here, "a question without an answer shows nothing"
    assert (columns, len(here)) == (_on_bigquery(dataset, sql)[0], len(here))
    _assert_same(here, _on_bigquery(dataset, sql)[1])


@pytest.mark.emulator
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_the_same_on_both(view: str, database: Path, dataset: google_bigquery.Client) -> None:
    keys = {"ledger": "day", "dead_letter_summary": "day, reason, field"}
    sql = f"SELECT * FROM fraud.{view} ORDER BY {keys.get(view, 'user_id, ' + _time_and_id(view))}"
    columns, here = _on_duckdb(database, sql)
    assert here
    there = _on_bigquery(dataset, sql)
    assert columns == there[0]
    _assert_same(here, there[1])


def _time_and_id(view: str) -> str:
    return "session_start" if "session" in view else "event_time, event_id"


def _answer(database: Path, name: str) -> list[dict[str, Any]]:
    path = next(path for path in QUERIES if path.stem == name)
    columns, rows = _on_duckdb(database, path.read_text())
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_the_ledger_balances_every_day(database: Path) -> None:
    *days, total = _answer(database, "ledger")
    assert [day["balance"] for day in days] == [0, 0]
    assert total == {
        "day": "all",
        "messages_in": 55,
        "scored": 38,
        "labels": 7,
        "duplicate": 2,
        "too_late": 1,
        "conflict": 1,
        "malformed": 5,
        "sink_rejected": 1,
        "balance": 0,
    }


def test_the_guessed_password_is_found_with_what_was_paid_after_it(database: Path) -> None:
    (found,) = _answer(database, "failed_logins_then_success")
    assert (found["user_id"], found["failures_before"]) == ("bob", 8)
    assert (found["payments_after"], found["amount_minor_after"]) == (1, 90_000)


def test_the_withdrawn_alert_is_a_changed_decision(database: Path) -> None:
    (changed,) = _answer(database, "changed_decisions")
    assert (changed["first_action"], changed["last_action"], changed["last_trigger"]) == (
        "review",
        "allow",
        "LATE",
    )


def test_the_attackers_address_leads_those_that_users_share(database: Path) -> None:
    first = _answer(database, "shared_ips")[0]
    assert (first["ip"], first["users"], first["failed_logins"]) == ("203.0.113.9", 3, 12)


def test_only_journeys_beyond_an_airliner_are_impossible(database: Path) -> None:
    (journey,) = _answer(database, "impossible_travel")
    assert journey["user_id"] == "carol"
    assert journey["travel_km"] == pytest.approx(6385, abs=5)


def test_shares_add_up(database: Path) -> None:
    assert sum(row["share"] for row in _answer(database, "score_distribution")) == pytest.approx(1, abs=1e-3)
    assert sum(row["share"] for row in _answer(database, "dead_letters_by_reason")) == pytest.approx(1, abs=1e-3)


def test_the_last_verdict_counts(database: Path) -> None:
    rules = {row["rule_id"]: row for row in _answer(database, "rule_performance")}
    # The analyst said legitimate, the bank charged back later.
    assert (rules["far_above_mean"]["fraud"], rules["far_above_mean"]["legitimate"]) == (1, 0)
    assert rules["many_failures"]["precision_of_judged"] is None


def test_a_row_that_was_written_again_counts_once(database: Path, tmp_path: Path) -> None:
    rows = sample()
    staged = {}
    for table in rows:
        staged[table] = [tmp_path / f"{table}.jsonl"]
        staged[table][0].write_text("".join(json.dumps(row) + "\n" for row in rows[table] * 3))
    load(tmp_path / "thrice.duckdb", staged)
    for path in QUERIES:
        once, thrice = (
            _on_duckdb(database, path.read_text()),
            _on_duckdb(tmp_path / "thrice.duckdb", path.read_text()),
        )
        assert once == thrice, path.name


def test_sessions_that_a_late_event_joined_are_one(database: Path) -> None:
    sql = "SELECT session_start, event_count, trigger FROM current_sessions WHERE user_id = 'alice' ORDER BY 1"
    start, events, trigger = _on_duckdb(database, sql)[1][-1]
    assert (start.timestamp() * 1000, events, trigger) == (ms("02 12:00:00"), 3, "LATE")
    panes = "SELECT session_start, event_count, pane FROM session_rollups_final WHERE user_id = 'alice' ORDER BY 1"
    assert _on_duckdb(database, panes)[1][-1] == (start, 3, "LATE")


def test_an_alert_on_an_event_that_is_allowed_by_now_is_gone(database: Path) -> None:
    assert _on_duckdb(database, "SELECT DISTINCT user_id FROM alerts WHERE user_id = 'alice'")[1] == [("alice",)]
    assert _on_duckdb(database, "SELECT user_id FROM current_alerts WHERE user_id = 'alice'")[1] == []


def test_a_session_that_still_runs_has_no_final_rollup(database: Path) -> None:
    assert _on_duckdb(database, "SELECT DISTINCT pane FROM session_rollups WHERE user_id = 'grace'")[1] == [("EARLY",)]
    assert _on_duckdb(database, "SELECT pane FROM session_rollups_final WHERE user_id = 'grace'")[1] == []


def test_the_last_day_of_alerts_ends_with_the_newest_one(database: Path) -> None:
    users = {row[0] for row in _on_duckdb(database, "SELECT user_id FROM alerts_last_day")[1]}
    everyone = {row[0] for row in _on_duckdb(database, "SELECT user_id FROM current_alerts")[1]}
    # The newest alert is of 12:08 on the second day; carol's is of 8:40 on the first.
    assert (everyone - users, users) == ({"carol"}, {"bob", "dave", "erin", "frank"})
