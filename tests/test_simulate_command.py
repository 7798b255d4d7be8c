"""`fraud-pipeline simulate`: the same bytes by seed, complete files, one-line mistakes, and publishing."""

from __future__ import annotations

import gzip
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fraud_pipeline.cli import build_parser, main
from fraud_pipeline.simulate import SimulationConfig, simulate
from transforms.events import Envelope, Message
from transforms.message_lines import unwrap_line
from transforms.parsing import parse

COMMAND = [sys.executable, "-m", "fraud_pipeline", "simulate"]
ROOT = Path(__file__).parent.parent


def messages_of(lines: bytes) -> list[Message]:
    assert lines.endswith(b"\n")
    return [unwrap_line(line, 0, "file") for line in lines.splitlines()]


def test_the_bytes_depend_on_nothing_but_the_seed(tmp_path: Path) -> None:
    outputs = []
    for hash_seed in ("0", "4242"):
        directory = tmp_path / hash_seed
        directory.mkdir()
        subprocess.run(
            [*COMMAND, "--users", "60", "--seed", "11", "--output", "e.jsonl.gz", "--labels", "l.jsonl"],
            cwd=directory,
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": str(ROOT),
                "TZ": f"UTC-{hash_seed[0]}",
            },
            check=True,
        )
        outputs.append([path.read_bytes() for path in sorted(directory.iterdir())])

    assert len(outputs[0]) == 2
    assert all(outputs[0])
    assert outputs[0] == outputs[1]


def test_the_file_holds_what_was_simulated_with_its_times_and_is_readable(tmp_path: Path) -> None:
    path, labels = tmp_path / "events.jsonl", tmp_path / "labels.jsonl"

    assert main(["simulate", "--users", "40", "--output", str(path), "--labels", str(labels)]) == 0

    arrivals = list(simulate(SimulationConfig(users=40)))
    assert messages_of(path.read_bytes()) == [Message(a.payload, a.received_ms, "file") for a in arrivals]
    first = json.loads(path.read_bytes().splitlines()[0])
    assert set(first) == {"received_ms", "payload"}
    assert set(json.loads(first["payload"])) >= {"event_id", "event_type", "user_id", "event_time"}
    truth = [json.loads(line) for line in labels.read_bytes().splitlines()]
    assert [list(label) for label in truth] == [["event_id", "scenario", "attack_id", "intensity"]] * len(truth)
    assert [label["event_id"] for label in truth] == [a.label.event_id for a in arrivals if a.label]


def test_compressed_output_holds_the_same_lines(tmp_path: Path) -> None:
    for name in ("e.jsonl", "e.jsonl.gz"):
        assert main(["simulate", "--users", "20", "--output", str(tmp_path / name)]) == 0

    assert gzip.decompress((tmp_path / "e.jsonl.gz").read_bytes()) == (tmp_path / "e.jsonl").read_bytes()


