"""A job that is killed while it delivers: what it runs again for arrives, and what comes twice is known by its key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from receiver import Received, Receiver, receiver, slow
from scored import NOON_MS

from fraud_pipeline.emulators.pubsub import create_topic_and_subscription, pubsub_emulator

USERS = 40
RULES = """
rules:
  - id: large
    description: A large payment.
    reason_code: LARGE
    severity: high
    weight: 0.7
    when: event_type == 'payment' && amount_minor >= 100000
  - id: hasty
    description: Two payments within seconds.
    reason_code: HASTY
    severity: critical
    weight: 0.9
    when: event_type == 'payment' && payment_count_10m >= 2
"""


def payments(start_ms: int, count: int) -> list[bytes]:
    """Large payments, so many of each user, seconds apart: the first opens a case, the second escalates it."""
    return [
        json.dumps(
            {
                "event_id": f"e{user}-{n}",
                "event_type": "payment",
                "user_id": f"u{user}",
                "event_time": start_ms + 1_000 * n + user,
                "amount_minor": 100_000,
                "currency": "EUR",
            }
        ).encode()
        for n in range(count)
        for user in range(USERS)
    ]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


@contextmanager
def job(server: Receiver, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """`fraud-pipeline run` as a process of its own, which sends its alerts to the receiver."""
    command = ["run", *options, "--alerts-to", server.url, "--alerts-secret", "none"]
    with log.open("ab") as told:
        process = subprocess.Popen(
            [sys.executable, "-m", "fraud_pipeline", *command],
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            stdout=told,
            stderr=told,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(server: Receiver, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while len(server.requests) < count:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def by_key(requests: list[Received]) -> dict[str, set[bytes]]:
    """The bodies that came under each key."""
    found: dict[str, set[bytes]] = {}
    for request in requests:
        said = json.loads(request.body)["alert"]
        key = request.headers["Idempotency-Key"]
        assert key == f"{said['alert_id']}-{said['version']}"
        found.setdefault(key, set()).add(request.body)
    return found


@pytest.mark.parametrize("mode", ["backfill", "replay"])
def test_nothing_is_lost_when_the_job_is_killed_in_mid_delivery(mode: str, rules: Path, tmp_path: Path) -> None:
    log, events = tmp_path / "log", tmp_path / "events.jsonl"
    events.write_bytes(b"".join(payload + b"\n" for payload in payments(NOON_MS, 2)))
    options = ["--input", str(events), "--output", str(tmp_path / "r.duckdb"), "--mode", mode, "--rules", str(rules)]
    with receiver(slow(0.05)) as server:
        with job(server, log, *options) as process:
            wait_for(server, 10, process, log)
            process.kill()
            process.wait()
        before = list(server.requests)
        with job(server, log, *options) as process:
            assert process.wait(120) == 0, log.read_text()
        after = server.requests[len(before) :]
    told = by_key(after)
    assert 10 <= len(before) < len(told) == len(after), "it was killed in mid-delivery, and then sent each once"
    assert {json.loads(body)["alert"]["user_id"] for (body,) in told.values()} == {f"u{i}" for i in range(USERS)}
    assert by_key(before).items() <= told.items(), "what comes again is the same, byte for byte"


@pytest.mark.emulator
@pytest.mark.xdist_group("pubsub")
def test_what_pubsub_brings_again_after_a_kill_is_told_again_under_the_same_key(rules: Path, tmp_path: Path) -> None:
    from google.cloud.pubsub_v1 import PublisherClient

    log = tmp_path / "log"
    with pubsub_emulator(tmp_path) as emulator, receiver(slow(0.5)) as server:
        topic, subscription = create_topic_and_subscription(emulator, "paid", "paid-sub", ack_deadline_seconds=10)
        client = PublisherClient()
        for future in [client.publish(topic, payload) for payload in payments(time.time_ns() // 1_000_000 - 5_000, 1)]:
            future.result(60)
        options = ["--input", f"pubsub:{subscription}", "--output", str(tmp_path / "out"), "--rules", str(rules)]
        with job(server, log, *options) as process:
            wait_for(server, 4, process, log)
            process.kill()
            process.wait()
        before = list(server.requests)
        assert len(before) < USERS, "it was killed in mid-delivery"
        with job(server, log, *options) as process:
            wait_for(server, len(before) + USERS - len(by_key(before)), process, log)
            deadline = time.monotonic() + 30
            while len(by_key(server.requests)) < USERS and time.monotonic() < deadline:
                time.sleep(0.05)
    told = by_key(server.requests)
    assert sorted(json.loads(body)["alert"]["user_id"] for (body,) in told.values()) == sorted(
        f"u{i}" for i in range(USERS)
    )
    assert len(server.requests) > USERS, "something came twice"
