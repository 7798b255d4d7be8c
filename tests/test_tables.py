"""The declaration of the tables, the rows made for them, their check, and the command."""

from __future__ import annotations

import pickle
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample import sample

from fraud_pipeline.cli import main
from fraud_pipeline.graph import Outputs
from fraud_pipeline.tables import changes
from fraud_pipeline.tables.describe import markdown
from fraud_pipeline.tables.rows import (
    MAX_PART_BYTES,
    ROW_BUILDERS,
    RowError,
    dead_letter_row,
    label_row,
    row_builders,
    row_id,
    split_row,
    timestamp,
    validate,
)
from fraud_pipeline.tables.schema import (
    ENTITY_COLUMNS,
    ENTITY_MARK,
    SCORES,
    TABLES,
    Column,
    Table,
    tables_for,
)
from fraud_pipeline.tables.validation import RowCheck
from fraud_pipeline.tables.views import VIEWS
from transforms.entities import DEFAULT_ENTITIES, load_entities
from transforms.events import DeadLetter, Envelope, Login, Payment
from transforms.features import FEATURES
from transforms.records import FeatureRecord, Score


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_table_and_column_is_described_and_its_layout_names_columns(table: Table) -> None:
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)
    assert {table.partition, *table.cluster, *table.key} <= set(names)
    assert table.column(table.partition).type == "TIMESTAMP"
    assert all(table.column(name).mode == "REQUIRED" for name in (table.partition, *table.key))
    # BigQuery allows four columns to cluster by, and 1,024 characters of description.
    assert len(table.cluster) <= 4
    for column in table.columns:
        assert column.description.endswith((".", ":")), column.name
        assert len(column.description) <= 1024


def test_tables_are_partitioned_by_event_time_and_clustered_by_user_unless_that_is_unknown() -> None:
    for name in ("scores", "alerts", "labels"):
        assert (TABLES[name].partition, TABLES[name].cluster[0]) == ("event_time", "user_id")
    for name in ("sessions", "session_rollups"):
        assert (TABLES[name].partition, TABLES[name].cluster[0]) == ("session_start", "user_id")
    assert TABLES["dead_letters"].partition == "received_time"


def test_there_is_a_table_and_a_row_builder_for_each_output_of_the_graph() -> None:
    assert set(TABLES) == set(ROW_BUILDERS) == set(Outputs._fields)
    assert pickle.loads(pickle.dumps(dict(ROW_BUILDERS))) == dict(ROW_BUILDERS)


def test_every_feature_is_a_nullable_column_of_its_type_with_unit_and_help() -> None:
    types = {"int": "INT64", "float": "FLOAT64", "bool": "BOOL"}
    for feature in FEATURES:
        column = SCORES.column(feature.name)
        assert (column.type, column.mode) == (types[feature.type], "NULLABLE")
        assert feature.unit in column.description
        assert feature.help in column.description


def test_every_sql_file_is_a_view_with_a_description() -> None:
    import fraud_pipeline.tables

    directory = Path(fraud_pipeline.tables.__file__).parent / "sql"
    assert sorted(VIEWS) == sorted(path.stem for path in directory.glob("*.sql"))
    assert all(view.description.endswith(".") for view in VIEWS.values())


def test_the_reference_in_docs_is_current() -> None:
    page = Path(__file__).parents[1] / "docs" / "tables.md"
    assert page.read_text() == markdown(), "run: fraud-pipeline tables describe > docs/tables.md"


def test_sample_rows_of_all_tables_fit() -> None:
    rows = sample()
    assert {table for table, some in rows.items() if some} == set(TABLES)
    for table, some in rows.items():
        assert [validate(table, row) for row in some if validate(table, row)] == []
        # Features of entities that an event hasn't got are left out.
        expected = {column.name for column in TABLES[table].columns if column not in ENTITY_COLUMNS}
        assert all(expected <= set(row) for row in some)


def test_a_row_written_again_has_the_same_id_and_different_rows_have_different_ones() -> None:
    for table, rows in sample().items():
        key = TABLES[table].key
        ids = {row_id(table, row): tuple(row[column] for column in key) for row in rows}
        assert len(ids) == len({tuple(row[column] for column in key) for row in rows}) < len(rows)


def test_a_label_row_is_of_a_label_only() -> None:
    login = Login(event_id="e", user_id="u", event_time_ms=0, outcome="success")
    with pytest.raises(TypeError, match="Login"):
        label_row(Envelope(login, b"", 0, "s", 0))


