"""Files of history, each made a relation of one DuckDB connection: results files, Parquet, JSON Lines."""

from __future__ import annotations

import glob
import gzip
from pathlib import Path
from typing import Literal, TypeAlias

import duckdb
import msgspec

from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables.duckdb import connect, load
from fraud_pipeline.tables.schema import TABLES, Table, tables_for
from transforms.entities import DEFAULT_ENTITIES, EntityConfig

SCORES = "scored_rows"
"""The relation of the scores in the range, with `row_number` and `event_time_ms` beside the table's columns."""

LABELS = "labels"
"""The relation of the labels: the table's columns; or, of a simulation's truth, `event_id` alone."""

Kind: TypeAlias = Literal["duckdb", "parquet", "jsonl"]

_NEEDED = ("event_id", "user_id", "event_type", "event_time", "version", "scored_time", "amount_minor", "currency")


def attach_scores(
    connection: duckdb.DuckDBPyConnection,
    path: str,
    condition: str,
    directory: Path,
    entities: EntityConfig = DEFAULT_ENTITIES,
) -> None:
    """Makes the relation `SCORES`.

    Args:
      condition: SQL; the rows to have.
      entities: whose features lines of JSON may hold; other files say themselves what they hold.
      directory: for temporary files.

    Raises:
      UsageError: the file is missing, or isn't of the scores table.
    """
    kind = _kind(path, "--history")
    if kind == "parquet":
        most = connection.execute(f"SELECT MAX(num_rows) FROM parquet_file_metadata({_literal(path)})").fetchone()
        assert most is not None
        relation = f"read_parquet({_literal(path)}, union_by_name = true, file_row_number = true)"
        numbered = f"SELECT * EXCLUDE (file_row_number), file_index::BIGINT * {most[0]} + file_row_number"
    else:
        relation = _table(connection, tables_for(entities)["scores"], path, kind, directory, "--history")
        numbered = "SELECT *, rowid"
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    if missing := [name for name in _NEEDED if name not in names]:
        raise UsageError(
            f"--history {path!r} isn't a scores table: it has no column {missing[0]!r}; "
            "give results.duckdb, or scores.parquet or scores.jsonl, of fraud-pipeline run"
        )
    connection.execute(
        f"CREATE TEMP VIEW {SCORES} AS {numbered} AS row_number, epoch_ms(event_time) AS event_time_ms "
        f"FROM {relation} WHERE {condition}"
    )


def attach_labels(connection: duckdb.DuckDBPyConnection, path: str | None, scores: str, directory: Path) -> bool | None:
    """Makes the relation `LABELS`, unless there are no labels.

    Args:
      path: where they are, or None for those beside the scores, if there are any.

    Returns:
      None if there are none; True if they are a simulation's truth, which is complete; False if they are verdicts.

    Raises:
      UsageError: the file is missing, or isn't of the labels table.
    """
    if path is None:
        path = _beside(scores)
        if path is None:
            return None
    kind = _kind(path, "--labels")
    if kind == "jsonl" and (keys := _keys(path)) and "attack_id" in keys:
        connection.execute(
            f"CREATE TEMP VIEW {LABELS} AS SELECT event_id FROM read_json({_literal(path)}, "
            "columns = {event_id: 'VARCHAR'}, format = 'newline_delimited')"
        )
        return True
    if kind == "parquet":
        relation = f"read_parquet({_literal(path)}, union_by_name = true)"
    else:
        relation = _table(connection, TABLES["labels"], path, kind, directory, "--labels")
    names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
    if "target_event_id" not in names:
        raise UsageError(
            f"--labels {path!r} isn't a labels table: it has no column 'target_event_id'; give results.duckdb, or "
            "labels.parquet or labels.jsonl, of fraud-pipeline run, or what fraud-pipeline simulate --labels wrote"
        )
    connection.execute(f"CREATE TEMP VIEW {LABELS} AS SELECT * FROM {relation}")
    return False


def _beside(scores: str) -> str | None:
    """The labels that a run wrote along with these scores."""
    if _kind(scores, "--history") == "duckdb":
        return scores
    path = Path(scores)
    labels = path.with_name(path.name.replace("scores", "labels"))
    return str(labels) if labels != path and glob.glob(str(labels)) else None


def _kind(path: str, option: str) -> Kind:
    if not glob.glob(path):
        raise UsageError(f"{option} {path!r} is not there; name a file that fraud-pipeline run has written")
    name = path.removesuffix(".gz")
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith((".jsonl", ".json", ".ndjson")):
        return "jsonl"
    if Path(path).is_dir():
        raise UsageError(f"{option} {path!r} is a directory; name the file in it, such as {path.rstrip('/')}/*.parquet")
    return "duckdb"


def _table(
    connection: duckdb.DuckDBPyConnection, table: Table, path: str, kind: Kind, directory: Path, option: str
) -> str:
    """Attaches the database that holds a table, which is made of JSON lines first where it is these."""
    database = Path(path)
    if kind == "jsonl":
        database = directory / f"{table.name}.duckdb"
        if unknown := (_keys(path) or set()) - {column.name for column in table.columns}:
            raise UsageError(
                f"{option} {path!r} isn't of the table {table.name}, which has no column {sorted(unknown)[0]!r}; "
                "give a file of fraud-pipeline run, and the --entities of that run"
            )
        try:
            load(database, {table.name: sorted(glob.glob(path))}, {**TABLES, table.name: table})
        except duckdb.Error as error:
            raise UsageError(f"{option} {path!r} can't be read: {str(error).splitlines()[0]}") from error
    with connect(database, read_only=True) as found:
        if not found.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [table.name]).fetchone():
            raise UsageError(f"{option} {path!r} has no table {table.name!r}; give the file of fraud-pipeline run")
    # The same file may hold scores and labels, and DuckDB attaches a file once.
    attached = dict(connection.execute("SELECT path, database_name FROM duckdb_databases()").fetchall())
    name = attached.get(str(database), f"{table.name}_file")
    if str(database) not in attached:
        connection.execute(f"ATTACH {_literal(str(database))} AS {name} (READ_ONLY)")
    return f"{name}.main.{table.name}"


def _keys(path: str) -> set[str] | None:
    """The keys of the first line of a file of JSON lines; None if it is empty or none."""
    first = sorted(glob.glob(path))[0]
    try:
        with gzip.open(first) if first.endswith(".gz") else open(first, "rb") as lines:
            row = msgspec.json.decode(next(iter(lines), b"null"))
    except (msgspec.DecodeError, OSError, EOFError) as error:
        raise UsageError(f"{path!r} isn't a file of JSON lines: {error}") from error
    return set(row) if isinstance(row, dict) else None


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
