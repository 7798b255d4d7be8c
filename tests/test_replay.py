"""Dead letters put back in: once each, byte for byte, also when a run is cut short."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from messages import LOGIN, PAYMENT, RECEIVED_MS, with_fields

from fraud_pipeline import cli
from fraud_pipeline.dead_letters import FileDestination, Filters, Store, destinations, replay
from fraud_pipeline.emulators.pubsub import Emulator, pubsub_emulator
from fraud_pipeline.errors import UsageError
from fraud_pipeline.sources import match_files, read_messages
from fraud_pipeline.tables import duckdb as results
from fraud_pipeline.tables.rows import dead_letter_row
from transforms.events import DeadLetter, Message, dead_letter_id
from transforms.parsing import parse

DAY_MS = 86_400_000
PAYLOADS = [
    b"",
    b"\x00\xff\n\r\n",
    b"not json",
    b'{"event_id": "e",\n "user_id": "u"}',
    with_fields(LOGIN, outcome="perhaps"),
    with_fields(PAYMENT, currency="XXX"),
    '{"event_id": "\u00e9\u2028"}'.encode(),
    b'{"payload": "x"}',
    b"x" * 70_000,
]
EVERYTHING = Filters(sorted({"NOT_JSON", "EMPTY", "NOT_UTF8", "WRONG_VALUE", "MISSING_FIELD", "TOO_LARGE"}), 0, 10**14)


def letters() -> list[DeadLetter]:
    parsed = [parse(Message(payload, RECEIVED_MS + i * DAY_MS, f"f:{i}")) for i, payload in enumerate(PAYLOADS)]
    duplicate = DeadLetter("DUPLICATE", "event_id", "seen", with_fields(LOGIN), RECEIVED_MS, "f:9", "e-1", "u-1", 5)
    assert all(isinstance(letter, DeadLetter) for letter in parsed)
    return [*(letter for letter in parsed if isinstance(letter, DeadLetter)), duplicate]


def rows_of(dead: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    return [dict(dead_letter_row(letter)) for letter in dead]


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def results_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file; a sink that tries again has written some rows twice."""
    directory = tmp_path_factory.mktemp("results")
    rows = rows_of(letters())
    staged = write_lines(directory / "staged.jsonl", [*rows, *rows[:3]])
    results.load(directory / "results.duckdb", {"dead_letters": [staged]})
    return directory / "results.duckdb"


@pytest.fixture
def results_file(tmp_path: Path, results_template: Path) -> Path:
    return Path(shutil.copy(results_template, tmp_path / "results.duckdb"))


@pytest.fixture(params=["duckdb", "jsonl", "directory", "parquet"])
def store_path(request: pytest.FixtureRequest, tmp_path: Path, results_file: Path) -> Path:
    if request.param == "duckdb":
        return results_file
    if request.param == "jsonl":
        return write_lines(tmp_path / "export.jsonl", rows_of(letters()))
    path = tmp_path / "out" / "dead_letters.parquet"
    path.parent.mkdir()
    with results.connect(results_file, read_only=True) as connection:
        connection.execute(f"COPY dead_letters TO '{path}' (FORMAT parquet)")
    return path.parent if request.param == "directory" else path


def run_replay(*arguments: object) -> int:
    return cli.main(["replay", *map(str, arguments)])


def payloads_in(path: Path) -> list[bytes]:
    return [message.payload for message in read_messages(*match_files([str(path)]))]


