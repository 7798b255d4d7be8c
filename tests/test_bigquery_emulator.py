"""The BigQuery emulator, the tables made in it, and that SQL means the same there and on DuckDB."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from google.cloud import bigquery as google_bigquery

from fraud_pipeline.cli import main
from fraud_pipeline.emulators.bigquery import Emulator, bigquery_emulator, install
from fraud_pipeline.emulators.process import EmulatorError, server
from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables import dialect
from fraud_pipeline.tables.bigquery import create_or_update, from_bigquery, make_client, view_query
from fraud_pipeline.tables.changes import DataLossError
from fraud_pipeline.tables.rows import dead_letter_row, split_row
from fraud_pipeline.tables.schema import TABLES, Column, Table
from fraud_pipeline.tables.views import VIEWS
from transforms.events import DeadLetter

emulator = pytest.mark.emulator


@pytest.fixture(scope="module")
def client(bigquery: Emulator) -> Iterator[google_bigquery.Client]:
    """A client of a project of this module's own."""
    client = bigquery.client("tables-test")
    yield client
    client.close()


@pytest.fixture(scope="module")
def made(client: google_bigquery.Client) -> list[tuple[str, str]]:
    """What making the dataset `fraud` changed."""
    return [(change.action, change.name) for change in create_or_update(client, "fraud", "EU")]


@emulator
def test_tables_and_views_are_made_once(client: google_bigquery.Client, made: list[tuple[str, str]]) -> None:
    assert made == [
        ("create dataset", "tables-test.fraud"),
        *[("create table", name) for name in TABLES],
        *[("create view", name) for name in VIEWS],
    ]
    assert create_or_update(client, "fraud") == []
    assert client.get_dataset("fraud").location == "EU"


@emulator
@pytest.mark.parametrize("declared", TABLES.values(), ids=list(TABLES))
def test_a_table_is_partitioned_clustered_and_described(
    declared: Table, client: google_bigquery.Client, made: list[tuple[str, str]]
) -> None:
    table = client.get_table(f"fraud.{declared.name}")
    assert (table.time_partitioning.type_, table.time_partitioning.field) == ("DAY", declared.partition)
    assert table.clustering_fields == list(declared.cluster)
    assert table.description == declared.description
    assert from_bigquery(table).columns == declared.columns


@emulator
def test_a_view_is_described_and_names_its_tables_in_full(
    client: google_bigquery.Client, made: list[tuple[str, str]]
) -> None:
    for view in VIEWS.values():
        table = client.get_table(f"fraud.{view.name}")
        assert (table.table_type, table.description) == ("VIEW", view.description)
        assert table.view_query == view_query(view, "tables-test", "fraud")


@emulator
def test_a_dataset_stays_where_it_is(client: google_bigquery.Client, made: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError, match="is in EU, not in US"):
        create_or_update(client, "fraud", "US")
    assert create_or_update(client, "fraud", "eu") == []


SMALL = Table(
    "small",
    "Small.",
    (
        Column("id", "STRING", "The id.", "REQUIRED"),
        Column("at", "TIMESTAMP", "When.", "REQUIRED"),
        Column("n", "INT64", "How many.", "REQUIRED"),
    ),
    partition="at",
    cluster=("id",),
    key=("id",),
)
ROW = {"id": "a", "at": "2026-03-01T00:00:00.000Z", "n": 1}


def _small(**fields: Any) -> Table:
    values = {name: getattr(SMALL, name) for name in SMALL.__struct_fields__}
    return Table(**{**values, **fields})


