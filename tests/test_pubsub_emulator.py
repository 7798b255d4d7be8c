"""The Pub/Sub emulator starts, is found, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fraud_pipeline.emulators.process import EmulatorError
from fraud_pipeline.emulators.pubsub import create_topic_and_subscription, pubsub_emulator
from fraud_pipeline.errors import UsageError
from fraud_pipeline.sources import check_subscription

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("pubsub")]


def running(port: str) -> list[int]:
    """Ids of the processes that were started for that port."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            arguments = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if directory.name.isdigit() and any(
            a in (f"--port={port}", f"--host-port=127.0.0.1:{port}") for a in arguments
        ):
            found.append(int(directory.name))
    return found


def wait_until_gone(port: str) -> None:
    deadline = time.monotonic() + 30
    while running(port):
        assert time.monotonic() < deadline, f"still there: {running(port)}"
        time.sleep(0.1)


def test_it_runs_while_the_block_runs_and_clients_find_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "before")
    with pubsub_emulator(tmp_path) as emulator:
        port = emulator.host.split(":")[1]
        assert os.environ["PUBSUB_EMULATOR_HOST"] == emulator.host
        assert running(port), "the processes are told by their port"
        paths = [create_topic_and_subscription(emulator, "events", "events-sub") for _ in range(2)]
        assert paths == 2 * [("projects/fraud-local/topics/events", "projects/fraud-local/subscriptions/events-sub")]
        check_subscription(paths[0][1])
        with pytest.raises(UsageError, match=r"subscriptions/other does not exist; run: gcloud pubsub subscriptions"):
            check_subscription("projects/fraud-local/subscriptions/other")
        assert "listening on " + port in emulator.log.read_text()
    assert os.environ["PUBSUB_EMULATOR_HOST"] == "before"
    wait_until_gone(port)


def test_it_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from fraud_pipeline.emulators.pubsub import pubsub_emulator\n"
        "with pubsub_emulator(Path(sys.argv[1])) as emulator: print(emulator.host, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip().split(":")[1]
        assert running(port)
        process.kill()
    wait_until_gone(port)


@pytest.mark.parametrize("missing", ["gcloud", "java"])
def test_what_is_missing_is_one_line_with_the_fix(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in {"gcloud", "java"} - {missing}:
        (tmp_path / command).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=f"needs the command '{missing}', which isn't on PATH; install "):
        with pubsub_emulator(tmp_path / "data"):
            pass


@pytest.mark.parametrize(
    ("says", "error", "words"),
    [
        ("You do not currently have this command group installed: component [beta]", UsageError, "components install"),
        ("no memory", EmulatorError, "no memory"),
    ],
)
def test_a_start_that_fails_is_told_with_its_reason(
    says: str, error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ("gcloud", "java"):
        (tmp_path / command).write_text(f"#!/bin/sh\necho '{says}'\nexit 1\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(error, match=words):
        with pubsub_emulator(tmp_path / "data"):
            pass
