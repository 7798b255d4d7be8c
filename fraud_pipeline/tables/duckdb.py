"""The tables and views in one DuckDB file: made or brought up to date, filled from JSON lines, asked."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables import dialect
from fraud_pipeline.tables.changes import Change, DataLossError, difference
from fraud_pipeline.tables.schema import TABLES, Column, Table
from fraud_pipeline.tables.views import VIEWS, View

_TYPES = {
    "STRING": "VARCHAR",
    "INT64": "BIGINT",
    "FLOAT64": "DOUBLE",
    "BOOL": "BOOLEAN",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "BYTES": "BLOB",
}
_TYPES_BACK = {duckdb_type: bigquery_type for bigquery_type, duckdb_type in _TYPES.items()}
_LONGEST_LINE_BYTES = 64 * 1024 * 1024

RELATIONS = frozenset({*TABLES, *VIEWS})
"""Names of all tables and views."""


def open_results(path: Path, tables: Mapping[str, Table] = TABLES) -> duckdb.DuckDBPyConnection:
    """Opens a results file for writing, with its tables and views made or brought up to date.

    Raises:
      UsageError: the file is no DuckDB database, another process has it open, or it can't be brought up to date.
    """
    connection = connect(path)
    try:
        create_tables(connection, tables)
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, *, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Opens a DuckDB file with the session in UTC, as BigQuery always is.

    Raises:
      UsageError: it isn't there (to read it), is no DuckDB database, or another process has it open.
    """
    if read_only and not path.exists():
        raise UsageError(f"{str(path)!r} is not there; name a file that fraud-pipeline run has written")
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
    except duckdb.IOException as error:
        if "lock" in str(error):
            raise UsageError(f"{str(path)!r} is open in another process; try again when it has ended") from error
        raise UsageError(f"{str(path)!r} can't be opened as a DuckDB file: {_first_line(error)}") from error
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def create_tables(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, Table] = TABLES) -> list[Change]:
    """Makes all tables and views in a database, or brings them to their declaration, in one transaction.

    Args:
      tables: those of `tables_for` where other entities than those that ship are declared.

    Returns:
      What was changed; empty where everything was as declared.

    Raises:
      DataLossError: a change would lose data.
      UsageError: a view is in the place of a table, or a table in that of a view.
    """
    existing = _existing_tables(connection)
    _check_kinds(connection)
    changes: list[Change] = []
    refusals: list[str] = []
    statements: list[str] = []
    for table in tables.values():
        if table.name not in existing:
            changes.append(Change("create table", table.name, f"{len(table.columns)} columns"))
            statements += [_create(table), *_comments(table)]
            continue
        found = difference(existing[table.name], table)
        changes += found.changes
        refusals += found.refusals
        if found.changes:
            statements += [*_alterations(existing[table.name], table), *_comments(table)]
    if refusals:
        raise DataLossError(tuple(refusals))
    connection.begin()
    try:
        for statement in statements:
            connection.execute(statement)
        changes += _replace_views(connection)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
    return changes


def _replace_views(connection: duckdb.DuckDBPyConnection) -> list[Change]:
    # All of them, always: a view whose table has got a column can't be read until it is made again, and DuckDB
    # doesn't keep a view's text as it was given, to compare.
    before = _existing_views(connection)
    for view in VIEWS.values():
        connection.execute(f"CREATE OR REPLACE VIEW {view.name} AS {view_query(view)}")
        connection.execute(f"COMMENT ON VIEW {view.name} IS {_literal(view.description)}")
    return [Change("create view", name) for name in VIEWS if name not in before]


@functools.cache
def view_query(view: View) -> str:
    """A view's SQL as DuckDB runs it."""
    return dialect.to_duckdb(dialect.parse(view.sql), RELATIONS)


def append_jsonl(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    paths: Path | str | Sequence[Path | str],
    tables: Mapping[str, Table] = TABLES,
) -> int:
    """Appends the rows in files of JSON lines, as `tables.rows` makes them, plain or gzip, all or none.

    Returns:
      The number of rows.

    Raises:
      duckdb.Error: a line isn't a row of the table.
    """
    files = [str(path) for path in ([paths] if isinstance(paths, Path | str) else paths)]
    if not files:
        return 0
    columns = tables[table].columns
    names = ", ".join(_name(column.name) for column in columns)
    values = ", ".join(_from_json(column) for column in columns)
    kinds = ", ".join(f"{_literal(column.name)}: {_literal(_line_type(column))}" for column in columns)
    row = connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM read_json(?, columns = {{{kinds}}}, "
        f"format = 'newline_delimited', maximum_object_size = {_LONGEST_LINE_BYTES})",
        [files],
    ).fetchone()
    return int(row[0]) if row else 0


