"""History: scored events as a job wrote them, each by its latest version, with what later turned out about it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import msgspec

from fraud_pipeline.backtest.sources import LABELS, SCORES, attach_labels, attach_scores
from fraud_pipeline.errors import UsageError
from fraud_pipeline.tables import dialect
from fraud_pipeline.tables.rows import timestamp
from fraud_pipeline.tables.views import VIEWS
from transforms.entities import DEFAULT_ENTITIES, EntityConfig

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 20_000
"""Rows that are judged at a time: small beside what a process holds, large beside the cost of handing them over."""

VERDICT = "is_fraud"
"""The column of a batch that holds what later turned out: true, false, or NULL without a label."""

_SUPERSEDED = f"""
CREATE TEMP TABLE superseded AS
WITH repeated AS (
  SELECT hash(event_time, user_id, event_id) AS key FROM {SCORES} GROUP BY key HAVING COUNT(*) > 1
)
SELECT row_number
FROM (
  SELECT
    row_number,
    ROW_NUMBER() OVER (PARTITION BY event_time, user_id, event_id ORDER BY version DESC, scored_time DESC) AS rank
  FROM {SCORES}
  WHERE hash(event_time, user_id, event_id) IN (SELECT key FROM repeated)
) AS ranked
WHERE rank > 1
"""
"""The order is that of the view latest_scores. Only rows that share their key's hash are sorted, as few do."""

_CURRENT = f"{SCORES} ANTI JOIN superseded USING (row_number)"


class Total(msgspec.Struct, frozen=True):
    """Events of one kind: how many, and their amounts summed up (minor units; 0 for what isn't a payment)."""

    event_type: str
    currency: str | None
    is_fraud: bool | None
    events: int
    amount_minor: int


class Batch(NamedTuple):
    """Rows of history to judge, and which part of it, from 0 to 1, has been read with them."""

    rows: pyarrow.RecordBatch
    done: float


