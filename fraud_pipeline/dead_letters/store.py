"""Where dead letters are kept, with a ledger of those that were put back."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from fraud_pipeline.dead_letters.locking import lock
from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    import duckdb

_FETCHED_TOGETHER = 500
_EXPORT_COLUMNS = {
    "dead_letter_id": "VARCHAR",
    "reason": "VARCHAR",
    "payload": "VARCHAR",
    "event_time": "TIMESTAMPTZ",
    "received_time": "TIMESTAMPTZ",
    "part": "BIGINT",
    "part_count": "BIGINT",
    "source": "VARCHAR",
}
_LEDGER = "replayed_dead_letters"
_CREATE_LEDGER = f"""
CREATE TABLE IF NOT EXISTS {_LEDGER} (
  dead_letter_id VARCHAR PRIMARY KEY, replayed_time TIMESTAMPTZ NOT NULL, destination VARCHAR NOT NULL
)"""

# A payload may be spread over rows, its parts, and a row may be there twice where a sink wrote it twice.
_SELECT = """
WITH parts AS (
  SELECT dead_letter_id, coalesce(part, 0) AS part, any_value(reason) AS reason, any_value({payload}) AS payload,
    any_value(epoch_ms(event_time)) AS event_time_ms, any_value(epoch_ms(received_time)) AS received_ms,
    any_value(coalesce(part_count, 1)) AS part_count
  FROM {relation}
  WHERE dead_letter_id IS NOT NULL AND payload IS NOT NULL
    AND list_contains($reasons, reason) AND ($source IS NULL OR source = $source)
    AND received_time >= make_timestamptz($since_us) AND received_time < make_timestamptz($until_us)
  GROUP BY ALL
)
SELECT dead_letter_id, any_value(reason), list(payload ORDER BY part), any_value(event_time_ms),
  any_value(received_ms), any_value(part_count), dead_letter_id IN (SELECT dead_letter_id FROM {ledger})
