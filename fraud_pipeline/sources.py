"""Where messages come from: a Pub/Sub subscription, or files of lines. Both give `Message`s."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, BinaryIO

import apache_beam as beam
import msgspec
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PBegin, PCollection

from fraud_pipeline.errors import UsageError
from transforms import rfc3339
from transforms.events import Message
from transforms.message_lines import unwrap_line
from transforms.stamping import stamped

_GZIP_MAGIC = b"\x1f\x8b"
_END_OF_9999_MS = 253_402_300_799_999


class InputFile(msgspec.Struct, frozen=True):
    """A file of messages.

    Attributes:
      path: local, or of a file system that Beam knows, such as `gs://`.
      modified_ms: when it was last written, epoch ms.
    """

    path: str
    modified_ms: int


class ReadMessagesFromPubsub(beam.PTransform[PBegin, PCollection[Message]]):
    """Reads a subscription, without end. Takes nothing, gives `Message`s stamped as `timestamp_attribute` says.

    A message's `received_ms` is its publish time, its source `pubsub:subscriptions/NAME#message_id`. Pub/Sub
    delivers at least once: the graph knows an event that it has seen.

    Args:
      subscription: `projects/P/subscriptions/S`.
      timestamp_attribute: the attribute with the event time, epoch milliseconds or RFC 3339, by which the watermark
        goes; None for publish time. `docs/decisions/pubsub-watermark.md` has the reasons.

    Raises:
      UsageError: the subscription's name isn't of that form.
    """

    def __init__(self, subscription: str, timestamp_attribute: str | None = None) -> None:
        super().__init__()
        parts = subscription.split("/")
        if len(parts) != 4 or parts[0] != "projects" or parts[2] != "subscriptions" or not all(parts):
            raise UsageError(f"{subscription!r} is no subscription; give projects/PROJECT/subscriptions/NAME")
        self._subscription = subscription
        self._timestamp_attribute = timestamp_attribute

    def expand(self, begin: PBegin) -> PCollection[Message]:
        """Wires it."""
        source = f"pubsub:{self._subscription.split('/', 2)[2]}"
        read = beam.io.ReadFromPubSub(
            subscription=self._subscription,
            with_attributes=True,
            timestamp_attribute=self._timestamp_attribute,
        )
        return begin | "Pull" >> read | "ToMessage" >> beam.Map(_from_pubsub, source).with_output_types(Message)


class ReadMessagesFromFiles(beam.PTransform[PBegin, PCollection[Message]]):
    """Reads files of lines once. Takes nothing, gives `Message`s stamped with the time of receipt.

    Every line is a message, an empty one too. Wrapped lines carry payload and time; any other is a payload itself,
    byte for byte, that counts as received at its event time where it has one, and never after the file was written.
    A message's source is `file:line`. A file is read from its start, so use several for speed.

    Args:
      files: as `match_files` gives them.
    """

    def __init__(self, files: Sequence[InputFile]) -> None:
        super().__init__()
        self._files = list(files)

    def expand(self, begin: PBegin) -> PCollection[Message]:
        """Wires it."""
        return (
            begin
            | "Files" >> beam.Create(self._files)
            | "Spread" >> beam.Reshuffle()
            | "Lines" >> beam.ParDo(_ReadLines()).with_output_types(Message)
        )


def check_subscription(subscription: str) -> None:
    """Looks whether a subscription is there, before a job waits for it in vain.

    Raises:
      UsageError: it isn't, may not be read, or Pub/Sub can't be reached.
    """
    from google.api_core.exceptions import GoogleAPIError, NotFound
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.pubsub_v1 import SubscriberClient

    try:
        with SubscriberClient() as client:
            client.get_subscription(subscription=subscription, timeout=20, retry=None)
    except NotFound:
        raise UsageError(
            f"{subscription} does not exist; "
            f"run: gcloud pubsub subscriptions create {subscription} --topic=TOPIC --ack-deadline=60"
        ) from None
    except (GoogleAPIError, GoogleAuthError) as error:
        raise UsageError(f"{subscription} can't be looked up: {str(error).splitlines()[0]}") from error


def match_files(patterns: Iterable[str]) -> list[InputFile]:
    """The files that the patterns match, each once, in order of their names.

    Args:
      patterns: paths, with `*`, `?`, `[…]` or `**`; local, or of a file system that Beam knows.

    Raises:
      UsageError: a pattern matches no file, or can't be looked up.
    """
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        try:
            (match,) = FileSystems.match([pattern])
        except Exception as error:
            raise UsageError(f"--input {pattern!r} can't be looked up: {error}") from error
        files = [file for file in match.metadata_list if not os.path.isdir(file.path)]
        if not files:
            raise UsageError(f"--input {pattern!r} matches no file; check the path, and quote it if it has a *")
        for file in files:
            found[file.path] = InputFile(file.path, int(file.last_updated_in_seconds * 1000))
    return [found[path] for path in sorted(found)]


def read_messages(file: InputFile) -> Iterator[Message]:
    """The messages in a file, gzipped or not.

    Raises:
      ValueError: the file is damaged; the message names it and the line.
    """
    source = os.fsencode(file.path).decode("utf-8", "replace")
    number = 0
    with FileSystems.open(file.path, compression_type=CompressionTypes.UNCOMPRESSED) as raw:
        try:
            for number, line in enumerate(_plain(raw), 1):
                payload = line[:-1] if line.endswith(b"\n") else line
                yield _from_line(payload, f"{source}:{number}", file.modified_ms)
        except (EOFError, gzip.BadGzipFile, OSError) as error:
            raise ValueError(f"{source} is damaged after line {number}: {error}; make or copy it again") from error


def peek_event_time_ms(payload: bytes) -> int | None:
    """The event time in a payload, epoch ms, if there is one. Nothing else in the payload is checked."""
    try:
        event_time = _peek(payload).event_time
        return event_time if isinstance(event_time, int) else rfc3339.epoch_ms(event_time)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError):
        return None


class _EventTime(msgspec.Struct, gc=False):
    event_time: Annotated[int, msgspec.Meta(ge=0, le=_END_OF_9999_MS)] | str


_peek = msgspec.json.Decoder(_EventTime).decode


def _plain(raw: Any) -> BinaryIO:
    buffered = io.BufferedReader(raw, 1 << 16)
    if buffered.peek(2)[:2] == _GZIP_MAGIC:
        return io.BufferedReader(gzip.GzipFile(fileobj=buffered), 1 << 16)
    return buffered


def _from_line(line: bytes, source: str, modified_ms: int) -> Message:
    message = unwrap_line(line, -1, source)
    if message.received_ms >= 0:
        return message
    event_time_ms = peek_event_time_ms(message.payload)
    if event_time_ms is None or not 0 <= event_time_ms <= modified_ms:
        event_time_ms = modified_ms
    return msgspec.structs.replace(message, received_ms=event_time_ms)


class _ReadLines(beam.DoFn):
    def process(self, file: InputFile) -> Iterator[Any]:
        for message in read_messages(file):
            yield stamped(message, message.received_ms)


def _from_pubsub(message: Any, source: str) -> Message:
    published = message.publish_time
    received_ms = int(published.timestamp()) * 1_000 + published.microsecond // 1_000
    return Message(message.data, received_ms, f"{source}#{message.message_id}")
