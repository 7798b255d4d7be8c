"""Messages come out of files byte for byte, with their line, and out of a subscription with their publish time."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from messages import EVENT_TIME_MS, LOGIN

from fraud_pipeline.errors import UsageError
from fraud_pipeline.sources import (
    InputFile,
    ReadMessagesFromFiles,
    ReadMessagesFromPubsub,
    _from_pubsub,
    match_files,
    peek_event_time_ms,
    read_messages,
)
from transforms.events import Message
from transforms.message_lines import plain_or_wrapped_line, wrap_line

WRITTEN_MS = 1_800_000_000_000


def write(path: Path, data: bytes) -> InputFile:
    path.write_bytes(data)
    os.utime(path, ns=(0, WRITTEN_MS * 1_000_000))
    (file,) = match_files([str(path)])
    return file


def test_every_line_is_a_message_with_its_number_and_an_empty_one_too(tmp_path: Path) -> None:
    file = write(tmp_path / "e.jsonl", b'{"a": 1}\n\n  \xff\xfe\x00\r\nlast')

    messages = list(read_messages(file))

    assert [message.payload for message in messages] == [b'{"a": 1}', b"", b"  \xff\xfe\x00\r", b"last"]
    assert [message.source for message in messages] == [f"{tmp_path}/e.jsonl:{n}" for n in (1, 2, 3, 4)]


def test_a_line_break_at_the_end_makes_no_message(tmp_path: Path) -> None:
    assert len(list(read_messages(write(tmp_path / "e", b"a\nb\n")))) == 2
    assert list(read_messages(write(tmp_path / "f", b""))) == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(payloads=st.lists(st.binary(max_size=60), max_size=20), gzipped=st.booleans())
def test_payloads_come_back_byte_for_byte(tmp_path: Path, payloads: list[bytes], gzipped: bool) -> None:
    data = b"".join(plain_or_wrapped_line(payload) + b"\n" for payload in payloads)
    file = write(tmp_path / "e.jsonl", gzip.compress(data) if gzipped else data)

    assert [message.payload for message in read_messages(file)] == payloads


def test_a_gzipped_file_is_known_by_its_content(tmp_path: Path) -> None:
    file = write(tmp_path / "no-suffix", gzip.compress(b"a\n") + gzip.compress(b"b\n"))

    assert [message.payload for message in read_messages(file)] == [b"a", b"b"]


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_told_with_its_name_and_the_line(damage: str, tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(os.urandom(30).hex().encode() + b"\n" for _ in range(9000))))
    data = data[:-2000] if damage == "cut" else data[:-8] + b"\0\0\0\0" + data[-4:]
    file = write(tmp_path / "e.jsonl.gz", bytes(data))

    read: list[Message] = []
    with pytest.raises(
        ValueError, match=rf"{tmp_path}/e\.jsonl\.gz is damaged after line \d+: .*; make or copy it again"
    ):
        read.extend(read_messages(file))


def test_a_wrapped_line_brings_its_time_and_a_plain_one_counts_as_received_when_it_happened(tmp_path: Path) -> None:
    wrapped = Message(b"{}", 1_700_000_000_123, "elsewhere")
    future = b'{"event_time": 1900000000000}'
    lines = [wrap_line(wrapped), b'{"event_time": "2026-03-01T12:34:56.789Z"}', b'{"event_time": 17}', b"{}", future]
    first, *plain = read_messages(write(tmp_path / "e", b"\n".join(lines)))

    assert first == wrapped
    # Where there is no such time, or it is after the file was written, the file's own time stands.
    assert [message.received_ms for message in plain] == [EVENT_TIME_MS, 17, WRITTEN_MS, WRITTEN_MS]
    assert [message.payload for message in plain] == lines[1:]


@pytest.mark.parametrize(
    ("payload", "event_time_ms"),
    [
        (LOGIN, EVENT_TIME_MS),
        ({"event_time": 5, "rest": "anything"}, 5),
        (b'{"event_time": "yesterday"}', None),
        (b'{"event_time": 1.5}', None),
        (b'{"event_time": true}', None),
        (b'{"event_time": 1' + b"0" * 400 + b"}", None),
        (b'{"event_time": ' + b"[" * 100_000, None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_the_event_time_is_peeked_at_and_nothing_makes_that_fail(payload: Any, event_time_ms: int | None) -> None:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    assert peek_event_time_ms(data) == event_time_ms


def test_patterns_match_each_file_once_and_no_directory(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "d.jsonl").mkdir()

    found = match_files([f"{tmp_path}/*.jsonl", f"{tmp_path}/b.jsonl"])

    assert [Path(file.path).name for file in found] == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize("pattern", ["nothing-*.jsonl", "missing.jsonl", ""])
def test_a_pattern_without_a_file_is_one_line_with_the_fix(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"matches no file; check the path"):
        match_files([f"{tmp_path}/{pattern}" if pattern else str(tmp_path)])


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--input 'nowhere://a/b' can't be looked up"):
        match_files(["nowhere://a/b"])


@pytest.mark.parametrize("runner", ["FnApiRunner", "BundleBasedDirectRunner"])
def test_the_transform_gives_all_messages_of_all_files_stamped_with_their_receipt(runner: str, tmp_path: Path) -> None:
    for n in range(3):
        lines = [wrap_line(Message(b"%d" % k, 1_700_000_000_000 + k, f"file {n}")) for k in range(50)]
        write(tmp_path / f"{n}.jsonl", b"\n".join(lines))

    class WithTimestamp(beam.DoFn):
        def process(self, element: Message, at: Any = beam.DoFn.TimestampParam) -> Any:
            yield element.source, element.payload, element.received_ms, at.micros // 1000

    expected = [
        (f"file {n}", b"%d" % k, 1_700_000_000_000 + k, 1_700_000_000_000 + k) for n in range(3) for k in range(50)
    ]
    with beam.Pipeline(options=PipelineOptions([f"--runner={runner}"])) as pipeline:
        files = match_files([f"{tmp_path}/*.jsonl"])
        read = pipeline | ReadMessagesFromFiles(files)
        assert read.element_type is Message
        assert_that(read | beam.ParDo(WithTimestamp()), equal_to(expected))


@pytest.mark.parametrize("name", ["events", "projects/p/topics/t", "projects//subscriptions/s", "subscriptions/s", ""])
def test_a_wrong_subscription_is_one_line_with_the_fix(name: str) -> None:
    with pytest.raises(UsageError, match="give projects/PROJECT/subscriptions/NAME"):
        ReadMessagesFromPubsub(name)


@pytest.mark.parametrize("microsecond", [0, 1, 122_999, 123_000, 999_999])
def test_a_pubsub_message_counts_as_received_when_it_was_published(microsecond: int) -> None:
    published = datetime(2026, 3, 1, 12, 34, 56, microsecond, tzinfo=UTC)
    message = PubsubMessage(b"\xff{}", {"a": "b"}, message_id="17", publish_time=published)

    assert _from_pubsub(message, "pubsub:subscriptions/s") == Message(
        b"\xff{}", 1_772_368_496_000 + microsecond // 1000, "pubsub:subscriptions/s#17"
    )
