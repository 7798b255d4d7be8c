"""The tables in a DuckDB file, and `fraud-pipeline query` on it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sample import sample

from fraud_pipeline.cli import main
from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables import dialect
from fraud_pipeline.tables.changes import DataLossError
from fraud_pipeline.tables.duckdb import append_jsonl, connect, create_tables, load, open_results
from fraud_pipeline.tables.query import run_query
from fraud_pipeline.tables.rows import dead_letter_row
from fraud_pipeline.tables.schema import TABLES
from fraud_pipeline.tables.views import VIEWS
from transforms.events import DeadLetter

INTAKE = {"count_id": "c", "received_time": "2026-03-01T12:00:00.123Z", "message_count": 7}


def _lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file with the sample; read only, please."""
    directory = tmp_path_factory.mktemp("results")
    load(
        directory / "results.duckdb",
        {name: [_lines(directory / f"{name}.jsonl", rows)] for name, rows in sample().items()},
    )
    return directory / "results.duckdb"


def test_tables_have_the_declared_columns_types_and_comments(tmp_path: Path) -> None:
    types = {
        "STRING": "VARCHAR",
        "INT64": "BIGINT",
        "FLOAT64": "DOUBLE",
        "BOOL": "BOOLEAN",
        "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
        "BYTES": "BLOB",
    }
    with open_results(tmp_path / "r.duckdb") as connection:
        for table in TABLES.values():
            columns = connection.execute(
                "SELECT column_name, data_type, NOT is_nullable, comment FROM duckdb_columns() WHERE table_name = ? "
                "ORDER BY column_index",
                [table.name],
            ).fetchall()
            assert columns == [
                (
                    column.name,
                    types[column.type] + ("[]" if column.mode == "REPEATED" else ""),
                    column.mode == "REQUIRED",
                    column.description,
                )
                for column in table.columns
            ]
        comments = dict(
            connection.execute(
                "SELECT table_name, comment FROM duckdb_tables() UNION ALL "
                "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"
            ).fetchall()
        )
    assert comments == {
        **{table.name: table.description for table in TABLES.values()},
        **{view.name: view.description for view in VIEWS.values()},
    }


def test_rows_come_back_as_they_were_written(database: Path) -> None:
    rows = sample()
    for table, written in rows.items():
        result = run_query(database, f"SELECT * FROM {table}")
        text = io.StringIO()
        for row in result.rows:
            text.write(_as_json(dict(zip(result.columns, row, strict=True))) + "\n")
        found = [json.loads(line) for line in text.getvalue().splitlines()]
        left_out = {column.name: None for column in TABLES[table].columns}
        assert sorted(map(_order, found)) == sorted(_order({**left_out, **row}) for row in written), table


def _as_json(row: dict[str, Any]) -> str:
    import base64
    from datetime import datetime

    def default(value: Any) -> str:
        if isinstance(value, datetime):
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return base64.b64encode(value).decode()

    return json.dumps(row, default=default)


def _order(row: dict[str, Any]) -> str:
    return json.dumps({k: float(v) if isinstance(v, int | float) else v for k, v in row.items()}, sort_keys=True)


def test_making_the_tables_again_changes_nothing(tmp_path: Path) -> None:
    with connect(tmp_path / "r.duckdb") as connection:
        assert len(create_tables(connection)) == len(TABLES) + len(VIEWS)
        assert create_tables(connection) == []


def test_a_second_run_is_added_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "r.duckdb"
    first = load(path, {"intake": [_lines(tmp_path / "1", [INTAKE])], "scores": []})
    second = load(path, {"intake": [_lines(tmp_path / "2", [{**INTAKE, "count_id": "d"}, INTAKE])]})
    assert (first, second) == ({"intake": 1, "scores": 0}, {"intake": 2})
    assert list(run_query(path, "SELECT count_id FROM intake ORDER BY 1").rows) == [("c",), ("c",), ("d",)]
    assert list(run_query(path, "SELECT messages_in FROM ledger").rows) == [(14,)]
    assert [file.name for file in path.parent.iterdir()] == ["r.duckdb"]


