"""Result tables in BigQuery, by streaming inserts: what it refuses lands in its dead letters, and blocks nothing."""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.gcp.bigquery import MAX_INSERT_RETRIES, BigQueryDisposition, WriteToBigQuery
from apache_beam.io.gcp.bigquery_tools import RetryStrategy
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks.base import Sink, table_row_builders
from fraud_pipeline.sinks.staging import RowBuilder
from fraud_pipeline.tables.rows import dead_letter_row, now_ms, split_row
from fraud_pipeline.tables.schema import TABLES, Table, tables_for
from fraud_pipeline.tables.validation import RowCheck
from transforms import rfc3339
from transforms.entities import DEFAULT_ENTITIES, EntityConfig
from transforms.events import DeadLetter, Reason

if TYPE_CHECKING:
    from google.cloud import bigquery

_LOGGER = logging.getLogger(__name__)
_DEAD_LETTERS = "dead_letters"
_LIST_SECONDS = 20.0

RETRIES = 12
"""How often a row that BigQuery refuses for the time being is tried again: 0.2 s doubled each time is a quarter of an
hour. Then it is a dead letter, and those are tried until BigQuery takes them."""
STREAMING_KEYS = 50
"""Into how many parts a table's rows are dealt, for Dataflow's workers. Beam's 500 make very small inserts."""


class BigquerySink(Sink):
    """Tables of a BigQuery dataset, or of the emulator that the variable BIGQUERY_EMULATOR_HOST names.

    A row that doesn't fit its table, or that BigQuery refuses, becomes a dead letter of reason SINK_REJECTED with
    BigQuery's reason and the row as JSON; the others of its request arrive. What is refused for the time being is
    tried again. A row may arrive twice: the views count it once. A dead letter about a row that BigQuery refuses as
    well is logged, without its content, and counted as `sink_bigquery/lost_dead_letters`.

    Args:
      project, dataset: the dataset's; its tables must be there.
      row_builders: for each table how a row is made of an element; the tables' own unless given.
      entities: of which the records of scores have features; those that ship unless given.
    """

    def __init__(
        self,
        project: str,
        dataset: str,
        *,
        row_builders: Mapping[str, RowBuilder] | None = None,
        entities: EntityConfig = DEFAULT_ENTITIES,
    ) -> None:
        self.project = project
        self.dataset = dataset
        self._row_builders = row_builders
        self._entities = entities
        self._written_before = _rows_by_table()

    def check(self) -> None:
        """Looks whether the tables are there.

        Raises:
          UsageError: some are missing.
        """
        require_tables(self.project, self.dataset, TABLES)

    def write(self, outputs: Any) -> None:
        """Wires the outputs to their tables.

        Args:
          outputs: the graph's named tuple of PCollections; a field's name is its table's.
        """
        row_builders = self._row_builders if self._row_builders is not None else table_row_builders(self._entities)
        tables = tables_for(self._entities)
        rejected: list[PCollection[DeadLetter]] = []
        for table in outputs._fields:
            step = f"Write{table.title().replace('_', '')}"
            write = WriteRows(self.project, self.dataset, table, row_builders[table], tables[table])
            rejected += getattr(outputs, table) | step >> write
        dead_letters = rejected | "SinkRejected" >> beam.Flatten()
        # Not with the other dead letters: what is refused here must not come here again.
        lost = dead_letters | "WriteSinkRejected" >> WriteRows(
            self.project, self.dataset, _DEAD_LETTERS, dead_letter_row
        )
        _ = lost | "Lost" >> beam.Flatten() | "CountLost" >> beam.ParDo(CountLost())

    def finalize(self) -> None:
        """Does nothing: rows are in the tables as soon as they are written."""

    def rows_written(self) -> Mapping[str, int]:
        """Rows that were handed to BigQuery in this process, by table; empty where others do the work."""
        return dict(_rows_by_table() - self._written_before)


class WriteRows(beam.PTransform[PCollection[Any], Sequence[PCollection[DeadLetter]]]):
    """Writes the row of each element to a table; gives the dead letters of rows that could not be written.

    Args:
      table: its short name, one of `fraud_pipeline.tables.schema.TABLES`.
      to_row: makes the row, a mapping of JSON values; picklable.
      declared: the table, where it isn't one of these.
    """

    def __init__(
        self, project: str, dataset: str, table: str, to_row: RowBuilder, declared: Table | None = None
    ) -> None:
        super().__init__()
        self._project = project
        self._dataset = dataset
        self._table = table
        self._to_row = to_row
        self._declared = declared or TABLES[table]

    def expand(self, elements: PCollection[Any]) -> Sequence[PCollection[DeadLetter]]:
        """Wires it."""
        host = os.environ.get("BIGQUERY_EMULATOR_HOST")
        if not isinstance(elements.windowing.windowfn, GlobalWindows):
            elements = elements | "IntoOneWindow" >> beam.WindowInto(GlobalWindows())
        rows = elements | "ToRows" >> beam.ParDo(_ToRows(self._declared, self._to_row)).with_output_types(
            dict[str, Any]
        ).with_outputs("misfits", main="rows")
        written = rows.rows | "Insert" >> WriteToBigQuery(
            f"{self._project}:{self._dataset}.{self._table}",
            method=WriteToBigQuery.Method.STREAMING_INSERTS,
            create_disposition=BigQueryDisposition.CREATE_NEVER,
            write_disposition=BigQueryDisposition.WRITE_APPEND,
            insert_retry_strategy=RetryStrategy.RETRY_ON_TRANSIENT_ERROR,
            num_streaming_keys=0 if host else STREAMING_KEYS,
            test_client=EmulatorClient(self._project) if host else None,
            max_retries=MAX_INSERT_RETRIES if self._table == _DEAD_LETTERS else RETRIES,
        )
        refused = written.failed_rows_with_errors | "Refused" >> beam.Map(_refused, self._table).with_output_types(
            DeadLetter
        )
        return rows.misfits, refused


