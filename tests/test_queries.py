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
from table_rows import DAY_MS, NOON_MS, label, results, scored

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
    keys = {
        "ledger": "day",
        "dead_letter_summary": "day, reason, field",
        "rule_performance_daily": "day, rule_id, is_shadow",
        "fraud_losses": "day, currency",
        "alerts_by_entity": "entity, entity_id",
        "shared_devices": "device_id, user_id",
        "linked_users": "user_id, linked_user_id",
    }
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


def _table(database: Path | str, sql: str) -> list[dict[str, Any]]:
    columns, rows = _on_duckdb(Path(database), sql)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def test_the_answer_at_arrival_settles_what_was_prevented(tmp_path: Path) -> None:
    rows = [
        scored("blocked", action="block", amount_minor=100),
        scored("held", action="review", amount_minor=20),
        scored("missed", action="allow", amount_minor=3_000),
        scored("found", action="allow", amount_minor=500),
        scored("found", action="block", amount_minor=500, version=2),
        scored("wrongly", action="block", amount_minor=7),
        scored("excused", action="block", amount_minor=9),
        scored("excused", action="allow", amount_minor=9, version=2),
        scored("silent", action="block", amount_minor=11),
        scored("yen", action="block", amount_minor=13, currency="JPY"),
        scored("login", event_type="login", action="block", amount_minor=None, currency=None),
        scored("blocked", user_id="u2", action="allow", amount_minor=100, at_ms=NOON_MS + DAY_MS),
    ]
    labels = [label(event, True) for event in ("blocked", "held", "missed", "found", "yen", "login")]
    database = results(tmp_path / "results.duckdb", rows, [*labels, label("wrongly", False), label("excused", False)])
    euro, yen, other = _table(database, "SELECT * FROM fraud_losses ORDER BY day, currency")
    del euro["day"], euro["currency"]
    assert euro == {
        "payment_count": 7,
        "fraud_count": 4,
        "unlabelled_count": 1,
        "fraud_amount_minor": 3_620,
        "prevented_amount_minor": 100,
        "held_amount_minor": 20,
        "missed_amount_minor": 3_500,
        "found_later_amount_minor": 500,
        "missed_count": 2,
        "legitimate_blocked_count": 2,
        "legitimate_blocked_amount_minor": 16,
        "legitimate_reviewed_count": 0,
    }
    assert (yen["currency"], yen["prevented_amount_minor"]) == ("JPY", 13)
    assert (other["payment_count"], other["fraud_count"], other["unlabelled_count"]) == (1, 0, 1)


def test_rules_are_judged_by_the_day_of_their_events_those_on_trial_apart(tmp_path: Path) -> None:
    rows = [
        scored("e1", fired_rules=["a", "b"], action="block"),
        scored("e2", fired_rules=["a"], shadow_rules=["t"], action="review"),
        scored("e3", fired_rules=["a"]),
        scored("e4", shadow_rules=["t"]),
        scored("e5"),
        scored("e6", fired_rules=["a"], at_ms=NOON_MS + DAY_MS),
        scored("e7", fired_rules=["b"]),
        scored("e7", version=2),
    ]
    labels = [label("e1", True), label("e2", False), label("e4", True), label("e5", True), label("e6", True)]
    database = results(tmp_path / "results.duckdb", rows, labels)
    found = {
        (row["day"].day, row["rule_id"], row["is_shadow"]): (
            row["hit_count"],
            row["fraud_count"],
            row["legitimate_count"],
            row["unlabelled_count"],
            row["precision_of_judged"],
            row["recall_of_judged"],
            row["blocked_count"],
        )
        for row in _table(database, "SELECT * FROM rule_performance_daily")
    }
    assert found == {
        (1, "a", False): (3, 1, 1, 1, 0.5, 1 / 3, 1),
        (1, "b", False): (1, 1, 0, 0, 1.0, 1 / 3, 1),
        (1, "t", True): (2, 1, 1, 0, 0.5, 1 / 3, 0),
        (2, "a", False): (1, 1, 0, 0, 1.0, 1.0, 0),
    }