@pytest.mark.parametrize(
    "line",
    [
        '{"count_id": "d", "received_time": null, "message_count": 1}',
        '{"count_id": "d", "received_time": "2026-03-01T12:00:00.123Z", "message_count": "x"}',
        '{"count_id": "d", "received_ti',
    ],
)
def test_a_bad_line_leaves_everything_as_it_was(line: str, tmp_path: Path) -> None:
    path = tmp_path / "results" / "r.duckdb"
    good, bad = _lines(tmp_path / "good", [INTAKE]), tmp_path / "bad"
    bad.write_text(json.dumps(INTAKE) + "\n" + line)
    with pytest.raises(duckdb.Error):
        load(path, {"intake": [good, bad]})
    assert list(path.parent.iterdir()) == [], "a new file is there whole, or not at all"
    load(path, {"intake": [good]})
    with pytest.raises(duckdb.Error):
        load(path, {"intake": [good, bad]})
    assert list(run_query(path, "SELECT COUNT(*) AS n FROM intake").rows) == [(1,)]


def test_compressed_lines_and_lines_of_an_older_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl.gz"
    row = {k: v for k, v in sample()["scores"][0].items() if k not in ("login_count_1m", "fired_rules")}
    path.write_bytes(gzip.compress(json.dumps(row).encode()))
    with open_results(tmp_path / "r.duckdb") as connection:
        assert append_jsonl(connection, "scores", path) == 1
        assert append_jsonl(connection, "scores", []) == 0
        found = connection.execute("SELECT login_count_1m, fired_rules, user_id FROM scores").fetchall()
    assert found == [(None, [], row["user_id"])]


def test_a_payload_of_10_mb_is_kept_byte_for_byte(tmp_path: Path) -> None:
    payload = bytes(range(256)) * 40_000
    row = dead_letter_row(DeadLetter("TOO_LARGE", None, "m", payload, 0, "s"))
    load(tmp_path / "r.duckdb", {"dead_letters": [_lines(tmp_path / "dead_letters.jsonl", [row])]})
    assert list(run_query(tmp_path / "r.duckdb", "SELECT payload FROM dead_letters").rows) == [(payload,)]


def test_a_file_of_an_older_version_gets_the_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    load(path, {"scores": [_lines(tmp_path / "old", sample()["scores"][:1])]})
    with connect(path) as connection:
        connection.execute("DROP VIEW latest_scores")
        connection.execute("ALTER TABLE scores DROP COLUMN login_count_1m")
        connection.execute("ALTER TABLE scores ALTER COLUMN rules_version SET NOT NULL")
        connection.execute("COMMENT ON COLUMN scores.score IS 'Old.'")
    with connect(path) as connection:
        done = [(change.action, change.name) for change in create_tables(connection)]
    assert done == [
        ("describe column", "scores.score"),
        ("add column", "scores.login_count_1m"),
        ("create view", "latest_scores"),
    ]
    load(path, {"scores": [_lines(tmp_path / "new", sample()["scores"][1:2])]})
    rows = run_query(path, "SELECT login_count_1m IS NULL AS unknown FROM latest_scores ORDER BY 1").rows
    assert list(rows) == [(False,), (True,)]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE intake ADD COLUMN mine VARCHAR", "intake.mine is not declared"),
        ("ALTER TABLE scores ALTER COLUMN score TYPE VARCHAR", "scores.score is STRING, declared FLOAT64"),
        (
            "ALTER TABLE intake ALTER COLUMN message_count DROP NOT NULL",
            "message_count is NULLABLE, declared REQUIRED",
        ),
    ],
)
def test_a_change_that_loses_data_is_refused_and_nothing_is_changed(statement: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    load(path, {"intake": [_lines(tmp_path / "1", [INTAKE])]})
    with connect(path) as connection:
        connection.execute("DROP VIEW ledger")
        connection.execute("DROP VIEW latest_scores")
        connection.execute(statement)
    with pytest.raises(DataLossError, match=words):
        open_results(path)
    with connect(path, read_only=True) as connection:
        assert connection.execute("SELECT message_count FROM intake").fetchall() == [(7,)]
        assert connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = 'ledger'").fetchall() == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE ledger (x BIGINT)", "ledger is a BASE TABLE in this file, not a view"),
        ("CREATE VIEW intake AS SELECT 1 AS x", "intake is a VIEW in this file, not a table"),
    ],
)
def test_something_else_of_the_same_name_is_told(statement: str, words: str, tmp_path: Path) -> None:
    with connect(tmp_path / "r.duckdb") as connection:
        connection.execute(statement)
    with pytest.raises(UsageError, match=words):
        open_results(tmp_path / "r.duckdb")


