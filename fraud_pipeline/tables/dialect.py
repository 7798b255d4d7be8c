"""BigQuery SQL for DuckDB: sqlglot translates, and what it leaves different in meaning is put right here.

Each rule below was found by running the same expression on the BigQuery emulator and on DuckDB, and is kept by the
test that does so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError


class SqlError(ValueError):
    """SQL that can't be understood or translated: what is wrong, and where it begins (from 1, or None)."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def parse(sql: str) -> exp.Query:
    """One SELECT statement of BigQuery's dialect.

    Raises:
      SqlError: it is something else, or not SQL.
    """
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect="bigquery") if statement]
    except SqlglotError as error:
        raise _syntax_error(error) from error
    if len(statements) != 1:
        raise SqlError(f"one SELECT statement was expected, not {len(statements)}")
    (statement,) = statements
    if not isinstance(statement, exp.Query):
        raise SqlError(f"only SELECT can be run, not {statement.key.upper()}", 1, 1)
    return statement


def _syntax_error(error: SqlglotError) -> SqlError:
    details = getattr(error, "errors", None)
    if not details:
        return SqlError("a string, comment or quoted name isn't closed")
    first = details[0]
    near = first["highlight"]
    message = f"{first['description'].rstrip('.')}, near {near!r}"
    return SqlError(message, first["line"], max(1, first["col"] - len(near) + 1))


def to_duckdb(query: exp.Query, tables: Collection[str] = ()) -> str:
    """The same query for DuckDB, session time zone UTC.

    Args:
      query: as `parse` gives it; not changed.
      tables: names that lose their project and dataset, as the tables of one file have none.

    Raises:
      SqlError: it holds something that DuckDB has no counterpart for.
    """
    tree = _rewritten(query.copy(), frozenset(tables))
    generator = DuckDB().generator(unsupported_level=ErrorLevel.IGNORE)
    sql = generator.generate(tree)
    # With the session in UTC, as BigQuery always is, EXTRACT gives the same.
    lost = [m for m in generator.unsupported_messages if not m.startswith("EXTRACT from TIMESTAMPTZ")]
    if lost:
        raise SqlError(f"no counterpart in DuckDB: {lost[0].rstrip('. ')}")
    return sql


def qualified(sql: str, tables: Collection[str], project: str, dataset: str) -> str:
    """The same text with project and dataset before the given tables, as a view of BigQuery needs them.

    Raises:
      SqlError: it isn't one SELECT statement.
    """
    starts = [
        table.this.meta["start"] for table in parse(sql).find_all(exp.Table) if table.name in tables and not table.db
    ]
    for start in sorted(starts, reverse=True):
        sql = f"{sql[:start]}`{project}`.`{dataset}`.{sql[start:]}"
    return sql


def _rewritten(tree: exp.Query, tables: Collection[str]) -> exp.Expr:
    # Leaves first, so that a rule sees arguments that mean the same already.
    for node in reversed(list(tree.bfs())):
        if isinstance(node, exp.Table | exp.Column):
            _unqualify(node, tables)
        rule = _RULES.get(type(node))
        if rule is not None and (new := rule(node)) is not node:
            node.replace(new)
    return tree


def _unqualify(node: exp.Table | exp.Column, tables: Collection[str]) -> None:
    schema, _, name = node.name.partition(".")
    if schema.upper() == "INFORMATION_SCHEMA" and name:
        node.replace(exp.table_(name.lower(), db="information_schema", alias=node.alias or None))
    elif (node.name if isinstance(node, exp.Table) else node.table) in tables:
        node.set("db", None)
        node.set("catalog", None)


def _decimal_literal(node: exp.Literal) -> exp.Expr:
    """1.5 is a FLOAT64 in BigQuery and a DECIMAL in DuckDB."""
    if node.is_string or node.name.isdigit() or isinstance(node.parent, exp.Cast):
        return node
    return exp.cast(node.copy(), "DOUBLE")


def _timestamp_diff(node: exp.TimestampDiff) -> exp.Expr:
    """BigQuery counts whole units; DuckDB's date_diff counts the boundaries between, its date_sub whole units."""
    return exp.Anonymous(
        this="DATE_SUB", expressions=[exp.Literal.string(node.text("unit")), node.expression, node.this]
    )


def _extract(node: exp.Extract) -> exp.Expr:
    part = node.this.name.upper()
    if part == "DAYOFWEEK":
        return exp.paren(exp.Add(this=node.copy(), expression=exp.Literal.number(1)), copy=False)
    if part == "ISOWEEK":
        node.set("this", exp.var("WEEK"))
    elif part == "DATE":
        return exp.cast(node.expression, "DATE")
    return node


def _to_date(node: exp.DateAdd | exp.DateSub) -> exp.Expr:
    """A DATE and an interval are a TIMESTAMP in DuckDB."""
    return exp.cast(node.copy(), "DATE")


def _to_timestamp(node: exp.Expr) -> exp.Expr:
    """DuckDB's result has no time zone."""
    return exp.cast(node.copy(), "TIMESTAMPTZ")


def _unix_seconds(node: exp.UnixSeconds) -> exp.Expr:
    """BigQuery truncates, a cast rounds."""
    return exp.cast(exp.Floor(this=exp.func("EPOCH", node.this, dialect="duckdb")), "BIGINT")


def _format(node: exp.Format) -> exp.Expr:
    return exp.Anonymous(this="PRINTF", expressions=[node.this, *node.expressions])


def _byte_length(node: exp.ByteLength) -> exp.Expr:
    return exp.Anonymous(this="STRLEN", expressions=[node.this])


def _bytes_to_text(node: exp.SafeConvertBytesToString) -> exp.Expr:
    """What isn't UTF-8 shows as escapes; BigQuery shows replacement characters."""
    decoded = exp.Anonymous(this="TRY", expressions=[exp.Anonymous(this="DECODE", expressions=[node.this])])
    return exp.func("COALESCE", decoded, exp.cast(node.this.copy(), "TEXT"))


def _countif(node: exp.CountIf) -> exp.Expr:
    """Without a row that isn't NULL, BigQuery counts 0 and DuckDB's count_if gives NULL."""
    if isinstance(node.this, exp.Distinct):
        return node
    return exp.Count(this=exp.Case(ifs=[exp.If(this=node.this, true=exp.Literal.number(1))]))


def _array_agg(node: exp.ArrayAgg | exp.IgnoreNulls) -> exp.Expr:
    """ARRAY_AGG(... LIMIT n): a slice of the list."""
    aggregate = node.this if isinstance(node, exp.IgnoreNulls) else node
    limit = aggregate.this
    if isinstance(node.parent, exp.IgnoreNulls) or not isinstance(limit, exp.Limit):
        return node
    limit.replace(limit.this)
    whole = exp.Slice(this=exp.Literal.number(1), expression=limit.expression)
    return exp.Bracket(this=node.copy(), expressions=[whole], offset=1)


_RULES: dict[type[exp.Expr], Callable[..., exp.Expr]] = {
    exp.Literal: _decimal_literal,
    exp.TimestampDiff: _timestamp_diff,
    exp.Extract: _extract,
    exp.DateAdd: _to_date,
    exp.DateSub: _to_date,
    exp.UnixToTime: _to_timestamp,
    exp.StrToTime: _to_timestamp,
    exp.UnixSeconds: _unix_seconds,
    exp.Format: _format,
    exp.ByteLength: _byte_length,
    exp.SafeConvertBytesToString: _bytes_to_text,
    exp.CountIf: _countif,
    exp.ArrayAgg: _array_agg,
    exp.IgnoreNulls: _array_agg,
}