@emulator
def test_columns_are_added_and_rows_stay(client: google_bigquery.Client) -> None:
    create_or_update(client, "growing", tables=[SMALL], views=[])
    assert client.insert_rows_json("tables-test.growing.small", [ROW]) == []
    grown = _small(
        description="Grown.",
        columns=(
            SMALL.columns[0],
            Column("tags", "STRING", "Tags.", "REPEATED"),
            Column("at", "TIMESTAMP", "When it was.", "REQUIRED"),
            Column("n", "INT64", "How many."),
            Column("share", "FLOAT64", "Which part."),
        ),
        cluster=("id", "n"),
    )
    planned = create_or_update(client, "growing", tables=[grown], views=[], dry_run=True)
    assert from_bigquery(client.get_table("growing.small")).columns == SMALL.columns, "a dry run changes nothing"
    done = create_or_update(client, "growing", tables=[grown], views=[])
    assert [(change.action, change.name) for change in done] == [
        ("add column", "small.tags"),
        ("describe column", "small.at"),
        ("relax column", "small.n"),
        ("add column", "small.share"),
        ("cluster", "small"),
        ("describe", "small"),
    ]
    assert done == planned
    table = from_bigquery(client.get_table("growing.small"))
    assert {column.name: column for column in table.columns} == {column.name: column for column in grown.columns}
    assert (table.description, table.cluster, table.partition) == ("Grown.", ("id", "n"), "at")
    assert create_or_update(client, "growing", tables=[grown], views=[]) == []
    new = {"id": "b", "at": ROW["at"], "share": 0.5, "tags": ["x"]}
    assert client.insert_rows_json("tables-test.growing.small", [new]) == []
    rows = client.query_and_wait("SELECT id, n, share, tags FROM growing.small ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [("a", 1, None, []), ("b", None, 0.5, ["x"])]


@emulator
@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (_small(columns=SMALL.columns[:2]), "small.n is not declared any more"),
        (_small(columns=(*SMALL.columns[:2], Column("n", "STRING", "N.", "REQUIRED"))), "is INT64, declared STRING"),
        (_small(columns=(*SMALL.columns[:2], Column("n", "INT64", "N.", "REPEATED"))), "declared REPEATED"),
        (_small(columns=(*SMALL.columns, Column("m", "INT64", "M.", "REQUIRED"))), "small.m is new and REQUIRED"),
        (_small(partition="other", columns=(*SMALL.columns, Column("other", "TIMESTAMP", "O."))), "not partitioned"),
    ],
)  # fmt: skip
def test_a_change_that_would_lose_data_is_refused_and_nothing_is_changed(
    declared: Table, words: str, client: google_bigquery.Client
) -> None:
    create_or_update(client, "refusing", tables=[SMALL], views=[])
    other = Table("other", "Other.", SMALL.columns, "at", ("id",), ("id",))
    with pytest.raises(DataLossError, match=words):
        create_or_update(client, "refusing", tables=[other, declared], views=[])
    assert [table.table_id for table in client.list_tables("refusing")] == ["small"]
    assert from_bigquery(client.get_table("refusing.small")).columns == SMALL.columns


@emulator
def test_a_view_that_was_changed_is_put_right(client: google_bigquery.Client, made: list[tuple[str, str]]) -> None:
    view = client.get_table("fraud.dead_letter_summary")
    view.view_query = "SELECT 1 AS x"
    client.update_table(view, ["view_query"])
    assert [(c.action, c.name) for c in create_or_update(client, "fraud")] == [("replace view", "dead_letter_summary")]
    client.query_and_wait("SELECT dead_letter_count FROM fraud.dead_letter_summary")


@emulator
def test_a_view_in_the_place_of_a_table_is_told(client: google_bigquery.Client) -> None:
    client.create_dataset("taken")
    view = google_bigquery.Table("tables-test.taken.small")
    view.view_query = "SELECT 1 AS id"
    client.create_table(view)
    with pytest.raises(UsageError, match=r"tables-test\.taken\.small is a VIEW, not a table"):
        create_or_update(client, "taken", tables=[SMALL], views=[])


@emulator
def test_a_payload_beyond_a_row_of_bigquery_is_kept_in_parts(
    client: google_bigquery.Client, made: list[tuple[str, str]]
) -> None:
    payload = bytes(range(256)) * 40_000
    row = dead_letter_row(DeadLetter("TOO_LARGE", None, "m", payload, 0, "large"))
    for part in split_row("dead_letters", row):
        assert client.insert_rows_json("tables-test.fraud.dead_letters", [part]) == []
    sql = "SELECT payload FROM fraud.dead_letters WHERE source = 'large' ORDER BY part"
    assert b"".join(row.payload for row in client.query_and_wait(sql)) == payload
    sql = "SELECT dead_letter_count FROM fraud.dead_letter_summary WHERE reason = 'TOO_LARGE'"
    assert [row.dead_letter_count for row in client.query_and_wait(sql)] == [1]