def test_a_file_that_another_process_writes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.duckdb"
    open_results(path).close()
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(UsageError, match="open in another process"):
            open_results(path)
        other.communicate()


def test_tables_create_makes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.duckdb"
    assert main(["tables", "create", "--duckdb", str(path)]) == 0
    assert "create table" in capsys.readouterr().out
    assert main(["tables", "create", "--duckdb", str(path)]) == 0
    assert "everything is as declared" in capsys.readouterr().out


def _query(database: Path, *arguments: str) -> int:
    return main(["query", "--database", str(database), *arguments])


@pytest.mark.parametrize(
    "name",
    ["latest_scores", "fraud.latest_scores", "`fraud.latest_scores`", "`my-project.fraud.latest_scores`",
     "my-project.fraud.latest_scores", "`my-project`.fraud.latest_scores"],
)  # fmt: skip
def test_a_table_may_be_named_with_dataset_and_project(name: str, database: Path) -> None:
    sql = f"SELECT COUNT(*) AS n FROM {name}"
    assert list(run_query(database, sql).rows) == [(38,)]


def test_a_column_may_be_named_with_its_table_and_dataset(database: Path) -> None:
    sql = "SELECT fraud.intake.count_id, intake.count_id AS id FROM fraud.intake ORDER BY 1 LIMIT 1"
    ((left, right),) = run_query(database, sql).rows
    assert left == right


SQL = (
    "SELECT event_time, user_id, score, amount_minor, fired_rules, is_new_ip FROM fraud.latest_scores "
    "WHERE user_id = 'bob' AND event_type = 'payment'"
)


