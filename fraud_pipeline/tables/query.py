"""Runs BigQuery SQL on a results file, read-only; a mistake in it gets one line with its place and near names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from sqlglot import exp

from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables import dialect
from fraud_pipeline.tables.duckdb import RELATIONS, connect

_BATCH_ROWS = 10_000
_UNKNOWN_TABLE = re.compile(r"Table with name (\S+) does not exist")
_UNKNOWN_ALIAS = re.compile(r'Referenced table "([^"]+)" not found')
_UNKNOWN_COLUMN = re.compile(r'Referenced column "([^"]+)" (?:was )?not found|does not have a column named "([^"]+)"')


class Result(NamedTuple):
    """What a query gives: names of columns, and rows of Python values, fetched as they are read."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


def run_query(database: Path, sql: str) -> Result:
    """Runs one SELECT statement of BigQuery's dialect.

    Tables may be named with their dataset and project, whatever these are: the file holds one set of tables.

    Raises:
      UsageError: the file can't be read, or the statement is wrong.
    """
    connection = connect(database, read_only=True)
    try:
        # A SELECT reaches the results file, no other, and no download site.
        connection.execute("SET autoload_known_extensions = false")
        connection.execute("SET enable_external_access = false")
        query = dialect.parse(sql)
        _check_tables(query, connection)
        try:
            # Also its plan is made only here: errors of names come now, those of values with the rows.
            connection.execute(dialect.to_duckdb(query, RELATIONS))
        except duckdb.Error as error:
            raise UsageError(_explain(error, query, connection)) from error
    except dialect.SqlError as error:
        connection.close()
        raise UsageError(f"{error}{_at(error.line, error.column)}") from error
    except BaseException:
        connection.close()
        raise
    columns = [column[0] for column in connection.description]
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        connection.close()
        raise UsageError(f"the result has more than one column {twice[0]!r}; name them apart with AS, as BigQuery asks")
    return Result(columns, _rows(connection))


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    with connection:
        try:
            while batch := connection.fetchmany(_BATCH_ROWS):
                yield from batch
        except duckdb.Error as error:
            raise UsageError(_first_line(error)) from error


def _check_tables(query: exp.Query, connection: duckdb.DuckDBPyConnection) -> None:
    """Names with a dataset; DuckDB would speak of catalogs that don't exist."""
    tables = list(query.find_all(exp.Table))
    aliases = {table.alias_or_name for table in tables}
    known = _tables(connection)
    for table in tables:
        is_about_tables = table.name.upper().startswith("INFORMATION_SCHEMA.")
        if table.db and table.db not in aliases and table.name not in known and not is_about_tables:
            raise UsageError(_no_table(query, table.name, known))


def _no_table(query: exp.Query, name: str, known: list[str]) -> str:
    return f"there is no table {name!r}{_place(query, name)}{_near(name, known)}"


def _explain(error: duckdb.Error, query: exp.Query, connection: duckdb.DuckDBPyConnection) -> str:
    message = str(error)
    if found := _UNKNOWN_TABLE.search(message):
        return _no_table(query, found[1], _tables(connection))
    if found := _UNKNOWN_COLUMN.search(message):
        name = found[1] or found[2]
        return f"there is no column {name!r}{_place(query, name)}{_near(name, _columns(connection, query))}"
    if found := _UNKNOWN_ALIAS.search(message):
        name = found[1]
        used = [table.alias_or_name for table in query.find_all(exp.Table)]
        return f"there is no {name!r} in FROM{_place(query, name)}{_near(name, used)}"
    return _first_line(error)


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0].removeprefix("Binder Error: ").removeprefix("Catalog Error: ")


def _place(query: exp.Query, name: str) -> str:
    for identifier in query.find_all(exp.Identifier):
        if identifier.name.casefold() == name.casefold() and "line" in identifier.meta:
            quotes = 2 if identifier.args.get("quoted") else 0
            return _at(identifier.meta["line"], identifier.meta["col"] - len(identifier.name) - quotes + 1)
    return ""


def _at(line: int | None, column: int | None) -> str:
    return "" if line is None else f" (line {line}, column {column})"


def _near(name: str, known: list[str]) -> str:
    folded = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    if not matches:
        # "amount" is far from "payment_amount_minor_30d" by letters, and yet what is meant.
        matches = [candidate for candidate in folded if name.casefold() in candidate][:3]
    if matches:
        return f"; near: {', '.join(folded[match] for match in matches)}"
    return f"; there are: {', '.join(sorted(known))}" if len(known) <= 20 else ""


def _tables(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
    return [name for (name,) in rows]


def _columns(connection: duckdb.DuckDBPyConnection, query: exp.Query) -> list[str]:
    used = [table.name for table in query.find_all(exp.Table)]
    rows = connection.execute(
        "SELECT DISTINCT column_name FROM information_schema.columns WHERE list_contains(?, table_name)",
        [used],
    ).fetchall()
    return [name for (name,) in rows]
