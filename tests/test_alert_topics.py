"""Alerts of a whole job: to a topic of the real Pub/Sub emulator, to webhooks, and again out of the dead letters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from receiver import receiver, status
from suspicions import Player, suspicion

from fraud_pipeline import cli
from fraud_pipeline.alerting.notifications import SCHEMA, notification
from fraud_pipeline.alerting.topics import Topic
from fraud_pipeline.emulators.pubsub import Emulator, create_topic_and_subscription, pubsub_emulator
from fraud_pipeline.simulate import Delivery, SimulationConfig, simulate
from transforms.events import Message
from transforms.message_lines import wrap_line

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("pubsub")]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with pubsub_emulator(tmp_path_factory.mktemp("pubsub")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine can't reach 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("ALERTS_SECRET", "hush")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = SimulationConfig(users=60, days=1, history_days=0, seed=11, delivery=Delivery(delayed=0.2, late=0))
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    path.write_bytes(b"".join(wrap_line(Message(a.payload, a.received_ms, "")) + b"\n" for a in simulate(config)))
    return path


def pull(subscription: str, count: int, seconds: float = 60) -> list[Any]:
    """Messages of a subscription, acknowledged: as many as that, or what came until then."""
    from google.api_core.exceptions import DeadlineExceeded
    from google.cloud.pubsub_v1 import SubscriberClient

    found: list[Any] = []
    deadline = time.monotonic() + seconds
    with SubscriberClient() as client:
        while len(found) < count and time.monotonic() < deadline:
            try:
                received = client.pull(subscription=subscription, max_messages=100, timeout=5).received_messages
            except DeadlineExceeded:
                continue
            found += [each.message for each in received]
            if received:
                client.acknowledge(subscription=subscription, ack_ids=[each.ack_id for each in received])
    return found


def query(database: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_message_holds_the_notification_and_what_to_filter_by(emulator: Emulator) -> None:
    topic, subscription = create_topic_and_subscription(emulator, "one", "one-sub")
    (alert,) = Player().play(suspicion(0, "e", "AC", action="block"))
    body = notification(alert)
    assert body is not None
    assert Topic(topic).send([body]) == [None]
    (message,) = pull(subscription, 1)
    assert message.data == body
    assert dict(message.attributes) == {
        "alert_id": alert.alert_id,
        "version": "1",
        "status": "open",
        "change": "OPENED",
        "action": "block",
        "severity": "critical",
        "schema": SCHEMA,
    }


def test_a_topic_that_is_gone_is_a_failure_within_a_bounded_time(emulator: Emulator) -> None:
    (alert,) = Player().play(suspicion(0, "e"))
    body = notification(alert)
    assert body is not None
    start = time.monotonic()
    (failure,) = Topic("projects/fraud-local/topics/gone", publish_seconds=2).send([body])
    assert failure is not None
    assert failure.why.startswith("NotFound")
    assert time.monotonic() - start < 10


def test_a_topic_that_is_missing_is_one_line_before_anything_runs(
    emulator: Emulator, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = "pubsub:projects/fraud-local/topics/nowhere"
    assert cli.main(["run", "--input", str(events), "--output", str(tmp_path / "r.duckdb"), "--alerts-to", to]) == 2
    assert capsys.readouterr().err == (
        "fraud-pipeline run: projects/fraud-local/topics/nowhere does not exist; "
        "run: gcloud pubsub topics create projects/fraud-local/topics/nowhere\n"
    )


@pytest.mark.parametrize("mode", ["backfill", "replay"])
def test_each_alert_goes_everywhere_and_what_fails_can_be_sent_again(
    mode: str, emulator: Emulator, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, subscription = create_topic_and_subscription(emulator, f"alerts-{mode}", f"alerts-{mode}-sub")
    database = tmp_path / "results.duckdb"
    with receiver() as works, receiver(status(400)) as fails:
        options = ["--alerts-to", f"pubsub:{topic}", "--alerts-to", works.url, "--alerts-to", fails.url]
        options += ["--alerts-secret", "env:ALERTS_SECRET"]
        assert cli.main(["run", "--input", str(events), "--output", str(database), "--mode", mode, *options]) == 0
        notified = "true" if mode == "backfill" else "change NOT IN ('GREW', 'CLOSED')"
        told = query(database, f"SELECT alert_id, version FROM alerts WHERE {notified} ORDER BY ALL")
        assert len(told) > 5
        published = pull(subscription, len(told))
        assert sorted((m.attributes["alert_id"], int(m.attributes["version"])) for m in published) == told
        assert sorted(request.body for request in works.requests) == sorted(m.data for m in published)
        letters = query(database, "SELECT reason, source, count(*) FROM dead_letters GROUP BY ALL")
        assert [count for reason, _, count in letters if reason == "DELIVERY_FAILED"] == [len(told)]
        assert query(database, "SELECT sum(abs(balance)) FROM ledger") == [(0,)]

        again = ["replay", "--from", str(database), "--alerts-secret", "env:ALERTS_SECRET"]
        assert cli.main([*again, "--to", fails.url]) == 2
        fails.answers = [status(200)]
        before = len(fails.requests)
        assert cli.main([*again, "--to", works.url]) == 0, "they weren't meant for this one"
        assert len(works.requests) == len(told)
        for expected in (len(told), 0):
            assert cli.main([*again, "--to", fails.url]) == 0
            assert len(fails.requests) - before == expected
            before = len(fails.requests)
        assert sorted({request.body for request in fails.requests}) == sorted(m.data for m in published)


def test_alerts_that_failed_can_go_to_another_place(emulator: Emulator, tmp_path: Path, events: Path) -> None:
    topic, subscription = create_topic_and_subscription(emulator, "other", "other-sub")
    database = tmp_path / "results.duckdb"
    with receiver(status(500, Retry_After="900")) as fails:
        run = ["run", "--input", str(events), "--output", str(database), "--mode", "replay"]
        assert cli.main([*run, "--alerts-to", fails.url, "--alerts-secret", "none"]) == 0
    letters = query(database, "SELECT count(*) FROM dead_letters WHERE reason = 'DELIVERY_FAILED'")[0][0]
    assert letters > 0
    again = ["replay", "--from", str(database), "--reason", "DELIVERY_FAILED", "--to", f"pubsub:{topic}"]
    assert cli.main(again) == 0
    assert pull(subscription, 1, seconds=2) == []
    assert cli.main([*again, "--failed-to", "any"]) == 0
    assert len(pull(subscription, letters)) == letters


def test_a_stream_from_pubsub_alerts_to_pubsub_as_it_runs(emulator: Emulator, tmp_path: Path) -> None:
    from google.cloud.pubsub_v1 import PublisherClient

    source, source_subscription = create_topic_and_subscription(emulator, "events", "events-sub")
    topic, subscription = create_topic_and_subscription(emulator, "live", "live-sub")
    now_ms = int(time.time() * 1000)
    client = PublisherClient()
    for i in range(10):
        event = {
            "event_id": f"e{i}",
            "event_type": "login",
            "user_id": "victim",
            "event_time": now_ms - 60_000 + i * 1_000,
            "outcome": "failure",
            "ip": "203.0.113.9",
        }
        client.publish(source, json.dumps(event).encode(), event_time=str(event["event_time"])).result()
    command = [sys.executable, "-m", "fraud_pipeline", "run", "--input", f"pubsub:{source_subscription}"]
    command += ["--output", str(tmp_path / "live.duckdb"), "--timestamp-attribute", "event_time"]
    job = subprocess.Popen([*command, "--alerts-to", f"pubsub:{topic}"], env=os.environ.copy())
    try:
        messages = pull(subscription, 1)
    finally:
        job.send_signal(signal.SIGTERM)
        assert job.wait(60) == 143
    told = sorted((json.loads(message.data)["alert"] for message in messages), key=lambda alert: alert["version"])
    assert (told[0]["user_id"], told[0]["change"], told[0]["case_key"]) == ("victim", "OPENED", "victim")
    rows = query(tmp_path / "live.duckdb", "SELECT DISTINCT alert_id FROM alerts")
    assert (told[0]["alert_id"],) in rows