def test_each_dead_letter_goes_back_once_byte_for_byte(
    store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "fixed.jsonl"

    assert run_replay("--from", store_path, "--to", to) == 0
    assert payloads_in(to) == PAYLOADS
    first = capsys.readouterr().out
    assert f"{len(PAYLOADS)} put back into {to}" in first
    assert "0 put back before" in first
    before = to.read_bytes()
    assert run_replay("--from", store_path, "--to", to) == 0
    assert run_replay("--from", store_path, "--to", tmp_path / "elsewhere.jsonl") == 0
    assert to.read_bytes() == before
    assert not (tmp_path / "elsewhere.jsonl").exists()
    assert f"0 put back into {to}" in capsys.readouterr().out


def test_what_is_put_back_names_its_dead_letter_and_counts_as_received_now(results_file: Path, tmp_path: Path) -> None:
    to = tmp_path / "fixed.jsonl"
    run_replay("--from", results_file, "--to", to)
    messages = list(read_messages(*match_files([str(to)])))

    assert [m.source for m in messages] == [f"replay:{dead_letter_id(letter)}" for letter in letters()[:-1]]
    assert all(m.received_ms > RECEIVED_MS + len(PAYLOADS) * DAY_MS for m in messages)
    assert len({m.received_ms for m in messages}) == 1
    again = {dead_letter_id(letter) for m in messages if isinstance(letter := parse(m), DeadLetter)}
    assert not again & {dead_letter_id(letter) for letter in letters()}


def test_the_original_time_of_receipt_can_be_kept(results_file: Path, tmp_path: Path) -> None:
    to = tmp_path / "fixed.jsonl"
    run_replay("--from", results_file, "--to", to, "--received-time", "original")

    received = [message.received_ms for message in read_messages(*match_files([str(to)]))]
    assert received == [letter.received_ms for letter in letters()[:-1]]


def test_reasons_and_times_choose(store_path: Path, tmp_path: Path) -> None:
    to = tmp_path / "fixed.jsonl"

    assert run_replay("--from", store_path, "--to", to, "--reason", "NOT_JSON", "--reason", "DUPLICATE") == 0
    assert Counter(payloads_in(to)) == Counter([b"not json", with_fields(LOGIN)])
    assert run_replay("--from", store_path, "--to", to, "--since", "2026-03-02", "--until", "2026-03-02") == 2
    assert run_replay("--from", store_path, "--to", to, "--since", "2026-03-02", "--until", "2026-03-04") == 0
    assert payloads_in(to)[2:] == PAYLOADS[1:2]
    second = "2026-03-05T12:35:00Z"
    assert run_replay("--from", store_path, "--to", to, "--until", second) == 0
    assert payloads_in(to)[3:] == [PAYLOADS[0], PAYLOADS[3]]
    assert run_replay("--from", store_path, "--to", to, "--since", second) == 0
    assert payloads_in(to)[5:] == PAYLOADS[4:]


def test_a_dry_run_changes_nothing(store_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    before = files()
    assert run_replay("--from", store_path, "--to", tmp_path / "fixed.jsonl", "--dry-run") == 0
    assert f"{len(PAYLOADS)} would be put back into" in capsys.readouterr().out
    assert files() == before
    run_replay("--from", store_path, "--to", tmp_path / "fixed.jsonl", "--reason", "EMPTY")
    run_replay("--from", store_path, "--to", tmp_path / "fixed.jsonl", "--dry-run")
    dry = capsys.readouterr().out
    assert f"{len(PAYLOADS) - 1} would be put back" in dry
    assert "1 put back before" in dry


def test_a_file_keeps_what_it_holds(results_file: Path, tmp_path: Path) -> None:
    to = tmp_path / "events.jsonl"
    to.write_bytes(with_fields(LOGIN) + b"\n" + with_fields(PAYMENT))
    to.chmod(0o640)

    assert run_replay("--from", results_file, "--to", to) == 0
    assert payloads_in(to) == [with_fields(LOGIN), with_fields(PAYMENT), *PAYLOADS]
    assert to.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_run_killed_before_it_took_note_is_made_up_for(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "fixed.jsonl"

    def killed(ids: Sequence[str]) -> None:
        raise KeyboardInterrupt

    with Store(store_path, "x", 0.0) as store:
        monkeypatch.setattr(store, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            replay(store, FileDestination(to, 1), EVERYTHING)
    assert payloads_in(to) == PAYLOADS

    assert run_replay("--from", store_path, "--to", to) == 0
    assert run_replay("--from", store_path, "--to", tmp_path / "elsewhere.jsonl") == 0
    assert payloads_in(to) == PAYLOADS
    assert not (tmp_path / "elsewhere.jsonl").exists()


def test_a_run_killed_while_it_writes_leaves_the_file_as_it_was(store_path: Path, tmp_path: Path) -> None:
    to = tmp_path / "events.jsonl"
    to.write_bytes(b"{}\n")
    process = subprocess.run(
        [sys.executable, "-c", _DIE_WHILE_WRITING, store_path, to],
        env={"PYTHONPATH": ":".join(sys.path)},
        check=False,
    )

    assert process.returncode == -signal.SIGKILL
    assert to.read_bytes() == b"{}\n"
    assert run_replay("--from", store_path, "--to", to) == 0
    assert payloads_in(to) == [b"{}", *PAYLOADS]


_DIE_WHILE_WRITING = """
import os, signal, sys
from fraud_pipeline import cli
from fraud_pipeline.dead_letters import FileDestination
line_of = FileDestination._line
def line_or_death(self, dead_letter):
    if dead_letter.reason == "TOO_LARGE":
        os.kill(os.getpid(), signal.SIGKILL)
    return line_of(self, dead_letter)
FileDestination._line = line_or_death
cli.main(["replay", "--from", sys.argv[1], "--to", sys.argv[2]])
"""


def test_a_ledger_that_was_torn_is_mended(tmp_path: Path) -> None:
    export = write_lines(tmp_path / "export.jsonl", rows_of(letters()))
    run_replay("--from", export, "--to", tmp_path / "a.jsonl")
    ledger = tmp_path / "export.jsonl.replayed"
    ids = ledger.read_bytes().splitlines(keepends=True)
    assert len(ids) == len(PAYLOADS)
    ledger.write_bytes(b"".join(ids[:2]) + ids[2][:7])
    assert run_replay("--from", export, "--to", tmp_path / "b.jsonl") == 0

    assert len(payloads_in(tmp_path / "b.jsonl")) == len(PAYLOADS) - 2
    assert sorted(ledger.read_bytes().splitlines(keepends=True)) == sorted(ids)


def test_payloads_in_parts_are_joined_and_none_is_put_back_in_pieces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, torn = rows_of(letters()[1:3])
    parts = [
        whole | {"payload": b64encode(piece).decode(), "part": part, "part_count": 3}
        for part, piece in enumerate((PAYLOADS[1][:1], PAYLOADS[1][1:3], PAYLOADS[1][3:]))
    ]
    export = write_lines(tmp_path / "e.jsonl", [parts[2], torn | {"part_count": 2}, parts[0], parts[1], parts[0]])
    to = tmp_path / "to.jsonl"

    assert run_replay("--from", export, "--to", to) == 1
    assert payloads_in(to) == [PAYLOADS[1]]
    assert "1 left: a part of the payload is missing" in capsys.readouterr().err


def test_an_export_of_bigquery_is_read(tmp_path: Path) -> None:
    row = {
        "dead_letter_id": "d-1",
        "reason": "EMPTY",
        "message": "",
        "payload": b64encode(b"\x00").decode(),
        "received_time": "2026-03-01 12:35:00.001 UTC",
        "part": "0",
        "part_count": "1",
    }
    export = tmp_path / "export.jsonl.gz"
    export.write_bytes(gzip.compress(json.dumps(row).encode() + b"\n"))
    to = tmp_path / "to.jsonl"

    assert run_replay("--from", export, "--to", to, "--received-time", "original") == 0
    (message,) = read_messages(*match_files([str(to)]))
    assert message == Message(b"\x00", 1_772_368_500_001, "replay:d-1")


def test_two_replays_at_once_are_kept_apart(tmp_path: Path) -> None:
    export = write_lines(tmp_path / "export.jsonl", rows_of(letters()))
    other = write_lines(tmp_path / "other.jsonl", rows_of(letters()))
    to = tmp_path / "to.jsonl"
    with (
        Store(export, "x", 0.0),
        pytest.raises(UsageError, match=r"another replay is at work on '.*export\.jsonl'"),
    ):
        Store(export, "x", 0.0).__enter__()
    with destinations.replacement(to) as lines:
        lines.write(b"{}\n")
        with Store(other, "x", 0.0) as store, pytest.raises(UsageError, match=r"at work on '.*to\.jsonl'"):
            replay(store, FileDestination(to, 1), EVERYTHING)
    assert to.read_bytes() == b"{}\n"
    assert run_replay("--from", other, "--to", to) == 0
    assert payloads_in(to) == [b"{}", *PAYLOADS]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--from", "none.duckdb"], "'none.duckdb' is not there; name a file"),
        (["--from", "."], "has no dead_letters.parquet or .jsonl in it"),
        (["--from", "text.duckdb"], "can't be opened as a DuckDB file"),
        (["--from", "empty.duckdb"], "holds no dead letters: Catalog Error"),
        (["--from", "text.jsonl"], "holds no dead letters: "),
        (["--reason", "BAD"], "--reason 'BAD' is no reason; give one of EMPTY, "),
        (["--since", "yesterday"], "--since 'yesterday' is not RFC 3339"),
        (["--until", "2026-02-30"], "--until '2026-02-30' is no day and time"),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "isn't before --until 2026-03-01; swap them"),
        (["--to", "events.jsonl.gz"], "is no plain file"),
        (["--to", "."], "is no plain file"),
        (["--to", "text.jsonl/x.jsonl"], "can't be written"),
        (["--to", "pubsub:events"], "--to pubsub:events names no topic; give pubsub:projects/"),
        (["--to", "pubsub:projects/p/topics/t", "--received-time", "original"], "Pub/Sub stamps"),
        (["--timestamp-attribute", "t"], "is for Pub/Sub, not for files"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    arguments: list[str],
    says: str,
    results_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.jsonl").write_text("hello\n" * 3)
    Path("text.duckdb").write_text("hello\n" * 3)
    duckdb.connect("empty.duckdb").close()
    defaults = ["--from", "results.duckdb", "--to", "to.jsonl"]

    assert run_replay(*defaults, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert says in captured.err


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with pubsub_emulator(tmp_path_factory.mktemp("pubsub")) as running:
        yield running


@pytest.mark.emulator
def test_a_topic_gets_each_dead_letter_once(
    emulator: Emulator, store_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from google.cloud import pubsub_v1

    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    name = f"replay-{os.getpid()}-{store_path.name.replace('.', '-')}"
    topic, subscription = f"projects/fraud-local/topics/{name}", f"projects/fraud-local/subscriptions/{name}"
    to = f"pubsub:{topic}"
    monkeypatch.setattr(destinations, "_PUBLISH_SECONDS", 1.0)
    assert run_replay("--from", store_path, "--to", to) == 2
    assert f"{len(PAYLOADS)} dead letters couldn't be published to '{topic}'" in capsys.readouterr().err

    monkeypatch.undo()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.host)
    with pubsub_v1.SubscriberClient() as subscriber:
        pubsub_v1.PublisherClient().create_topic(name=topic)
        subscriber.create_subscription(name=subscription, topic=topic)
        monkeypatch.setattr(destinations, "_BATCH", 4)
        assert run_replay("--from", store_path, "--to", to, "--timestamp-attribute", "at") == 0
        assert run_replay("--from", store_path, "--to", to) == 0
        pulled: dict[str, Any] = {}
        while received := subscriber.pull(subscription=subscription, max_messages=100, timeout=10).received_messages:
            subscriber.acknowledge(subscription=subscription, ack_ids=[message.ack_id for message in received])
            for message in received:
                assert message.message.attributes["dead_letter_id"] not in pulled
                pulled[message.message.attributes["dead_letter_id"]] = message.message
            if len(pulled) == len(PAYLOADS):
                break

    assert {key: message.data for key, message in pulled.items()} == {
        dead_letter_id(letter): letter.payload for letter in letters()[:-1]
    }
    for letter in letters()[:-1]:
        at = int(pulled[dead_letter_id(letter)].attributes["at"])
        assert at == letter.event_time_ms or (letter.event_time_ms is None and at > RECEIVED_MS)
