"""Features through the graph equal those that the Fraud Detection Handbook publishes; all rows: `bench.handbook`."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

from bench.handbook import ENTITIES, compare, graph_features, main
from bench.handbook_data import COLUMNS, published, ties, transactions
from transforms.entities import load_entities

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("bounded", [False, True], ids=["stream", "backfill"])
def test_features_through_the_graph_equal_the_published_ones(bounded: bool) -> None:
    rows = transactions(DATA / "handbook_transactions.parquet")
    book = published(DATA / "handbook_features.parquet")
    tied = ties(rows)
    book = {transaction: values for transaction, values in book.items() if transaction not in tied}
    entities = load_entities(ENTITIES, "handbook")
    parity = compare(graph_features(rows, set(book), entities, bounded=bounded, max_ticks=60), book)
    assert parity.wrong == []
    assert parity.rows >= 420
    assert {column for values in book.values() for column in values} == COLUMNS.keys()
    assert sum(values.get("TERMINAL_ID_RISK_30DAY_WINDOW", 0) > 0 for values in book.values()) > 90
    assert parity.approximate == 0


def test_the_command_names_what_differs_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(DATA / "handbook_transactions.parquet", tmp_path)
    features = tmp_path / "handbook_features.parquet"
    column = "CUSTOMER_ID_NB_TX_7DAY_WINDOW"
    book = f"SELECT * FROM read_parquet('{DATA / features.name}') WHERE {column} IS NOT NULL ORDER BY 1 LIMIT 30"
    duckdb.sql(f"COPY ({book}) TO '{features}'")
    assert main(["--data", str(tmp_path), "--bounded"]) == 0
    said = capsys.readouterr().out
    assert "30 rows, 180 values" in said
    assert "\n0 values differ by more than 1e-06; 0 rows approximate" in said

    first = min(published(features))
    wrong = f"IF(TRANSACTION_ID = {first}, {column} + 2e-6, {column})"
    duckdb.sql(f"COPY (SELECT * REPLACE ({wrong} AS {column}) FROM ({book})) TO '{features}'")
    assert main(["--data", str(tmp_path), "--bounded"]) == 1
    said = capsys.readouterr().out
    assert "\n1 values differ by more than 1e-06" in said
    assert f"\n  transaction {first}, {column}: " in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--data", "nowhere"],
            "nowhere/handbook_transactions.parquet isn't there; give --data the directory that has",
        ),
        (["--data", str(DATA), "--max-ticks", "0"], "max_ticks is 0; give at least 1"),
        (["--data", str(DATA), "--gap-seconds", "0"], "gap_seconds is 0.0: give a number of seconds above 0"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