def load(
    path: Path, staged: Mapping[str, Sequence[Path | str]], tables: Mapping[str, Table] = TABLES
) -> dict[str, int]:
    """Appends rows to a results file, which is made if it isn't there: all of them or, on an error, none.

    Args:
      staged: files of JSON lines by table.
      tables: as in `create_tables`.

    Returns:
      The number of rows by table.

    Raises:
      UsageError: as `open_results`.
      duckdb.Error: a line isn't a row of its table.
    """
    if path.exists():
        return _load(path, staged, tables)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        counts = _load(temporary, staged, tables)
        os.replace(temporary, path)
    finally:
        for leftover in (temporary, temporary.with_name(f"{temporary.name}.wal")):
            leftover.unlink(missing_ok=True)
    return counts


def _load(path: Path, staged: Mapping[str, Sequence[Path | str]], tables: Mapping[str, Table]) -> dict[str, int]:
    with open_results(path, tables) as connection:
        connection.begin()
        counts = {table: append_jsonl(connection, table, paths, tables) for table, paths in staged.items()}
        connection.commit()
        return counts


def _check_kinds(connection: duckdb.DuckDBPyConnection) -> None:
    rows = connection.execute(
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_catalog = current_database()"
    ).fetchall()
    for name, kind in rows:
        if (kind == "VIEW" and name in TABLES) or (kind != "VIEW" and name in VIEWS):
            wanted = "table" if name in TABLES else "view"
            raise UsageError(f"{name} is a {kind} in this file, not a {wanted}; rename or drop it")


def _existing_tables(connection: duckdb.DuckDBPyConnection) -> dict[str, Table]:
    """The tables that exist, in the terms of the declaration; partitions and clusters are as declared, having none."""
    comments = dict(
        connection.execute(
            "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = current_database()"
        ).fetchall()
    )
    columns: dict[str, list[Column]] = {}
    for table, name, kind, is_nullable, comment in connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
        "WHERE database_name = current_database() ORDER BY table_name, column_index"
    ).fetchall():
        mode = "REPEATED" if kind.endswith("[]") else "NULLABLE" if is_nullable else "REQUIRED"
        kind = kind.removesuffix("[]")
        column = Column(name, _TYPES_BACK.get(kind, kind), comment or "", mode)  # type: ignore[arg-type]
        columns.setdefault(table, []).append(column)
    return {
        table.name: Table(
            name=table.name,
            description=comments[table.name] or "",
            columns=tuple(columns[table.name]),
            partition=table.partition,
            cluster=table.cluster,
            key=(),
        )
        for table in TABLES.values()
        if table.name in comments
    }


def _existing_views(connection: duckdb.DuckDBPyConnection) -> set[str]:
    rows = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE database_name = current_database() AND NOT internal"
    ).fetchall()
    return {name for (name,) in rows}


def _create(table: Table) -> str:
    columns = ", ".join(f"{_name(column.name)} {_column_type(column)}" for column in table.columns)
    return f"CREATE TABLE {table.name} ({columns})"


def _alterations(existing: Table, declared: Table) -> list[str]:
    have = {column.name: column for column in existing.columns}
    statements = []
    for column in declared.columns:
        if column.name not in have:
            statements.append(f"ALTER TABLE {declared.name} ADD COLUMN {_name(column.name)} {_column_type(column)}")
        elif have[column.name].mode != column.mode:
            statements.append(f"ALTER TABLE {declared.name} ALTER COLUMN {_name(column.name)} DROP NOT NULL")
    return statements


def _comments(table: Table) -> list[str]:
    return [
        f"COMMENT ON TABLE {table.name} IS {_literal(table.description)}",
        *(
            f"COMMENT ON COLUMN {table.name}.{_name(column.name)} IS {_literal(column.description)}"
            for column in table.columns
        ),
    ]


def _column_type(column: Column) -> str:
    kind = _TYPES[column.type]
    if column.mode == "REPEATED":
        return f"{kind}[] DEFAULT []"
    return f"{kind} NOT NULL" if column.mode == "REQUIRED" else kind


def _line_type(column: Column) -> str:
    kind = "VARCHAR" if column.type == "BYTES" else _TYPES[column.type]
    return f"{kind}[]" if column.mode == "REPEATED" else kind


def _from_json(column: Column) -> str:
    name = _name(column.name)
    if column.type == "BYTES":
        return f"from_base64({name})"
    return f"COALESCE({name}, [])" if column.mode == "REPEATED" else name


def _name(identifier: str) -> str:
    return f'"{identifier}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