class EmulatorClient:
    """The client of BigQuery's emulator for `WriteToBigQuery`: pickled with it, it connects once in each process."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._host = os.environ["BIGQUERY_EMULATOR_HOST"]

    def insert_rows_json(self, *args: Any, **kwargs: Any) -> Any:
        """As `google.cloud.bigquery.Client.insert_rows_json`."""
        return _client(self._project, self._host).insert_rows_json(*args, **kwargs)


@functools.cache
def _client(project: str, host: str) -> bigquery.Client:
    from fraud_pipeline.tables.bigquery import make_client

    return make_client(project, host)


def require_tables(project: str, dataset: str, tables: Iterable[str]) -> None:
    """Checks that the tables are there, where that can be found out: without permission to list them, it can't.

    Raises:
      UsageError: some are missing.
    """
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    from fraud_pipeline.tables.bigquery import make_client

    retry = DEFAULT_RETRY.with_timeout(_LIST_SECONDS)
    fix = f"run: fraud-pipeline tables create --project {project} --dataset {dataset}"
    try:
        client = make_client(project)
        try:
            listed = client.list_tables(f"{project}.{dataset}", timeout=_LIST_SECONDS, retry=retry)
            found = {table.table_id for table in listed}
        finally:
            client.close()
    except NotFound:
        raise UsageError(f"dataset {project}.{dataset} does not exist; {fix}") from None
    except (GoogleAPIError, GoogleAuthError, OSError) as error:
        _LOGGER.warning("whether %s.%s has its tables can't be looked up: %s", project, dataset, type(error).__name__)
        return
    missing = [table for table in tables if table not in found]
    if missing:
        raise UsageError(f"{project}.{dataset} lacks the tables {', '.join(missing)}; {fix}")


def sink_rejected(table: str, row: Mapping[str, Any], why: str, column: str | None = None) -> DeadLetter:
    """The dead letter of a row that could not be written. Takes any row, one that doesn't fit its table too.

    Args:
      column: the one at fault, where that is known.
      why: what is wrong, as it was found or as BigQuery says it.
    """
    received_ms = _time_ms(row, "received_time")
    if received_ms is None:
        received_ms = _time_ms(row, "emitted_time")
    return DeadLetter(
        reason=Reason.SINK_REJECTED,
        field=column,
        message=f"BigQuery has no place for a row of {table}: {why}; the payload is that row, as JSON",
        payload=json.dumps(row, default=repr).encode(),
        received_ms=now_ms() if received_ms is None else received_ms,
        source=f"table {table}",
        event_id=_text(row, "event_id"),
        user_id=_text(row, "user_id"),
        event_time_ms=_time_ms(row, "event_time"),
    )


def bigquery_reason(errors: Any) -> str:
    """What BigQuery said about a row in one line: its errors, or Beam's words for a row too large to send."""
    if not isinstance(errors, list):
        return str(errors)
    return ", ".join(_error_text(error) for error in errors)


def _error_text(error: Mapping[str, Any]) -> str:
    where = f" at {error['location']}" if error.get("location") else ""
    return f"{error.get('reason', 'no reason')}{where} ({error.get('message', 'no message')})"


def _refused(failed: tuple[str, Mapping[str, Any], Any], table: str) -> DeadLetter:
    _, row, errors = failed
    column = errors[0].get("location") if isinstance(errors, list) and errors else None
    return sink_rejected(table, row, bigquery_reason(errors), column or None)


def _time_ms(row: Mapping[str, Any], column: str) -> int | None:
    try:
        return rfc3339.epoch_ms(row[column])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _text(row: Mapping[str, Any], column: str) -> str | None:
    value = row.get(column)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


_counting = threading.Lock()
_rows: Counter[str] = Counter()


def _rows_by_table() -> Counter[str]:
    with _counting:
        return Counter(_rows)


class _ToRows(beam.DoFn):
    def __init__(self, table: Table, to_row: RowBuilder) -> None:
        self._declared = table
        self._table = table.name
        self._to_row = to_row

    def setup(self) -> None:
        self._check = RowCheck(self._declared)

    def start_bundle(self) -> None:
        self._count = 0

    def process(self, element: Any) -> Iterator[Any]:
        for row in split_row(self._table, dict(self._to_row(element))):
            error = self._check(row)
            if error is None:
                self._count += 1
                yield row
            else:
                letter = sink_rejected(self._table, row, f"{error.column} {error.message}", error.column)
                yield TaggedOutput("misfits", letter)

    def finish_bundle(self) -> None:
        with _counting:
            _rows[self._table] += self._count


class CountLost(beam.DoFn):
    """Of a dead letter that can't be written nothing of its content is told: it holds what logs must not."""

    _LOST = Metrics.counter("sink_bigquery", "lost_dead_letters")

    def process(self, dead_letter: DeadLetter) -> None:
        self._LOST.inc()
        _LOGGER.error(
            "BigQuery refused a dead letter about a row that it had refused, for its column %s; it is lost. "
            "Run fraud-pipeline tables create",
            dead_letter.field,
        )
