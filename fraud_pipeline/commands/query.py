"""`fraud-pipeline query`: asks a results file with BigQuery SQL."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from fraud_pipeline.tables.query import Result

_MAX_ROWS = 100
_MAX_FOLDED_COLUMNS = 6


def register(subparsers: Any) -> None:
    """Declares the command and its arguments."""
    parser = subparsers.add_parser(
        "query",
        help="ask a results file with SQL",
        description=(
            "Runs one SELECT statement of BigQuery's dialect on a results file of fraud-pipeline run, read-only. The "
            "same statement runs on BigQuery: tables may be named with dataset and project. The tables and views are "
            "described in docs/tables.md; docs/queries/ has questions to begin with."
        ),
        epilog='example: fraud-pipeline query "SELECT action, COUNT(*) AS n FROM latest_scores GROUP BY action"',
    )
    parser.add_argument("sql", nargs="?", help="the statement")
    parser.add_argument("--file", type=Path, metavar="FILE", help="a file that holds the statement instead")
    parser.add_argument(
        "--database",
        type=Path,
        default=Path("results.duckdb"),
        metavar="FILE",
        help="the results file (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="table for people, csv or json with all rows (default: %(default)s)",
    )
    parser.add_argument(
        "--max-rows",
        type=int,
        default=_MAX_ROWS,
        metavar="N",
        help="rows that a table shows at most (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the statement and prints what it gives."""
    from fraud_pipeline.tables.query import run_query

    result = run_query(args.database, _statement(args))
    if args.format == "csv":
        _print_csv(result)
    elif args.format == "json":
        _print_json(result)
    else:
        _print_table(result, args.max_rows)
    return 0


def _statement(args: argparse.Namespace) -> str:
    if (args.sql is None) == (args.file is None):
        raise UsageError('give either a statement, such as "SELECT * FROM ledger", or --file FILE')
    if args.sql is not None:
        return str(args.sql)
    try:
        return str(args.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--file {str(args.file)!r} can't be read: {reason}") from error


def _print_csv(result: Result) -> None:
    import csv

    writer = csv.writer(sys.stdout)
    writer.writerow(result.columns)
    writer.writerows([_plain(value) for value in row] for row in result.rows)


def _plain(value: Any) -> Any:
    if isinstance(value, list | dict):
        return _json(value)
    if isinstance(value, str | float | None):
        return value
    return _json(value).strip('"')


def _print_json(result: Result) -> None:
    before = "["
    for row in result.rows:
        sys.stdout.write(f"{before}\n  {_json(dict(zip(result.columns, row, strict=True)))}")
        before = ","
    sys.stdout.write("[]\n" if before == "[" else "\n]\n")


def _json(value: Any) -> str:
    import msgspec

    # Times as RFC 3339, bytes as base64, decimals as numbers, NaN as null.
    return msgspec.json.Encoder(decimal_format="number").encode(value).decode()


def _print_table(result: Result, max_rows: int) -> None:
    from rich.console import Console

    console = Console()
    rows = [[_cell(value) for value in row] for row in itertools.islice(result.rows, max_rows + 1)]
    more = len(rows) > max_rows
    rows = rows[:max_rows]
    widths = [max(map(len, column)) for column in zip(result.columns, *rows, strict=True)]
    needed = sum(widths) + 3 * len(widths) + 2
    if needed > console.width and not console.is_terminal:
        console = Console(width=needed)
    if needed > console.width and len(widths) > _MAX_FOLDED_COLUMNS:
        _print_records(console, result.columns, rows)
    else:
        _print_grid(console, result.columns, rows)
    count = f"the first {max_rows} rows; --max-rows, --format csv and json show more" if more else _rows(len(rows))
    console.print(f"({count})", style="dim", highlight=False)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _print_grid(console: Any, columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        is_number = all(_is_number(row[i]) for row in rows)
        table.add_column(Text(column), justify="right" if rows and is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _print_records(console: Any, columns: list[str], rows: list[list[str]]) -> None:
    """Wide rows below one another, a column a line."""
    width = max(map(len, columns))
    for number, row in enumerate(rows, 1):
        console.print(f"-- row {number}", style="bold", highlight=False)
        for column, cell in zip(columns, row, strict=True):
            console.print(f"{column:<{width}}  {cell}", markup=False, highlight=False, soft_wrap=True)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "") or 0)
    except ValueError:
        return False
    return True


def _cell(value: Any) -> str:
    from datetime import datetime

    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(" ", "milliseconds").removesuffix("+00:00").removesuffix(".000")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:,.2f}"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))