@pytest.mark.parametrize(
    ("epoch_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_772_368_496_789, "2026-03-01T12:34:56.789Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_to_the_millisecond(epoch_ms: int, text: str) -> None:
    assert timestamp(epoch_ms) == text
    assert validate("intake", {"count_id": "c", "received_time": text, "message_count": 1}) is None


def _dead_letter(payload: bytes = b"{", **fields: Any) -> DeadLetter:
    known: dict[str, Any] = {
        "reason": "NOT_JSON",
        "field": None,
        "message": "m",
        "received_ms": 0,
        "source": "s",
    }
    return DeadLetter(payload=payload, **{**known, **fields})


@given(st.binary(max_size=300), st.text(max_size=20), st.integers() | st.none())
def test_any_dead_letter_has_a_row_that_fits_and_keeps_its_payload(
    payload: bytes, text: str, event_time_ms: int | None
) -> None:
    row = dead_letter_row(
        _dead_letter(payload, message=text + "\ud800", field=text, user_id=text, event_time_ms=event_time_ms)
    )
    assert validate("dead_letters", row) is None
    assert b64decode(row["payload"]) == payload


@pytest.mark.parametrize("size", [0, 1, MAX_PART_BYTES, MAX_PART_BYTES + 1, 10_000_000])
def test_a_payload_that_is_too_large_for_a_row_is_several(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    whole = dead_letter_row(_dead_letter(payload))
    parts = split_row("dead_letters", whole)
    assert b"".join(b64decode(part["payload"]) for part in parts) == payload
    assert [part["part"] for part in parts] == list(range(len(parts)))
    assert {part["part_count"] for part in parts} == {len(parts)}
    assert {part["dead_letter_id"] for part in parts} == {whole["dead_letter_id"]}
    assert [validate("dead_letters", part) for part in parts] == [None] * len(parts)
    assert (validate("dead_letters", whole) is None) == (size <= MAX_PART_BYTES)
    # BigQuery takes rows and requests of 10 MB.
    assert max(len(part["payload"]) for part in parts) < 9_000_000


_GOOD = {"count_id": "c", "received_time": "2026-03-01T00:00:00.000Z", "message_count": 1}


@pytest.mark.parametrize(
    ("changed", "column", "words"),
    [
        ({"count_id": None}, "count_id", "null"),
        ({"count_id": 7}, "count_id", "int"),
        ({"count_id": "\ud800"}, "count_id", "surrogate"),
        ({"message_count": "1"}, "message_count", "str"),
        ({"message_count": True}, "message_count", "bool"),
        ({"message_count": 1.0}, "message_count", "float"),
        ({"message_count": 2**63}, "message_count", "64"),
        ({"received_time": "2026-03-01"}, "received_time", "time like"),
        ({"received_time": "2026-02-30T00:00:00.000Z"}, "received_time", "time like"),
        ({"received_time": "2026-03-01T00:00:00+01:00"}, "received_time", "time like"),
        ({"received_time": 0}, "received_time", "int"),
        ({"other": 1}, "other", "no such column"),
    ],
)
def test_a_row_that_bigquery_would_refuse_is_told_by_column(changed: dict[str, Any], column: str, words: str) -> None:
    assert validate("intake", _GOOD) is None
    error = validate("intake", {**_GOOD, **changed})
    assert error is not None
    assert (error.column, words in error.message) == (column, True)


@pytest.mark.parametrize("name", sorted(_GOOD))
def test_a_required_column_that_is_missing_is_told(name: str) -> None:
    assert validate("intake", {k: v for k, v in _GOOD.items() if k != name}) == RowError(name, "is missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, True, 10**400])
def test_a_score_that_is_no_finite_number_is_refused(value: Any) -> None:
    row = sample()["scores"][0]
    assert validate("scores", {**row, "score": value}) is not None
    assert validate("scores", {**row, "score": 1}) is None


@pytest.mark.parametrize("value", [None, "x", [None], [1], ("x",)])
def test_a_list_holds_strings_only_and_is_never_null(value: Any) -> None:
    row = sample()["scores"][0]
    assert validate("scores", {**row, "fired_rules": value}) is not None
    assert validate("scores", {**row, "fired_rules": ["x"]}) is None


@given(
    st.sampled_from(sorted(TABLES)),
    st.dictionaries(
        st.sampled_from([c.name for t in TABLES.values() for c in t.columns]) | st.text(max_size=3),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.binary(),
    ),
)
def test_the_check_takes_any_row_without_an_error(table: str, row: dict[str, Any]) -> None:
    assert validate(table, row) is not None, "no row made at random holds all required columns"


A = Column("a", "STRING", "A.")
BASE = Table("t", "T.", (A, Column("b", "INT64", "B.", "REQUIRED")), "a", ("b",), ("a",))


def _with(**fields: Any) -> Table:
    values = {name: getattr(BASE, name) for name in BASE.__struct_fields__}
    return Table(**{**values, **fields})


@pytest.mark.parametrize(
    ("declared", "actions"),
    [
        (BASE, []),
        (_with(columns=(*BASE.columns, Column("c", "BOOL", "C."))), ["add column"]),
        (_with(columns=(*BASE.columns, Column("c", "STRING", "C.", "REPEATED"))), ["add column"]),
        (_with(columns=(Column("c", "BOOL", "C."), *BASE.columns)), ["add column"]),
        (_with(columns=(A, Column("b", "INT64", "B."))), ["relax column"]),
        (_with(columns=(Column("a", "STRING", "Other."), BASE.columns[1])), ["describe column"]),
        (_with(columns=tuple(reversed(BASE.columns))), []),
        (_with(description="Other."), ["describe"]),
        (_with(cluster=("a",)), ["cluster"]),
    ],
)
def test_what_loses_nothing_is_a_change(declared: Table, actions: list[str]) -> None:
    found = changes.difference(BASE, declared)
    assert [change.action for change in found.changes] == actions
    assert found.refusals == ()
    assert [column.name for column in found.columns][:2] == ["a", "b"], "a table can't reorder its columns"


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (_with(columns=(A,)), "t.b is not declared any more"),
        (_with(columns=(A, Column("b", "STRING", "B.", "REQUIRED"))), "t.b is INT64, declared STRING"),
        (
            _with(columns=(Column("a", "STRING", "A.", "REQUIRED"), BASE.columns[1])),
            "t.a is NULLABLE, declared REQUIRED",
        ),
        (
            _with(columns=(Column("a", "STRING", "A.", "REPEATED"), BASE.columns[1])),
            "t.a is NULLABLE, declared REPEATED",
        ),
        (_with(columns=(*BASE.columns, Column("c", "BOOL", "C.", "REQUIRED"))), "t.c is new and REQUIRED"),
        (_with(partition="b"), "not partitioned by the day of b"),
    ],
)
def test_what_would_lose_data_is_refused(declared: Table, words: str) -> None:
    (refusal,) = changes.difference(BASE, declared).refusals
    assert words in refusal
    assert ";" in refusal, "it gives the fix"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--dataset", "fraud"], "--project '' is no project id"),
        (["create", "--project", "Nope!", "--dataset", "fraud"], "'Nope!'"),
        (["create", "--project", "my-project"], "--dataset '' is no dataset"),
        (["create", "--project", "my-project", "--dataset", "a-b"], "'a-b'"),
        (["create", "--duckdb", "x.duckdb", "--dataset", "fraud"], "leave out"),
        (["create", "--duckdb", "x.duckdb", "--dry-run"], "--dry-run"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["tables", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert list(tmp_path.iterdir()) == []


def test_describe_prints_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "describe"]) == 0
    assert capsys.readouterr().out == markdown()


DRIVERS = """
entities:
  driver: {key: attributes.driver_id, features: {payment_count: [1h], payment_amount_minor: [1d]}}
"""


def scored_with(*entity_values: object) -> Score:
    values = [None] * len(FEATURES)
    event = Payment(event_id="e1", user_id="u1", event_time_ms=1, amount_minor=5, currency="EUR")
    record = FeatureRecord(event, (*values, *entity_values), 1, 1, "EVENT", False, 2)
    return Score(record, 0.0, "allow", (), "none")


def test_features_of_declared_entities_get_columns_and_values() -> None:
    entities = load_entities(DRIVERS, "drivers.yaml")
    declared = tables_for(entities)["scores"]
    assert [c.name for c in declared.columns][: len(SCORES.columns)] == [c.name for c in SCORES.columns]
    assert [(c.name, c.type, c.mode) for c in declared.columns[len(SCORES.columns) :]] == [
        ("driver_payment_count_1h", "INT64", "NULLABLE"),
        ("driver_payment_amount_minor_1d", "INT64", "NULLABLE"),
    ]
    row = row_builders(entities)["scores"](scored_with(3, None))
    assert row["driver_payment_count_1h"] == 3
    assert "driver_payment_amount_minor_1d" not in row
    assert RowCheck(declared)(row) is None
    refused = validate("scores", row)
    assert refused is not None
    assert refused.column == "driver_payment_count_1h"
    assert tables_for(DEFAULT_ENTITIES) is TABLES


def test_a_score_with_too_few_or_too_many_entity_features_is_no_row() -> None:
    builder = row_builders(load_entities(DRIVERS, "drivers.yaml"))["scores"]
    for values in ((1,), (1, 2, 3)):
        with pytest.raises(ValueError, match="zip"):
            builder(scored_with(*values))


def test_columns_of_entities_of_another_declaration_stay() -> None:
    grown = tables_for(load_entities(DRIVERS, "drivers.yaml"))["scores"]
    assert grown.columns[-1].description.endswith(ENTITY_MARK)
    assert changes.difference(grown, SCORES).refusals == ()
    assert changes.difference(grown, SCORES).columns == grown.columns