class History(msgspec.Struct, frozen=True):
    """Scored events that can be read.

    Attributes:
      columns: DuckDB's types by name of what a row has; `event_time_ms` is among them.
      row_count: rows in the range, those included that a later version of their event replaced.
      superseded_count: rows that a later version replaced, or that were written twice.
      label_count: verdicts, also on events that aren't in the range.
      unlabelled_is_legitimate: what an event without a verdict counts as; otherwise it is neither.
    """

    connection: duckdb.DuckDBPyConnection
    columns: dict[str, str]
    row_count: int
    superseded_count: int
    first_row: int
    last_row: int
    label_count: int
    unlabelled_is_legitimate: bool

    @property
    def _verdict(self) -> str:
        verdict = f"verdicts.{VERDICT}"
        return f"COALESCE({verdict}, FALSE)" if self.unlabelled_is_legitimate else verdict

    def totals(self) -> tuple[Total, ...]:
        """All events in the range, by kind."""
        rows = self.connection.execute(
            f"SELECT event_type, currency, {self._verdict}, COUNT(*), COALESCE(SUM(amount_minor), 0)::BIGINT "
            f"FROM {_CURRENT} LEFT JOIN verdicts USING (user_id, event_id) GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        return tuple(Total(*row) for row in rows)

    def days(self) -> tuple[str, str, int]:
        """The first and the last day with events (UTC), and how many days have any."""
        row = self.connection.execute(
            "SELECT MIN(day)::VARCHAR, MAX(day)::VARCHAR, COUNT(*) FROM ("
            f"SELECT DISTINCT CAST(event_time AS DATE) AS day FROM {SCORES}) AS days"
        ).fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    def values(self, column: str, most: int | None = None) -> list[str]:
        """The different values of a column of texts; no more than `most`, if that is given."""
        limit = "" if most is None else f"LIMIT {most}"
        rows = self.connection.execute(
            f'SELECT DISTINCT "{column}" FROM {SCORES} WHERE "{column}" IS NOT NULL {limit}'
        ).fetchall()
        return [value for (value,) in rows]

    def keep(self, table: str, values: Sequence[str]) -> None:
        """Makes a table of texts, with the column `value`, for use in a condition."""
        import pyarrow

        given = pyarrow.table({"value": pyarrow.array(values, pyarrow.string())})
        self.connection.register("given_values", given)
        self.connection.execute(f'CREATE OR REPLACE TEMP TABLE "{table}" AS SELECT value FROM given_values')
        self.connection.unregister("given_values")

    def batches(self, names: Sequence[str], condition: str) -> Iterator[Batch]:
        """Rows that fulfil a condition, the latest version of each event.

        Args:
          names: columns to read; a batch has these, and `is_fraud` at its end.
          condition: SQL over the columns.
        """
        wanted = ", ".join(f'scores."{name}"' for name in names)
        reader = self.connection.execute(
            f"SELECT row_number, {wanted}, {self._verdict} AS {VERDICT} "
            f"FROM (SELECT * FROM {_CURRENT} WHERE {condition}) AS scores "
            "LEFT JOIN verdicts USING (user_id, event_id)"
        ).to_arrow_reader(BATCH_ROWS)
        furthest = self.first_row
        for batch in reader:
            if batch.num_rows:
                furthest = max(furthest, batch.column(0)[-1].as_py())
                rows = batch.select(range(1, batch.num_columns))
                yield Batch(rows, (furthest - self.first_row + 1) / (self.last_row - self.first_row + 1))


@contextmanager
def open_history(
    scores: str,
    labels: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    *,
    unlabelled_is_legitimate: bool = False,
    entities: EntityConfig = DEFAULT_ENTITIES,
) -> Iterator[History]:
    """Opens history for reading.

    Args:
      scores: a results file; or a Parquet or JSON Lines file of the scores table, Parquet with `*` for many.
      labels: where the labels are, alike; or the file of truth that `fraud-pipeline simulate --labels` wrote, where
        events that it doesn't name are legitimate. Without it those beside the scores are taken.
      from_ms, to_ms: the range of event times, epoch ms: from the first on, before the second.
      unlabelled_is_legitimate: what an event without a label counts as; otherwise it is neither.
      entities: whose features the scores may have.

    Raises:
      UsageError: a file is missing, isn't what it should be, or has no event in the range.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="backtest-"))
        connection = stack.enter_context(duckdb.connect())
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = '{os.path.join(directory, 'spill')}'")
        within = [f"event_time >= TIMESTAMPTZ '{timestamp(from_ms)}'"] if from_ms is not None else []
        within += [f"event_time < TIMESTAMPTZ '{timestamp(to_ms)}'"] if to_ms is not None else []
        try:
            attach_scores(connection, scores, " AND ".join(within) or "TRUE", Path(directory), entities)
            is_truth = attach_labels(connection, labels, scores, Path(directory))
            connection.execute(f"CREATE TEMP TABLE verdicts AS {_verdicts(is_truth)}")
            yield _history(connection, scores, bool(within), unlabelled_is_legitimate or bool(is_truth))
        except duckdb.Error as error:
            raise UsageError(f"--history {scores!r} can't be read: {str(error).splitlines()[0]}") from error


def _verdicts(is_truth: bool | None) -> str:
    """SQL for the latest verdict on each event: `user_id`, `event_id`, `is_fraud`."""
    if is_truth is None:
        return f"SELECT '' AS user_id, '' AS event_id, FALSE AS {VERDICT} LIMIT 0"
    if is_truth:
        # A simulation's ids are unique over all users.
        return f"SELECT DISTINCT user_id, event_id, TRUE AS {VERDICT} FROM {SCORES} SEMI JOIN {LABELS} USING (event_id)"
    view = dialect.to_duckdb(dialect.parse(VIEWS["current_labels"].sql))
    return f"SELECT user_id, target_event_id AS event_id, {VERDICT} FROM ({view}) AS current_labels"


def _history(
    connection: duckdb.DuckDBPyConnection, scores: str, has_range: bool, unlabelled_is_legitimate: bool
) -> History:
    row = connection.execute(f"SELECT COUNT(*), MIN(row_number), MAX(row_number) FROM {SCORES}").fetchone()
    assert row is not None
    if not row[0]:
        fix = "widen --from and --to" if has_range else "give a file that a run has filled"
        raise UsageError(f"--history {scores!r} has no scored event{' in that range' if has_range else ''}; {fix}")
    connection.execute(_SUPERSEDED)
    superseded = connection.execute("SELECT COUNT(*) FROM superseded").fetchone()
    labelled = connection.execute("SELECT COUNT(*) FROM verdicts").fetchone()
    assert superseded is not None
    assert labelled is not None
    columns = connection.execute(f"SELECT column_name, column_type FROM (DESCRIBE {SCORES})").fetchall()
    return History(
        connection=connection,
        columns={name: kind for name, kind in columns if name != "row_number"},
        row_count=row[0],
        superseded_count=superseded[0],
        first_row=row[1],
        last_row=row[2],
        label_count=labelled[0],
        unlabelled_is_legitimate=unlabelled_is_legitimate,
    )
