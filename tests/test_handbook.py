"""Features through the graph equal those that the Fraud Detection Handbook publishes; all rows: `bench.handbook`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.handbook import COLUMNS, ENTITIES, compare, graph_features, published, ties, transactions
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