def test_json_is_typed(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _query(database, SQL, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "event_time": "2026-03-01T13:03:00Z",
            "user_id": "bob",
            "score": 0.95,
            "amount_minor": 90_000,
            "fired_rules": ["payment_after_takeover"],
            "is_new_ip": False,
        }
    ]
    assert _query(database, "SELECT 1 AS x FROM fraud.intake WHERE FALSE", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []
    sql = "SELECT payload FROM fraud.dead_letters WHERE reason = 'NOT_UTF8' LIMIT 1"
    assert _query(database, sql, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [{"payload": "//4="}]


def test_csv_has_a_header_and_all_rows(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _query(database, SQL, "--format", "csv", "--max-rows", "0") == 0
    header, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert header == ["event_time", "user_id", "score", "amount_minor", "fired_rules", "is_new_ip"]
    assert row == ["2026-03-01T13:03:00Z", "bob", "0.95", "90000", '["payment_after_takeover"]', "false"]


def test_a_table_shows_values_for_people_and_says_when_there_are_more(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _query(database, SQL) == 0
    shown = capsys.readouterr().out
    for word in (
        "event_time",
        "2026-03-01 13:03:00",
        "bob",
        "0.95",
        "90000",
        "payment_after_takeover",
        "(1 row)",
    ):
        assert word in shown
    assert _query(database, "SELECT * FROM fraud.scores", "--max-rows", "3") == 0
    assert "the first 3 rows" in capsys.readouterr().out


def test_what_a_message_held_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = dead_letter_row(DeadLetter("NOT_JSON", None, "m\x1b[2J [bold]b[/bold]", b"\x1b]0;x\x07\xff", 0, "s"))
    load(tmp_path / "r.duckdb", {"dead_letters": [_lines(tmp_path / "d.jsonl", [row])]})
    assert _query(tmp_path / "r.duckdb", "SELECT message, payload FROM dead_letters") == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]b[/bold]" in shown


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELEC 1", "line 1, column 7"),
        ("SELECT 1\nFROM (SELECT 2", "line 2, column 14"),
        ("SELECT 'abc", "isn't closed"),
        ("", "not 0"),
        ("SELECT 1; SELECT 2", "not 2"),
        ("DELETE FROM scores WHERE TRUE", "only SELECT can be run, not DELETE"),
        ("DROP TABLE scores", "not DROP"),
        ("SELECT * FROM fraud.score", "no table 'score' (line 1, column 21); near: scores"),
        ("SELECT * FROM ledgr", "no table 'ledgr' (line 1, column 15); near: ledger"),
        ("SELECT *\nFROM `p.d.latest_scored`", "no table 'latest_scored' (line 2, column "),
        ("SELECT usr_id FROM fraud.scores", "no column 'usr_id' (line 1, column 8); near: user_id"),
        (
            "SELECT s.amount FROM fraud.scores AS s",
            "no column 'amount' (line 1, column 10); near: amount_minor",
        ),
        ("SELECT x.score FROM fraud.scores", "no 'x' in FROM (line 1, column 8); there are: scores"),
        ("SELECT no_such(1)", "no_such"),
        ("SELECT NET.HOST('x')", "host"),
        ("SELECT APPROX_TOP_COUNT(score, 3) FROM fraud.scores", "no counterpart in DuckDB"),
        ("SELECT CAST(user_id AS INT64) FROM fraud.scores", "Could not convert string"),
        ("SELECT 1 AS x, 2 AS x", "more than one column 'x'"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
    ],
)
def test_a_mistake_in_sql_is_one_line_with_its_place(
    sql: str, words: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _query(database, sql) == 2
    error = capsys.readouterr().err
    assert words.casefold() in error.casefold()
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either a statement"),
        (["SELECT 1", "--file", "x.sql"], "give either a statement"),
        (["--file", "x.sql"], "'x.sql' can't be read: No such file"),
        (["--file", "bad.sql"], "not UTF-8"),
        (["SELECT 1", "--database", "x.duckdb"], "'x.duckdb' is not there"),
        (["SELECT 1", "--database", "bad.sql"], "can't be opened as a DuckDB file"),
    ],
)
def test_a_mistake_in_the_arguments_is_one_line(
    arguments: list[str],
    words: str,
    database: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.sql").write_bytes(b"SELECT '\xff'" * 1000)
    assert _query(database, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_statement_can_come_from_a_file(database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "q.sql").write_text("-- What?\nSELECT 'ä' AS x")
    assert _query(database, "--file", str(tmp_path / "q.sql"), "--format", "csv") == 0
    assert capsys.readouterr().out.split() == ["x", "ä"]


def test_a_view_query_is_the_file_with_names_put_in_full() -> None:
    sql = "-- scores\nSELECT scores.x, 'scores' AS y\nFROM scores, (SELECT 1 FROM other.scores) JOIN `scores` AS z"
    assert dialect.qualified(sql, {"scores"}, "p-1", "d") == (
        "-- scores\nSELECT scores.x, 'scores' AS y\nFROM `p-1`.`d`.scores, (SELECT 1 FROM other.scores) "
        "JOIN `p-1`.`d`.`scores` AS z"
    )
