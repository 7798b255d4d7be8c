"""The local read of Pub/Sub: quick, honest about the watermark, and nothing is lost in kill -9."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.runners.direct import transform_evaluator
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.types import BatchSettings
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline import local_pubsub
from fraud_pipeline.emulators.process import free_port
from fraud_pipeline.emulators.pubsub import Emulator, create_topic_and_subscription, pubsub_emulator
from fraud_pipeline.local_pubsub import WatermarkEstimate

emulated = [pytest.mark.emulator, pytest.mark.xdist_group("pubsub")]


def test_beam_is_the_version_whose_private_parts_are_known() -> None:
    assert beam.__version__ == local_pubsub.BEAM_VERSION, (
        "local_pubsub replaces Beam's private _PubSubReadEvaluator: compare its _read_from_pubsub and finish_bundle, "
        "and the executor's _add_work_if_necessary, with those it was made for, adapt it, then BEAM_VERSION"
    )
    for name in ("_read_from_pubsub", "finish_bundle", "_get_subscriber_client"):
        assert name in vars(transform_evaluator._PubSubReadEvaluator), f"Beam's private part {name} is gone"


def test_another_version_of_beam_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "__version__", "2.99.0")
    with pytest.raises(RuntimeError, match=r"made for Beam 2\.77\.0, not 2\.99\.0; look at .*_PubSubReadEvaluator"):
        local_pubsub.install()


pulls = st.lists(st.tuples(st.floats(0, 30), st.lists(st.integers(-100, 200), max_size=4)), max_size=30)


@given(pulls=pulls, sample_seconds=st.sampled_from([0.5, 10]))
def test_the_watermark_never_goes_back_nor_ahead_of_the_clock_nor_of_a_recent_message(
    pulls: list[tuple[float, list[int]]], sample_seconds: float
) -> None:
    estimate, now, watermark = WatermarkEstimate(sample_seconds, 0.0), 0.0, MIN_TIMESTAMP
    recent: list[tuple[float, int]] = []
    for waited, times in pulls:
        now += waited
        recent += [(now, time) for time in times]
        before, watermark = watermark, estimate.update([Timestamp(time) for time in times], now)

        assert watermark >= before
        assert watermark <= max(before, Timestamp.of(now))
        in_sample = [time for at, time in recent if at >= now - sample_seconds]
        if in_sample:
            assert watermark <= max(before, Timestamp(min(in_sample)))


def test_in_silence_the_watermark_comes_to_the_clock_and_before_the_first_message_it_waits() -> None:
    estimate = WatermarkEstimate(10, 1000.0)

    assert estimate.update([], 1009.0) == MIN_TIMESTAMP
    assert estimate.update([Timestamp(500)], 1010.0) == Timestamp(500)
    assert estimate.update([Timestamp(700)], 1015.0) == Timestamp(500), "the older one is in the sample"
    assert estimate.update([], 1021.0) == Timestamp(700)
    assert estimate.update([], 1024.9) == Timestamp(700)
    assert estimate.update([], 1026.0) == Timestamp(1026)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1772368496789", 1_772_368_496.789),
        ("2026-03-01T12:34:56.789Z", 1_772_368_496.789),
        ("yesterday", None),
        ("", None),
        ("9" * 30, None),
        ("1e400", None),
    ],
)
def test_an_attribute_that_is_no_time_is_told_once_and_the_publish_time_taken(
    value: str, expected: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    published = datetime(2026, 3, 1, 13, 0, 0, tzinfo=UTC)
    message = PubsubMessage(b"", {"event_time_ms": value}, "17", published)
    reading = local_pubsub._Evaluator.__new__(local_pubsub._Evaluator)
    reading._reading = local_pubsub._Reading(WatermarkEstimate(1, 0))

    with caplog.at_level(logging.WARNING):
        stamps = [reading._timestamp(message, "event_time_ms") for _ in range(2)]

    assert stamps == 2 * [Timestamp(micros=round((expected or published.timestamp()) * 1e6))]
    assert len(caplog.records) == (expected is None)
    assert (
        reading._timestamp(message, None) == reading._timestamp(message, "absent") == Timestamp(published.timestamp())
    )


@pytest.fixture(scope="module")
def pubsub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with pubsub_emulator(tmp_path_factory.mktemp("pubsub")) as emulator:
        yield emulator


def publish(topic: str, ids: range, **attributes: Callable[[int], str]) -> None:
    publisher = PublisherClient(BatchSettings(max_messages=1000))
    futures = [
        publisher.publish(topic, json.dumps({"id": n}).encode(), **{name: of(n) for name, of in attributes.items()})
        for n in ids
    ]
    for future in futures:
        future.result(60)


@contextlib.contextmanager
def job(
    output: Path, subscription: str, read: str = "local", *attribute: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import pubsub_job; pubsub_job.main()", str(output), subscription, read, *attribute],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]), **environment},
        stderr=output.with_name(f"{output.name}.log").open("a"),
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def staged(output: Path) -> list[dict[str, Any]]:
    """Rows so far: whole lines of the staging directory."""
    lines = [
        line
        for path in output.with_name(f".{output.name}.staging").glob("seen.*.jsonl")
        for line in path.read_bytes().split(b"\n")[:-1]
    ]
    return [json.loads(line) for line in lines]


def ids(rows: list[dict[str, Any]]) -> set[int]:
    return {row["id"] for row in rows if "id" in row}


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str], output: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        log = output.with_name(f"{output.name}.log")
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


class TestWithEmulator:
    pytestmark = emulated

    def test_nothing_is_lost_when_the_job_is_killed_twice_in_mid_stream(self, pubsub: Emulator, tmp_path: Path) -> None:
        topic, subscription = create_topic_and_subscription(pubsub, "kill", "kill", ack_deadline_seconds=10)
        output, sent = tmp_path / "out", 0
        for _ in range(2):
            before = len(staged(output))
            with job(output, subscription) as process:
                # More than a bundle, so that some are through, some under way and some still in Pub/Sub.
                publish(topic, range(sent, sent + 4_000))
                sent += 4_000
                wait_until(lambda: len(staged(output)) >= before + 500, process, output)  # noqa: B023
                process.kill()
                process.wait()
            assert len(ids(staged(output))) < sent, "it was killed in mid-stream"

        with job(output, subscription) as process:
            wait_until(lambda: len(ids(staged(output))) == sent, process, output)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 143
        rows = [json.loads(line) for line in (output / "seen.jsonl").read_bytes().splitlines()]
        assert ids(rows) == set(range(sent))

    def test_it_is_many_times_as_quick_as_beams_own_read(self, pubsub: Emulator, tmp_path: Path) -> None:
        rates = {}
        for read, count in (("beam", 800), ("local", 16_000)):
            topic, subscription = create_topic_and_subscription(pubsub, f"quick-{read}", f"quick-{read}")
            publish(topic, range(count))
            output = tmp_path / read
            with job(output, subscription, read) as process:
                wait_until(lambda: staged(output), process, output)  # noqa: B023
                start, first = time.monotonic(), len(staged(output))
                wait_until(lambda: len(ids(staged(output))) == count, process, output)  # noqa: B023
                rates[read] = (count - first) / (time.monotonic() - start)

        print(f"messages/s: {rates}")
        assert rates["local"] > 4 * rates["beam"]

    def test_what_is_through_is_acknowledged_and_does_not_come_again(self, pubsub: Emulator, tmp_path: Path) -> None:
        topic, subscription = create_topic_and_subscription(pubsub, "ack", "ack", ack_deadline_seconds=10)
        output = tmp_path / "out"
        publish(topic, range(300))
        with job(output, subscription) as process:
            wait_until(lambda: len(ids(staged(output))) == 300, process, output)
            # Past the deadline, after which what is not acknowledged is delivered again.
            publish(topic, range(300, 301))
            time.sleep(13)
            rows = [row for row in staged(output) if "id" in row]

        assert sorted(row["id"] for row in rows) == list(range(301))

    def test_a_message_has_its_publish_time_and_its_id(self, pubsub: Emulator, tmp_path: Path) -> None:
        topic, subscription = create_topic_and_subscription(pubsub, "stamp", "stamp")
        output = tmp_path / "out"
        before_ms = time.time_ns() // 1_000_000
        publish(topic, range(3))
        after_ms = time.time_ns() // 1_000_000
        with job(output, subscription) as process:
            wait_until(lambda: len(ids(staged(output))) == 3, process, output)
            rows = staged(output)

        assert all(before_ms <= row["received_ms"] <= after_ms for row in rows)
        assert all(row["at_ms"] == row["received_ms"] for row in rows)
        sources = {row["source"] for row in rows}
        assert len(sources) == 3
        assert all(source.startswith("pubsub:subscriptions/stamp#") for source in sources)

    def test_by_the_attribute_the_watermark_waits_for_event_time_and_in_silence_goes_on(
        self, pubsub: Emulator, tmp_path: Path
    ) -> None:
        topic, subscription = create_topic_and_subscription(pubsub, "attribute", "attribute")
        output = tmp_path / "out"
        # Key 0 thrice, its event times 3 s apart and out of order, long ago: less than the 5 s after which it ends.
        event_ms = {0: 1_600_000_000_000, 50: 1_600_000_006_000, 100: 1_600_000_003_000}
        with job(output, subscription, "local", "event_time_ms") as process:
            for n in event_ms:
                publish(topic, range(n, n + 1), event_time_ms=lambda n: str(event_ms[n]))
            wait_until(lambda: any("ended" in row for row in staged(output)), process, output)
            rows = staged(output)

        assert {row["id"]: row["at_ms"] for row in rows if "id" in row} == event_ms
        (ended,) = [row for row in rows if "ended" in row]
        assert (ended["ended"], ended["n"]) == (0, 3), "all three were in before the watermark passed them"

    def test_the_job_waits_for_a_server_that_is_not_there(self, tmp_path: Path) -> None:
        output, port = tmp_path / "out", free_port()
        with job(
            output, "projects/fraud-local/subscriptions/away", PUBSUB_EMULATOR_HOST=f"127.0.0.1:{port}"
        ) as process:
            log = tmp_path / "out.log"
            wait_until(lambda: "Pub/Sub doesn't answer" in log.read_text(), process, output)
            # Held, until the subscription is there: one that is missing is an error.
            process.send_signal(signal.SIGSTOP)
            with pubsub_emulator(tmp_path / "emulator", port=port) as emulator:
                topic, _ = create_topic_and_subscription(emulator, "away", "away")
                process.send_signal(signal.SIGCONT)
                publish(topic, range(5))
                wait_until(lambda: len(ids(staged(output))) == 5, process, output)