@emulator
def test_the_command_makes_them_in_the_emulator(
    bigquery: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in bigquery.environment().items():
        monkeypatch.setenv(name, value)
    command = [
        "tables",
        "create",
        "--project",
        "command-test",
        "--dataset",
        "fraud",
        "--location",
        "europe-west3",
    ]
    assert main([*command, "--dry-run"]) == 0
    assert "would be changed" in capsys.readouterr().out
    client = make_client("command-test")
    assert [dataset.dataset_id for dataset in client.list_datasets()] == []
    assert main(command) == 0
    assert "create table" in capsys.readouterr().out
    assert client.get_dataset("fraud").location == "europe-west3"
    assert main(command) == 0
    assert "everything is as declared" in capsys.readouterr().out
    client.query("ALTER TABLE fraud.intake ADD COLUMN mine STRING").result()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "intake.mine is not declared any more" in error
    assert error.count("\n") == 1


_LATE, _EARLY = "TIMESTAMP '2024-01-02 02:01:01.1+00'", "TIMESTAMP '2024-01-01 12:59:00.9+00'"
EXPRESSIONS = [
    "7 / 2", "5 / 10", "DIV(7, 2)", "MOD(-7, 3)", "ROUND(2.5)", "ROUND(-2.5)", "ROUND(1234.567, 1)", "FLOOR(2.7)",
    "CEIL(2.1)", "TRUNC(2.7)", "0.1 + 0.2", "1e3", "SAFE_CAST('x' AS INT64)", "SAFE_DIVIDE(1, 0)", "LEAST(1, NULL)",
    *[f"TIMESTAMP_DIFF({_LATE}, {_EARLY}, {unit})" for unit in ("MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY")],
    *[f"TIMESTAMP_DIFF({_EARLY}, {_LATE}, {unit})" for unit in ("SECOND", "HOUR", "DAY")],
    "DATE_DIFF(DATE '2024-02-01', DATE '2024-01-31', MONTH)", "DATE_DIFF(DATE '2024-01-07', DATE '2024-01-06', WEEK)",
    *[f"TIMESTAMP_TRUNC({_LATE}, {unit})" for unit in ("HOUR", "DAY", "WEEK", "WEEK(MONDAY)", "MONTH")],
    f"DATE({_LATE})", f"DATE({_LATE}, 'America/New_York')", f"EXTRACT(HOUR FROM {_LATE})",
    f"EXTRACT(HOUR FROM {_LATE} AT TIME ZONE 'Europe/Berlin')", f"EXTRACT(DATE FROM {_LATE})",
    "EXTRACT(DAYOFWEEK FROM DATE '2024-01-07')", "EXTRACT(ISOWEEK FROM DATE '2024-01-07')",
    f"EXTRACT(DAYOFWEEK FROM TIMESTAMP_SUB({_LATE}, INTERVAL 3 DAY))",
    f"TIMESTAMP_ADD({_LATE}, INTERVAL 90 MINUTE)", "TIMESTAMP('2024-01-01')", "TIMESTAMP(DATE '2024-01-01')",
    "TIMESTAMP_SECONDS(5)", "TIMESTAMP_MILLIS(5)", f"UNIX_SECONDS({_EARLY})", f"UNIX_MILLIS({_EARLY})",
    "PARSE_TIMESTAMP('%Y-%m-%d', '2024-01-05')", f"FORMAT_TIMESTAMP('%Y-%m-%d %H:%M', {_LATE})",
    "DATE_ADD(DATE '2024-01-31', INTERVAL 1 MONTH)", "DATE_SUB(DATE '2024-03-31', INTERVAL 1 MONTH)",
    "FORMAT('%d %s %.2f', 1, 'x', 2.345)", "FORMAT('%05d', 12)", "CONCAT('a', NULL)", "BYTE_LENGTH('äb')",
    "LENGTH('äb')", "SUBSTR('abcdef', -2)", r"REGEXP_EXTRACT('a1b22', r'b(\d+)')",
    r"REGEXP_EXTRACT('zzz', r'b(\d+)')",
    "SPLIT('a,b,c')[OFFSET(1)]", "SPLIT('a,b,c')[SAFE_OFFSET(9)]", "ARRAY_LENGTH(['a', 'b'])", "'a' IN UNNEST(['a'])",
    "ARRAY(SELECT x FROM UNNEST([3, 1, 2]) AS x ORDER BY x)", "ARRAY_TO_STRING(['a', 'b'], '-')", "TO_HEX(SHA256('a'))",
    "SAFE_CONVERT_BYTES_TO_STRING(b'abc')", "TO_BASE64(b'abc')", "FROM_BASE64('YWJj')", "CAST(1.5 AS STRING)",
    "JSON_VALUE('{\"a\": \"x\"}', '$.a')", "COUNTIF(FALSE)", "COUNTIF(NULL)", "LOGICAL_OR(TRUE)", "AVG(1)",
    "(SELECT ARRAY_AGG(x ORDER BY y LIMIT 1)[OFFSET(0)] FROM (SELECT 1 AS x, 2 AS y UNION ALL SELECT 5, 1))",
    "(SELECT COUNTIF(x > 1) FROM UNNEST([NULL, 1, 2]) AS x)", "(SELECT COUNTIF(x > 9) FROM UNNEST([1, 2]) AS x)",
    f"FORMAT('%d', TIMESTAMP_DIFF({_LATE}, TIMESTAMP_MILLIS(UNIX_MILLIS({_EARLY})), SECOND))",
]  # fmt: skip


@emulator
def test_expressions_mean_the_same_on_both(client: google_bigquery.Client) -> None:
    sql = f"SELECT {', '.join(f'{expression} AS x{i}' for i, expression in enumerate(EXPRESSIONS))}"
    (there,) = client.query_and_wait(sql)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        (here,) = connection.execute(dialect.to_duckdb(dialect.parse(sql))).fetchall()
    for expression, found, value in zip(EXPRESSIONS, here, there.values(), strict=True):
        assert _comparable(found) == _comparable(value), expression


def test_array_agg_ignores_null_and_stops_at_its_limit() -> None:
    sql = "SELECT ARRAY_AGG(x IGNORE NULLS ORDER BY x DESC LIMIT 2) AS x FROM UNNEST([1, NULL, 3, 2]) AS x"
    assert duckdb.sql(dialect.to_duckdb(dialect.parse(sql))).fetchall() == [([3, 2],)]


def _comparable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp() if value.tzinfo else value
    return ("decimal", value) if isinstance(value, Decimal) else value


@emulator
def test_order_puts_null_where_bigquery_does(client: google_bigquery.Client) -> None:
    for direction in ("", "DESC"):
        sql = f"SELECT x FROM UNNEST([2, NULL, 1]) AS x ORDER BY x {direction}"
        here = duckdb.sql(dialect.to_duckdb(dialect.parse(sql))).fetchall()
        assert here == [tuple(row.values()) for row in client.query_and_wait(sql)]


def _answers(host: str) -> bool:
    try:
        with urllib.request.urlopen(f"{host}/bigquery/v2/projects", timeout=5):
            return True
    except OSError:
        return False


def _wait_until(condition: Any) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


@emulator
def test_it_keeps_its_data_and_stops_with_the_block(tmp_path: Path) -> None:
    install()
    with bigquery_emulator(tmp_path / "data", project="first-project") as first:
        first.client().create_dataset("kept")
    assert not _answers(first.host)
    with bigquery_emulator(tmp_path / "data", project="first-project") as second:
        assert "kept" in [dataset.dataset_id for dataset in second.client().list_datasets()]
        assert second.log.exists()


@emulator
def test_it_ends_when_what_started_it_is_killed(tmp_path: Path) -> None:
    install()
    script = (
        "import sys, time; from pathlib import Path\n"
        "from fraud_pipeline.emulators.bigquery import bigquery_emulator\n"
        "with bigquery_emulator(Path(sys.argv[1])) as emulator:\n"
        "    print(emulator.host, flush=True)\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        host = parent.stdout.readline().strip()
        assert _answers(host)
        parent.send_signal(signal.SIGKILL)
    assert _wait_until(lambda: not _answers(host))


def test_a_server_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no room left'); raise SystemExit(3)"]
    with (
        pytest.raises(EmulatorError, match=r"the thing ended with exit code 3; .*\n.*no room left"),
        server("the thing", command, log=tmp_path / "log", is_ready=lambda: False),
    ):
        pytest.fail("it never started")


def test_a_server_that_does_not_answer_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True); time.sleep(600)\n"
    )
    log = tmp_path / "log"
    with (
        pytest.raises(EmulatorError, match="did not answer within 5 s"),
        server(
            "the thing",
            [sys.executable, "-c", script],
            log=log,
            is_ready=lambda: False,
            timeout_seconds=5,
            stop_seconds=0.1,
        ),
    ):
        pytest.fail("it never answered")
    child = int(log.read_text())
    assert _wait_until(lambda: not _is_running(child))


def _is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
