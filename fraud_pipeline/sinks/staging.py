"""The staging directory of the local sinks: rows as JSON lines, appended a bundle at a time as the job runs.

A bundle's lines are written with one call, whole or not at all, so that whatever stops the job leaves no torn
line. Finished files are made of them by the sink's `finalize`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.pvalue import PCollection

from fraud_pipeline.errors import UsageError

_LOGGER = logging.getLogger(__name__)
_FLUSH_BYTES = 1 << 20
_LOCK_NAME = "lock"

RowBuilder = Callable[[Any], Mapping[str, Any]]


class Staging:
    """A staging directory, locked by the process that submits the job.

    Args:
      directory: where the lines go; made by `open`.
      keep: True to keep what a killed run left there (a subscription won't bring it again), False to begin
        anew (a file will be read again).
    """

    def __init__(self, directory: Path, *, keep: bool) -> None:
        self.directory = directory
        self.keep = keep
        self._lock: int | None = None

    def open(self) -> None:
        """Makes the directory and locks it.

        Raises:
          UsageError: another running job writes there, or the directory can't be made.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(
                f"can't write to {str(self.directory)!r}: {error.strerror}; choose another --output"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise UsageError(
                f"another job is writing to {str(self.directory)!r}; let it end, or choose another --output"
            ) from None
        if not self.keep:
            for path in self._all_files():
                path.unlink()
        with _appending:
            _closed.discard(str(self.directory))

    def files(self, table: str) -> list[Path]:
        """The table's files, whole lines only: a torn one, as a power cut leaves it, is cut off, logged."""
        paths = sorted(path for path in self._all_files() if path.name.split(".")[0] == table)
        for path in paths:
            _cut_torn_line(path)
        return [path for path in paths if path.stat().st_size]

    def close(self) -> None:
        """Lets no writer of this process append any more; what is in the directory is final."""
        with _appending:
            _closed.add(str(self.directory))

    def remove(self) -> None:
        """Removes the directory, when its rows are in finished files, and unlocks it."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._unlock()

    def rows_written(self) -> dict[str, int]:
        """Rows so far by table, as far as they were written by this process."""
        with _appending:
            return {table: n for (directory, table), n in _rows.items() if directory == str(self.directory)}

    def _all_files(self) -> list[Path]:
        return list(self.directory.glob("*.jsonl"))

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class StageRows(beam.PTransform[Any, None]):
    """Appends the row of each element to the table's staging file. Nothing leaves it.

    A bundle that the runner processes twice may be written twice: readers take the latest version of a row.

    Args:
      directory: the staging directory, on a disk that all workers share with the submitting process.
      table: the table's name.
      to_row: makes the row, a mapping of JSON values; picklable.
    """

    def __init__(self, directory: Path, table: str, to_row: RowBuilder) -> None:
        super().__init__()
        self._fn = _StageRowsFn(str(directory), table, to_row)

    def expand(self, elements: PCollection[Any]) -> None:
        elements | "Append" >> beam.ParDo(self._fn)


class _StageRowsFn(beam.DoFn):
    def __init__(self, directory: str, table: str, to_row: RowBuilder) -> None:
        self._directory = directory
        self._table = table
        self._to_row = to_row

    def start_bundle(self) -> None:
        self._lines: list[bytes] = []
        self._bytes = 0

    def process(self, element: Any) -> None:
        line = msgspec.json.encode(self._to_row(element))
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= _FLUSH_BYTES:
            self.finish_bundle()

    def finish_bundle(self) -> None:
        if self._lines:
            append_lines(self._directory, self._table, self._lines)
        self.start_bundle()


_appending = threading.Lock()
_closed: set[str] = set()
_rows: Counter[tuple[str, str]] = Counter()
_process_name = (0, "")


def append_lines(directory: str, table: str, lines: list[bytes]) -> None:
    """Appends whole lines to this process's file of the table, all of them or none.

    Raises:
      RuntimeError: the staging directory was closed.
      OSError: the disk is full, or the like.
    """
    data = b"\n".join([*lines, b""])
    with _appending:
        if directory in _closed:
            raise RuntimeError(f"{directory} is closed: the job was stopped")
        path = os.path.join(directory, f"{table}.{_name_of_this_process()}.jsonl")
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(descriptor, data[written:])
            except BaseException:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        _rows[directory, table] += len(lines)


def _name_of_this_process() -> str:
    global _process_name
    if _process_name[0] != os.getpid():
        _process_name = (os.getpid(), f"{os.getpid()}-{secrets.token_hex(4)}")
    return _process_name[1]


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position, tail = end, b""
        while position and b"\n" not in tail:
            step = min(1 << 16, position)
            position = file.seek(position - step)
            tail = file.read(step)
        whole = position + tail.rfind(b"\n") + 1 if b"\n" in tail else 0
        if whole < end:
            _LOGGER.warning("%s ended in a torn line of %d bytes, cut off", path.name, end - whole)
            file.truncate(whole)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` and renames it on leaving; on an error `path` stays as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