FROM parts GROUP BY dead_letter_id ORDER BY any_value(received_ms), dead_letter_id
"""


class StoredDeadLetter(NamedTuple):
    """A dead letter as it is kept, as far as it matters to put it back; times are epoch ms."""

    dead_letter_id: str
    reason: str
    payload: bytes
    event_time_ms: int | None
    received_ms: int


class Filters(NamedTuple):
    """Which dead letters: these reasons, received from `since_ms` until before `until_ms`, epoch ms, from `source`."""

    reasons: Sequence[str]
    since_ms: int
    until_ms: int
    source: str | None = None


class Store:
    """A collection of dead letters with a ledger of those that were put back. A context manager.

    A DuckDB results file has its ledger within, in the table `replayed_dead_letters`. An export, a file of JSON
    lines (payload in base64) or Parquet, or a directory that holds one as `fraud-pipeline run` writes it, has it
    beside it, in a file with `.replayed` added to its name, an id a line.

    Args:
      path: the file or directory.
      destination: what the ledger says of where they went.
      now: what it says of when, epoch seconds.
      read_only: True to change nothing.

    Raises:
      UsageError: there are no dead letters at the path, or another replay is at work on it.
    """

    def __init__(self, path: Path, destination: str, now: float, *, read_only: bool = False) -> None:
        self.read_only = read_only
        self._path = _dead_letters_file(path)
        self._destination = destination
        self._now = now
        self._stack = contextlib.ExitStack()
        self._ledger: BinaryIO | None = None

    def __enter__(self) -> Store:
        with contextlib.ExitStack() as stack:
            if self._path.suffix in (".jsonl", ".gz", ".parquet"):
                self._open_export(stack)
            else:
                self._open_results(stack)
            self._stack = stack.pop_all()
        return self

    def _open_export(self, stack: contextlib.ExitStack) -> None:
        import duckdb

        ledger = stack.enter_context(_ledger_file(self._path, self.read_only))
        self._connection = stack.enter_context(duckdb.connect())
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(_CREATE_LEDGER)
        self._record_in_table([line.decode().rstrip("\n") for line in ledger])
        self._ledger = ledger
        relation, payload = _export_relation(self._path)
        self._select = _SELECT.format(relation=relation, payload=payload, ledger=_LEDGER)

    def _open_results(self, stack: contextlib.ExitStack) -> None:
        from fraud_pipeline.tables.duckdb import connect

        self._connection = stack.enter_context(connect(self._path, read_only=self.read_only))
        ledger = _LEDGER
        if not self.read_only:
            self._connection.execute(_CREATE_LEDGER)
        elif (_LEDGER,) not in self._connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            ledger = "(SELECT NULL AS dead_letter_id WHERE false)"
        self._select = _SELECT.format(relation="dead_letters", payload="payload", ledger=ledger)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def dead_letters(self, filters: Filters) -> Iterator[tuple[StoredDeadLetter, bool, bool]]:
        """In order of receipt: each dead letter, whether it was put back before, and whether it is whole.

        Raises:
          UsageError: the file doesn't hold dead letters.
        """
        import duckdb

        parameters = {
            "reasons": list(filters.reasons),
            "since_us": filters.since_ms * 1000,
            "until_us": filters.until_ms * 1000,
            "source": filters.source,
        }
        try:
            rows = self._connection.cursor().execute(self._select, parameters)
        except duckdb.Error as error:
            raise self._not_dead_letters(error) from error
        while batch := rows.fetchmany(_FETCHED_TOGETHER):
            for dead_letter_id, reason, parts, event_time_ms, received_ms, part_count, was_replayed in batch:
                payload = b"".join(parts)
                stored = StoredDeadLetter(dead_letter_id, reason, payload, event_time_ms, received_ms)
                yield stored, was_replayed, len(parts) == part_count

    def record(self, dead_letter_ids: Sequence[str]) -> None:
        """Notes durably that these were put back."""
        if not dead_letter_ids:
            return
        if self._ledger is not None:
            self._ledger.write(b"".join(f"{dead_letter_id}\n".encode() for dead_letter_id in dead_letter_ids))
            self._ledger.flush()
            os.fsync(self._ledger.fileno())
        self._record_in_table(dead_letter_ids)

    def _record_in_table(self, dead_letter_ids: Sequence[str]) -> None:
        self._connection.execute(
            f"INSERT OR IGNORE INTO {_LEDGER} SELECT DISTINCT unnest($ids), to_timestamp($now), $destination",
            {"ids": list(dead_letter_ids), "now": self._now, "destination": self._destination},
        )

    def _not_dead_letters(self, error: duckdb.Error) -> UsageError:
        return UsageError(
            f"--from {str(self._path)!r} holds no dead letters: {str(error).splitlines()[0]}; "
            "name a results file or an export of the table dead_letters"
        )


def _dead_letters_file(path: Path) -> Path:
    if path.is_dir():
        for name in ("dead_letters.parquet", "dead_letters.jsonl"):
            if (path / name).exists():
                return path / name
        raise UsageError(f"--from {str(path)!r} has no dead_letters.parquet or .jsonl in it; name another")
    if not path.exists():
        raise UsageError(f"--from {str(path)!r} is not there; name a file that fraud-pipeline run has written")
    return path


def _export_relation(path: Path) -> tuple[str, str]:
    quoted = "'" + str(path).replace("'", "''") + "'"
    if path.suffix == ".parquet":
        return f"read_parquet({quoted})", "payload"
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in _EXPORT_COLUMNS.items())
    return (
        f"read_json({quoted}, columns = {{{columns}}}, format = 'newline_delimited')",
        "from_base64(payload)",
    )


@contextlib.contextmanager
def _ledger_file(path: Path, read_only: bool) -> Iterator[BinaryIO]:
    """The ledger beside an export, at its start; locked for writing, to its end, with a torn last line cut off."""
    ledger_path = path.with_name(f"{path.name}.replayed")
    if read_only:
        with ledger_path.open("rb") if ledger_path.exists() else io.BytesIO() as ledger:
            yield io.BytesIO(b"".join(line for line in ledger if line.endswith(b"\n")))
        return
    try:
        file = ledger_path.open("a+b")
    except OSError as error:
        raise UsageError(f"{str(ledger_path)!r} can't be written: {error.strerror}; copy the export") from error
    with file:
        lock(file, path)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0)
        yield file
