"""The demo on both emulators, small: its books balance. And its account of messages notices a lost one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from google.cloud import bigquery as google_bigquery
from rich.console import Console
from sample import sample

from fraud_pipeline import cli
from fraud_pipeline.commands.demo_emulators import _report
from fraud_pipeline.emulators import bigquery as bigquery_emulator
from fraud_pipeline.emulators.bigquery import Emulator
from fraud_pipeline.emulators.round_trip import (
    DATASET,
    LOST,
    Published,
    outcomes,
    read_ledger,
    recent_traffic,
)
from fraud_pipeline.tables.bigquery import create_or_update

emulator = pytest.mark.emulator
NOW_MS = 1_772_368_496_789


@emulator
def test_what_is_published_is_scored_or_a_dead_letter_and_the_ledger_balances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bigquery_emulator.install()
    code = cli.main(["demo-emulators", "--events", "400", "--rate", "400", "--data-dir", str(tmp_path)])
    shown = capsys.readouterr()
    assert code == 0, shown.err + (tmp_path / "job.log").read_text()[-4000:]
    words = {name: int(count) for name, count in re.findall(r"^ +(\w+) +(\d+) *$", shown.out, re.MULTILINE)}
    assert words["messages_in"] == words["all"] == 400
    assert words["balance"] == 0
    assert words["scored"] > 300
    assert "job stopped by SIGTERM, exit code 143" in shown.out
    assert "every scored event is in a finalized session" in shown.out


@pytest.fixture
def client(bigquery: Emulator) -> Iterator[google_bigquery.Client]:
    """A dataset of a few results: a score, a label and a dead letter, of four messages that came in."""
    client = bigquery.client("demo-test")
    rows = sample()
    create_or_update(client, DATASET)
    day = "2026-03-01T10:00:00.000Z"
    letter = {**rows["dead_letters"][0], "reason": "NOT_JSON", "source": "pubsub:subscriptions/s#3"}
    for table, row in {
        "scores": {**rows["scores"][0], "event_id": "e1"},
        "labels": {**rows["labels"][0], "event_id": "e2"},
        "dead_letters": letter,
        "intake": {**rows["intake"][0], "message_count": 4},
    }.items():
        assert client.insert_rows_json(f"demo-test.{DATASET}.{table}", [{**row, "received_time": day}]) == []
    yield client
    client.delete_dataset(DATASET, delete_contents=True)
    client.close()


@emulator
def test_a_lost_message_is_noticed(client: google_bigquery.Client) -> None:
    published = [Published("1", "e1"), Published("2", "e2"), Published("3", None)]
    subscription = "projects/demo-test/subscriptions/s"
    there = outcomes(client, subscription, published)
    assert there == {"scored": 1, "label": 1, "NOT_JSON": 1}
    of_no_message, of_no_row = Published("4", None), Published("5", "e5")
    missing = outcomes(client, subscription, [*published, of_no_message, of_no_row])
    assert missing == {"scored": 1, "label": 1, "NOT_JSON": 1, LOST: 2}
    assert read_ledger(client).balance == 1

    console = Console(file=StringIO(), width=200)
    assert _report(console, client, there, killed=True), "a message counted twice is no loss"
    assert not _report(console, client, there, killed=False)
    assert not _report(console, client, missing, killed=True)
    told = console.file.getvalue()
    assert "the ledger's balance is 1, not 0" in told
    assert "lost: 2 messages are in no table" in told


def test_traffic_ends_now_and_is_in_order_of_arrival() -> None:
    arrivals = recent_traffic(700, NOW_MS)
    assert len(arrivals) == 700
    times = [arrival.received_ms for arrival in arrivals]
    assert times == sorted(times)
    assert NOW_MS - 3_600_000 < times[-1] <= NOW_MS
    kinds = Counter(arrival.kind for arrival in arrivals)
    assert kinds["event"] > 600
    assert kinds["malformed"]
    assert kinds["duplicate"]


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["--events", "0"], "--events is 0; give a number of messages from 1"),
        (["--rate", "-1"], "--rate is -1; give a number of messages a second above 0"),
        (["--rate", "nan"], "--rate is nan; give"),
        (["--data-dir", str(Path(__file__).parent)], "is not empty; give a new directory"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo-emulators", *arguments]) == 2
    error = capsys.readouterr().err
    assert fix in error
    assert error.count("\n") == 1
