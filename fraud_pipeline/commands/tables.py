"""`fraud-pipeline tables`: makes the result tables, or brings them up to date, and describes them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from fraud_pipeline.tables.changes import Change
    from fraud_pipeline.tables.schema import Table

_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_DATASET = re.compile(r"[A-Za-z0-9_]{1,1024}")


def register(subparsers: Any) -> None:
    """Declares the command and its arguments."""
    parser = subparsers.add_parser(
        "tables",
        help="make the result tables and views, or bring them up to date",
        description="The result tables: scores, sessions, alerts, dead letters and more, with their views.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="make the tables and views, or bring them up to date",
        description=(
            "Makes the dataset, tables and views in BigQuery, or in a DuckDB file. Where they exist, columns are "
            "added, descriptions and views replaced; rows stay. A change that would lose data is refused, and then "
            "nothing is changed. With BIGQUERY_EMULATOR_HOST set, the emulator is used."
        ),
        epilog="example: fraud-pipeline tables create --project my-project --dataset fraud --location EU --dry-run",
    )
    create.add_argument(
        "--project",
        default=os.environ.get("GOOGLE_CLOUD_PROJECT"),
        help="Google Cloud project of the dataset (default: the variable GOOGLE_CLOUD_PROJECT)",
    )
    create.add_argument("--dataset", help="BigQuery dataset, such as fraud; made if it isn't there")
    create.add_argument(
        "--location", help="where a new dataset keeps its data, such as EU or europe-west3 (default: EU)"
    )
    create.add_argument("--duckdb", type=Path, metavar="FILE", help="make them in this DuckDB file instead")
    create.add_argument(
        "--entities", metavar="FILE", help="declaration of entities whose features get columns too (the one that ships)"
    )
    create.add_argument("--dry-run", action="store_true", help="show what would be changed, and change nothing")
    create.set_defaults(run=_create)
    describe = actions.add_parser(
        "describe",
        help="print the reference of tables, columns and views, as Markdown",
        description="Prints every table, column and view with its meaning, as Markdown: docs/tables.md is this.",
    )
    describe.set_defaults(run=_describe)


def _describe(args: argparse.Namespace) -> int:
    from fraud_pipeline.tables.describe import markdown

    sys.stdout.write(markdown())
    return 0


def _create(args: argparse.Namespace) -> int:
    from fraud_pipeline.rules.arguments import entities_of
    from fraud_pipeline.tables.schema import tables_for

    tables = tables_for(entities_of(args))
    changes = _in_duckdb(args, tables) if args.duckdb else _in_bigquery(args, tables)
    where = str(args.duckdb) if args.duckdb else f"{args.project}.{args.dataset}"
    _show(changes, where, dry_run=args.dry_run)
    return 0


def _in_duckdb(args: argparse.Namespace, tables: Mapping[str, Table]) -> list[Change]:
    from fraud_pipeline.tables import duckdb

    if args.dataset or args.location:
        raise UsageError("--duckdb stands for itself; leave out --dataset and --location")
    if args.dry_run:
        raise UsageError("--dry-run is for BigQuery; for a DuckDB file, try it on a copy")
    with duckdb.connect(args.duckdb) as connection:
        return duckdb.create_tables(connection, tables)


def _in_bigquery(args: argparse.Namespace, tables: Mapping[str, Table]) -> list[Change]:
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError

    from fraud_pipeline.tables import bigquery

    if not args.project or not _PROJECT.fullmatch(args.project):
        raise UsageError(f"--project {args.project or ''!r} is no project id; give one such as my-project")
    if not args.dataset or not _DATASET.fullmatch(args.dataset):
        raise UsageError(
            f"--dataset {args.dataset or ''!r} is no dataset name; give letters, digits and underscores, such as "
            "fraud, or --duckdb FILE"
        )
    try:
        client = bigquery.make_client(args.project)
        return bigquery.create_or_update(
            client, args.dataset, args.location, tables=tables.values(), dry_run=args.dry_run
        )
    except GoogleAuthError as error:
        raise UsageError(
            f"no credentials for BigQuery ({_one_line(error)}); run: gcloud auth application-default login"
        ) from error
    except GoogleAPIError as error:
        print(f"fraud-pipeline tables: BigQuery refused: {_one_line(error)}", file=sys.stderr)
        raise SystemExit(1) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _show(changes: list[Change], where: str, *, dry_run: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not changes:
        console.print(f"{where}: everything is as declared", highlight=False)
        return
    table = Table("change", "what", "detail", title=f"{where}: {'would be changed' if dry_run else 'changed'}")
    for change in changes:
        table.add_row(change.action, change.name, change.detail)
    console.print(table)
