"""Dead letters put back in: where they are kept, what was put back before, and where they go.

Each goes back once. For a file that is certain: it is replaced as a whole, and each line names the dead letter
that it was, so that what a killed run did without noting it is seen by the next one. To Pub/Sub it is at least
once: a killed run may have published up to 500 messages that it hadn't noted, and the next one publishes those
again, with the same attribute `dead_letter_id`.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

from fraud_pipeline.errors import UsageError
from transforms.events import Message
from transforms.message_lines import unwrap_line, wrap_line

if TYPE_CHECKING:
    import duckdb

SOURCE_PREFIX = "replay:"
"""What the source of a message that was put back begins with; its dead letter's id follows."""

_MARK = b'"' + SOURCE_PREFIX.encode()
_BATCH = 500
_PUBLISH_SECONDS = 60.0

_EXPORT_COLUMNS = {
    "dead_letter_id": "VARCHAR",
    "reason": "VARCHAR",
    "payload": "VARCHAR",
    "event_time": "TIMESTAMPTZ",
    "received_time": "TIMESTAMPTZ",
    "part": "BIGINT",
    "part_count": "BIGINT",
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
    AND list_contains($reasons, reason)
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
    """Which dead letters: these reasons, received from `since_ms` until before `until_ms`, epoch ms."""

    reasons: Sequence[str]
    since_ms: int
    until_ms: int


class Summary(NamedTuple):
    """What became of the dead letters that the filters let through.

    Attributes:
      put_back: those put back now (or that would be), by reason.
      before: those put back by an earlier run.
      incomplete: those of which a part of the payload is missing.
    """

    put_back: Counter[str]
    before: int
    incomplete: int


class Destination(Protocol):
    """Where dead letters go."""

    def contains(self, dead_letter_id: str) -> bool:
        """Whether it is known to be there already."""

    def put(self, dead_letters: Iterator[StoredDeadLetter], record: Callable[[Sequence[str]], None]) -> None:
        """Puts them there, and calls `record` with the ids of those that are there for certain."""


def replay(store: Store, destination: Destination, filters: Filters) -> Summary:
    """Puts dead letters back, each once; with a store that is read only, only says which that would be.

    Args:
      store: where they are.
      destination: where they go.
      filters: which.

    Raises:
      UsageError: the destination can't be written to; what was put there before that is recorded.
    """
    put_back: Counter[str] = Counter()
    before: list[str] = []
    incomplete: list[str] = []
    there_already: list[str] = []

    def due() -> Iterator[StoredDeadLetter]:
        for dead_letter, was_replayed, is_whole in store.dead_letters(filters):
            if was_replayed:
                before.append(dead_letter.dead_letter_id)
            elif destination.contains(dead_letter.dead_letter_id):
                there_already.append(dead_letter.dead_letter_id)
            elif not is_whole:
                incomplete.append(dead_letter.dead_letter_id)
            else:
                put_back[dead_letter.reason] += 1
                yield dead_letter

    if store.read_only:
        for _ in due():
            pass
    else:
        destination.put(due(), store.record)
        store.record(there_already)
    return Summary(put_back, len(before) + len(there_already), len(incomplete))


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
        }
        try:
            rows = self._connection.cursor().execute(self._select, parameters)
        except duckdb.Error as error:
            raise self._not_dead_letters(error) from error
        while batch := rows.fetchmany(_BATCH):
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


class FileDestination:
    """A JSONL file that `fraud-pipeline run` reads; what it holds already is kept.

    Every line is wrapped: payload, time of receipt, and as its source the dead letter that it was.

    Args:
      path: the file, which is made if it isn't there.
      received_ms: the time of receipt that the lines get, epoch ms; None for the dead letter's own.

    Raises:
      UsageError: it can't be read, or isn't plain text.
    """

    def __init__(self, path: Path, received_ms: int | None) -> None:
        self._path = path
        self._received_ms = received_ms
        if path.suffix == ".gz" or path.is_dir():
            raise UsageError(f"--to {str(path)!r} is no plain file; give one like events.jsonl")
        try:
            self._ids = _ids_in(path)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def contains(self, dead_letter_id: str) -> bool:
        """See `Destination`."""
        return dead_letter_id in self._ids

    def put(self, dead_letters: Iterator[StoredDeadLetter], record: Callable[[Sequence[str]], None]) -> None:
        """See `Destination`: all of them or, where it fails, none."""
        ids = []
        first = next(dead_letters, None)
        if first is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _replacement(self._path) as lines:
                for dead_letter in _chain(first, dead_letters):
                    lines.write(self._line(dead_letter))
                    ids.append(dead_letter.dead_letter_id)
        except OSError as error:
            raise _cannot_write(self._path, error) from error
        record(ids)

    def _line(self, dead_letter: StoredDeadLetter) -> bytes:
        received_ms = dead_letter.received_ms if self._received_ms is None else self._received_ms
        source = SOURCE_PREFIX + dead_letter.dead_letter_id
        return wrap_line(Message(dead_letter.payload, received_ms, source)) + b"\n"