def test_standard_output_can_be_piped_and_cut_short() -> None:
    full = subprocess.run([*COMMAND, "--users", "5", "--output", "-"], capture_output=True, cwd=ROOT, check=True)
    assert len(messages_of(full.stdout)) > 50
    assert b"Traceback" not in full.stderr
    cut = subprocess.run(
        f"{shlex.join(COMMAND)} --users 200 --output - | head -n 2", shell=True, capture_output=True, cwd=ROOT
    )
    assert len(messages_of(cut.stdout)) == 2
    assert cut.stderr == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_whole_files(tmp_path: Path, number: signal.Signals) -> None:
    names = ["e.jsonl.gz", "l.jsonl"]
    process = subprocess.Popen(
        [
            *COMMAND,
            "--users",
            "2000",
            "--days",
            "3000",
            "--history-days",
            "0",
            "--output",
            names[0],
            "--labels",
            names[1],
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    while sum(path.stat().st_size for path in tmp_path.iterdir()) < 500_000:
        assert process.poll() is None
        time.sleep(0.05)
    assert not (tmp_path / names[0]).exists(), "a file appears when it is complete"
    process.send_signal(number)
    _, stderr = process.communicate()

    assert process.returncode == 128 + number
    assert stderr.startswith(b"stopped: ")
    assert stderr.count(b"\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    messages = messages_of(gzip.decompress((tmp_path / names[0]).read_bytes()))
    ids = {parsed.event.event_id for message in messages if isinstance(parsed := parse(message), Envelope)}
    labelled = [json.loads(line)["event_id"] for line in (tmp_path / names[1]).read_bytes().splitlines()]
    assert labelled
    assert set(labelled) <= ids


def test_a_failed_run_leaves_an_earlier_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("precious\n")

    assert main(["simulate", "--output", str(path), "--labels", str(tmp_path / "no" / "labels.jsonl")]) == 2

    assert path.read_text() == "precious\n"
    assert [each.name for each in tmp_path.iterdir()] == ["events.jsonl"]


def test_devices_pipes_and_links_stay_what_they_are(tmp_path: Path) -> None:
    pipe, full, link, target = (tmp_path / name for name in ("pipe", "full", "link", "target"))
    os.mkfifo(pipe)
    full.symlink_to("/dev/full")
    link.symlink_to(target)
    reading = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)

    assert main(["simulate", "--users", "5", "--output", str(pipe)]) == 0
    piped, _ = reading.communicate()
    assert main(["simulate", "--users", "5", "--output", str(link)]) == 0
    written = subprocess.run(
        [*COMMAND, "--users", "5", "--output", str(full)], cwd=ROOT, capture_output=True, check=False
    )

    assert pipe.is_fifo()
    assert link.readlink() == target
    assert piped == target.read_bytes()
    assert full.is_char_device()
    assert (written.returncode, written.stderr.count(b"\n")) == (2, 1)
    assert b"No space left" in written.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link", "pipe", "target"]


def test_attacks_are_asked_for_by_number_and_intensity(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    options = "--users 80 --attack-rate 0 --in-order --attack brute_force=2@0.3 --attack card_testing=@0.9"
    arguments = ["simulate", *options.split(), "--output", str(tmp_path / "e.jsonl"), "--labels", str(labels)]
    assert main(arguments) == 0
    seen = Counter(
        (label["attack_id"], label["intensity"]) for label in map(json.loads, labels.read_bytes().splitlines())
    )
    assert set(seen) == {("brute_force-0000", 0.3), ("brute_force-0001", 0.3)}

    assert main([*arguments, "--attack-rate", "1", "--attack", "all=1@0.5"]) == 0
    assert {json.loads(line)["intensity"] for line in labels.read_bytes().splitlines()} == {0.5}


def test_traffic_up_to_now_holds_nothing_of_the_future(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    before_ms = time.time_ns() // 1_000_000
    assert main(["simulate", "--users", "100", "--end", "now", "--label-events", "--output", str(path)]) == 0
    after_ms = time.time_ns() // 1_000_000

    times = [message.received_ms for message in messages_of(path.read_bytes())]
    assert max(times) <= after_ms
    assert max(times) > before_ms - 3_600_000
    assert min(times) > before_ms - 5 * 86_400_000


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("", "give --output"),
        ("--output x --users 0", "users is 0"),
        ("--output x --attack heist=1", "no attack scenario 'heist'"),
        ("--output x --attack brute_force", "'brute_force' is wrong"),
        ("--output x --attack brute_force=", "'brute_force=' is wrong"),
        ("--output x --attack brute_force=two", "'brute_force=two' is wrong"),
        ("--output x --attack brute_force=1@3", "intensity is 3.0"),
        ("--output x --late-rate 2", "late rate is 2.0"),
        ("--output x --start noon", "--start 'noon'"),
        ("--output x --start now", "--end now"),
        ("--output x --labels x", "both 'x'"),
        ("--output . ", "is a directory"),
        ("--output missing/x", "'missing/x'"),
        ("--output x --rate 5", "add --publish"),
        ("--publish events", "projects/PROJECT/topics/TOPIC"),
        ("--publish projects/fraud-local/topics/events --speed-up -1", "--speed-up is -1"),
        ("--publish projects/fraud-local/topics/events --rate 0", "--rate is 0"),
    ],
)
def test_mistakes_are_one_line_with_the_fix(
    arguments: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["simulate", *arguments.split()]) == 2

    error = capsys.readouterr().err
    assert shown in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_help_names_every_scenario_and_its_examples_parse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--help"])
    text = capsys.readouterr().out
    examples = re.findall(r"^ +fraud-pipeline (simulate .*)$", text, re.MULTILINE)

    assert ended.value.code == 0
    for scenario in (
        "account_takeover",
        "brute_force",
        "card_testing",
        "credential_stuffing",
        "impossible_travel",
        "spending_spike",
    ):
        assert re.search(rf"^  {scenario} +\d+  \w", text, re.MULTILINE)
    assert len(examples) >= 5
    for example in examples:
        build_parser().parse_args(shlex.split(example))


def test_progress_shows_on_a_terminal_only(tmp_path: Path) -> None:
    arguments = [*COMMAND, "--users", "300", "--days", "10", "--output", str(tmp_path / "e.jsonl")]
    quiet = subprocess.run(arguments, capture_output=True, cwd=ROOT, check=True)
    reader, writer = pty.openpty()
    process = subprocess.Popen(arguments, stderr=writer, cwd=ROOT, env={**os.environ, "TERM": "xterm"})
    os.close(writer)
    shown = b""
    try:
        while chunk := os.read(reader, 65_536):
            shown += chunk
    except OSError:  # how a terminal says that its other side is gone
        pass
    os.close(reader)

    assert process.wait() == 0
    assert b"messages" in quiet.stderr
    assert quiet.stderr.count(b"\n") == 1
    assert re.search(rb"%  [\d,]+ messages  [\d,]+/s", shown)


@pytest.mark.emulator
def test_publishing_sends_every_payload_once(tmp_path: Path) -> None:
    from google.cloud.pubsub_v1 import SubscriberClient

    from fraud_pipeline.emulators.pubsub import create_topic_and_subscription, pubsub_emulator

    with pubsub_emulator() as emulator:
        topic, subscription = create_topic_and_subscription(emulator, "events", "test")
        path = str(tmp_path / "e.jsonl")
        arguments = [
            "simulate",
            "--users",
            "60",
            "--malformed-rate",
            "0.1",
            "--publish",
            topic,
            "--output",
            path,
        ]
        assert main([*arguments, "--speed-up", "0"]) == 0

        expected = Counter(message.payload for message in messages_of(Path(path).read_bytes()))
        received: Counter[bytes] = Counter()
        with SubscriberClient() as subscriber:
            while received.total() < expected.total():
                messages = subscriber.pull(subscription=subscription, max_messages=1000).received_messages
                received.update(message.message.data for message in messages)
                subscriber.acknowledge(subscription=subscription, ack_ids=[message.ack_id for message in messages])
        assert received == expected
        assert b"" in received

        stopped = subprocess.Popen([*COMMAND, "--publish", topic, "--rate", "5"], stderr=subprocess.PIPE, cwd=ROOT)
        time.sleep(4)
        stopped.send_signal(signal.SIGINT)
        _, stderr = stopped.communicate()
        assert stopped.returncode == 130
        assert re.match(rb"stopped: \d{1,2} messages to ", stderr), stderr


@pytest.mark.emulator
def test_a_missing_topic_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from fraud_pipeline.emulators.pubsub import pubsub_emulator

    with pubsub_emulator():
        assert main(["simulate", "--publish", "projects/fraud-local/topics/nowhere", "--speed-up", "0"]) == 2

    error = capsys.readouterr().err
    assert "create the topic" in error
    assert error.count("\n") == 1