def test_a_rule_on_trial_is_told_by_what_it_would_add(tmp_path: Path, database: Path) -> None:
    rows = [
        scored("e1", shadow_rules=["t"]),
        scored("e2", shadow_rules=["t"], action="review"),
        scored("e3", shadow_rules=["t", "u"], action="block"),
        scored("e4", shadow_rules=["t"]),
        scored("e5", shadow_rules=["t"]),
        scored("e5", shadow_rules=["t"], user_id="u2"),
        scored("e6", fired_rules=["live"], action="review"),
        scored("e7", shadow_rules=["u"]),
        scored("e7", version=2),
        scored("e8", shadow_rules=["t"], at_ms=NOON_MS + DAY_MS),
    ]
    labels = [label("e1", True), label("e2", True), label("e4", False), label("e8", True)]
    written = Path(results(tmp_path / "results.duckdb", rows, labels))
    found = [
        (row.pop("day").day, row.pop("rule_id"), tuple(row.values())) for row in _answer(written, "rules_on_trial")
    ]
    # hits, users; blocked, reviewed, allowed; of those allowed: fraud, legitimate, without a verdict
    assert found == [
        (1, "t", (6, 2, 1, 1, 4, 1, 1, 2)),
        (2, "t", (1, 1, 0, 0, 1, 1, 0, 0)),
        (1, "u", (1, 1, 1, 0, 0, 0, 0, 0)),
    ]
    (card_tests,) = _answer(database, "rules_on_trial")
    assert (card_tests["hit_count"], card_tests["allowed_now"]) == (6, 2), "the other four are found without it"


def test_users_are_linked_by_their_devices_but_not_by_those_of_a_crowd(tmp_path: Path) -> None:
    crowd = [scored(f"c{i}", user_id=f"crowd{i}", device_id="kiosk") for i in range(51)]
    rows = [
        scored("e1", user_id="ann", device_id="d1"),
        scored("e2", user_id="ben", device_id="d1", action="review"),
        scored("e3", user_id="ann", device_id="d2"),
        scored("e4", user_id="ben", device_id="d2"),
        scored("e5", user_id="cat", device_id="d2"),
        scored("e6", user_id="dan", device_id="d3"),
        scored("e7", user_id="ann", device_id=None),
        scored("e8", user_id="eve", device_id=None),
        *crowd,
    ]
    database = results(tmp_path / "results.duckdb", rows, [label("e2", True, user_id="ben")])
    linked = {(row["user_id"], row["linked_user_id"]): row for row in _table(database, "SELECT * FROM linked_users")}
    names = ("ann", "ben", "cat")
    assert linked.keys() == {(one, other) for one in names for other in names if one != other}
    assert linked["ann", "ben"]["shared_device_count"] == 2
    assert (linked["ann", "ben"]["linked_fraud_count"], linked["ann", "ben"]["linked_flagged_count"]) == (1, 1)
    assert linked["ben", "ann"]["linked_fraud_count"] == 0
    users = {(row["device_id"], row["user_count"]) for row in _table(database, "SELECT * FROM shared_devices")}
    assert users == {("d1", 2), ("d2", 3), ("kiosk", 51)}


def test_the_attackers_address_and_device_lead_what_is_behind_the_alerts(database: Path) -> None:
    behind = {(row["entity"], row["entity_id"]): row for row in _answer(database, "alerts_by_entity")}
    address = behind["ip", "203.0.113.9"]
    assert (address["alert_count"], address["flagged_user_count"], address["flagged_count"]) == (4, 3, 8)
    assert (behind["device", "bot"]["flagged_user_count"], behind["payee", "p9"]["flagged_fraud_count"]) == (2, 1)
    assert ("payee", "p1") not in behind, "nothing suspicious was paid to it"
    assert next(iter(behind)) == ("ip", "203.0.113.9")


def test_the_attackers_device_links_those_whom_it_tried(database: Path) -> None:
    found = {(row["user_id"], row["linked_user_id"]) for row in _answer(database, "users_sharing_a_device")}
    assert found == {("bob", "frank"), ("frank", "bob")}


def test_a_correction_says_how_long_the_first_answer_stood(database: Path) -> None:
    (change,) = _table(database, "SELECT * FROM decision_changes")
    assert (change["user_id"], change["first_action"], change["last_action"]) == ("alice", "review", "allow")
    assert (change["first_fired_rules"], change["last_fired_rules"]) == (["far_above_mean"], [])
    # It was scored 20 ms after its receipt, and again when the session that a late event joined was finalized.
    assert change["seconds_until"] == 329