class PubsubDestination:
    """A topic. Each message has the attribute `dead_letter_id`.

    Args:
      topic: `projects/P/topics/T`.
      now_ms: the time of an event whose own isn't known, epoch ms.
      timestamp_attribute: the attribute that the job takes event times from, if it does.

    Raises:
      UsageError: that is no topic's name, or there are no credentials.
    """

    def __init__(self, topic: str, now_ms: int, timestamp_attribute: str | None = None) -> None:
        parts = topic.split("/")
        if len(parts) != 4 or parts[0] != "projects" or parts[2] != "topics" or not all(parts):
            raise UsageError(f"--to pubsub:{topic} names no topic; give pubsub:projects/PROJECT/topics/TOPIC")
        self._topic = topic
        self._now_ms = now_ms
        self._timestamp_attribute = timestamp_attribute

    def contains(self, dead_letter_id: str) -> bool:
        """See `Destination`: a topic can't be asked."""
        return False

    def put(self, dead_letters: Iterator[StoredDeadLetter], record: Callable[[Sequence[str]], None]) -> None:
        """See `Destination`: in batches, each recorded when Pub/Sub has confirmed it."""
        from google.api_core.retry import Retry
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.pubsub_v1 import PublisherClient

        try:
            client = PublisherClient()
        except DefaultCredentialsError as error:
            raise UsageError(
                "no Google credentials; run gcloud auth application-default login, or set PUBSUB_EMULATOR_HOST"
            ) from error
        retry = Retry(timeout=_PUBLISH_SECONDS)
        failures: list[Exception] = []
        while batch := list(islice(dead_letters, _BATCH)):
            futures = [
                (
                    letter.dead_letter_id,
                    client.publish(self._topic, letter.payload, retry=retry, **self._attributes(letter)),
                )
                for letter in batch
            ]
            confirmed = []
            try:
                for dead_letter_id, future in futures:
                    try:
                        future.result(2 * _PUBLISH_SECONDS)
                        confirmed.append(dead_letter_id)
                    except Exception as error:
                        failures.append(error)
            finally:
                record(confirmed)
            if not confirmed:
                break
        client.stop()
        if failures:
            text = " ".join(str(failures[0]).split()) or type(failures[0]).__name__
            raise UsageError(
                f"{len(failures)} dead letters couldn't be published to {self._topic!r}: {text}; create the topic, "
                "check PUBSUB_EMULATOR_HOST or the permission pubsub.topics.publish, and run this again"
            )

    def _attributes(self, dead_letter: StoredDeadLetter) -> dict[str, str]:
        attributes = {"dead_letter_id": dead_letter.dead_letter_id}
        if self._timestamp_attribute is not None:
            known_ms = dead_letter.event_time_ms
            attributes[self._timestamp_attribute] = str(self._now_ms if known_ms is None else known_ms)
        return attributes


def _dead_letters_file(path: Path) -> Path:
    if path.is_dir():
        for name in ("dead_letters.parquet", "dead_letters.jsonl"):
            if (path / name).exists():
                return path / name
        raise UsageError(f"--from {str(path)!r} has no dead_letters.parquet or .jsonl in it; name another")
    if not path.exists():
        raise UsageError(
            f"--from {str(path)!r} is not there; name a file that fraud-pipeline run has written"
        )
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
        raise UsageError(
            f"{str(ledger_path)!r} can't be written: {error.strerror}; copy the export"
        ) from error
    with file:
        _lock(file, path)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.seek(0)
        yield file


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[BinaryIO]:
    """A file to append to, with the content of the one at the path, whose place it takes at the end of the block."""
    temporary = path.with_name(f".{path.name}.replay")
    while True:
        lines = temporary.open("a+b")
        try:
            _lock(lines, path)
        except BaseException:
            lines.close()
            raise
        # Another replay may have moved it into its place between the two calls.
        if temporary.exists() and os.path.samestat(os.fstat(lines.fileno()), temporary.stat()):
            break
        lines.close()
    with lines:
        try:
            lines.truncate(0)
            if path.exists():
                with path.open("rb") as before:
                    shutil.copyfileobj(before, lines, 1 << 20)
                shutil.copymode(path, temporary)
                if not _ends_with_newline(path):
                    lines.write(b"\n")
            yield lines
            lines.flush()
            os.fsync(lines.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another replay is at work on {str(path)!r}; let it end first") from None


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read() in (b"", b"\n")


def _ids_in(path: Path) -> set[str]:
    """The dead letters that the lines of a file were."""
    if not path.exists():
        return set()
    with path.open("rb") as lines:
        sources = (unwrap_line(line.rstrip(b"\n"), 0, "").source for line in lines if _MARK in line)
        return {source.removeprefix(SOURCE_PREFIX) for source in sources if source.startswith(SOURCE_PREFIX)}


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--to {str(path)!r} can't be written: {error.strerror}; choose another file")
