"""Where dead letters go: a file or a topic."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Protocol

from fraud_pipeline.dead_letters.locking import lock
from fraud_pipeline.dead_letters.store import StoredDeadLetter
from fraud_pipeline.errors import UsageError
from transforms.events import Message
from transforms.message_lines import unwrap_line, wrap_line

SOURCE_PREFIX = "replay:"
"""What the source of a message that was put back begins with; its dead letter's id follows."""

_MARK = b'"' + SOURCE_PREFIX.encode()
_BATCH = 500
_PUBLISH_SECONDS = 60.0


class Destination(Protocol):
    """Where dead letters go."""

    def contains(self, dead_letter_id: str) -> bool:
        """Whether it is known to be there already."""

    def put(self, dead_letters: Iterator[StoredDeadLetter], record: Callable[[Sequence[str]], None]) -> None:
        """Puts them there, and calls `record` with the ids of those that are there for certain."""


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
            with replacement(self._path) as lines:
                for dead_letter in chain((first,), dead_letters):
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


@contextlib.contextmanager
def replacement(path: Path) -> Iterator[BinaryIO]:
    """A file to append to, with the content of the one at the path, whose place it takes at the end of the block."""
    temporary = path.with_name(f".{path.name}.replay")
    while True:
        lines = temporary.open("a+b")
        try:
            lock(lines, path)
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


def _cannot_write(path: Path, error: OSError) -> UsageError:
    return UsageError(f"--to {str(path)!r} can't be written: {error.strerror}; choose another file")
