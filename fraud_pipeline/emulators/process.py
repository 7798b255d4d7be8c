"""Starts a server as a process group of its own, waits until it answers, and stops all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

_TAIL_BYTES = 4_000


class EmulatorError(RuntimeError):
    """An emulator didn't start; the message holds the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    is_ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 60.0,
    stop_seconds: float = 10.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server while the block runs. Its standard input is a pipe that closes when this process ends.

    Args:
      name: what error messages call it.
      log: file that its output is appended to.
      is_ready: whether it answers; called until it says so.
      environment: variables on top of this process's own.
      stop_seconds: how long it may take to end by itself before it is killed.

    Raises:
      EmulatorError: it ended, or didn't answer within `timeout_seconds`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        _wait_until_ready(name, process, log, is_ready, timeout_seconds)
        yield process
    finally:
        _stop(process, stop_seconds)


def _wait_until_ready(
    name: str,
    process: subprocess.Popen[bytes],
    log: Path,
    is_ready: Callable[[], bool],
    timeout_seconds: float,
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if process.poll() is not None:
            raise EmulatorError(f"{name} ended with exit code {process.returncode}; {_end_of(log)}")
        if time.monotonic() > deadline:
            raise EmulatorError(f"{name} did not answer within {timeout_seconds:g} s; {_end_of(log)}")
        time.sleep(0.05)


def _end_of(log: Path) -> str:
    return f"{log} ends with:\n{log.read_bytes()[-_TAIL_BYTES:].decode(errors='replace')}"


def _stop(process: subprocess.Popen[bytes], stop_seconds: float) -> None:
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(stop_seconds)
    # Also when the leader has ended: what it started may be left.
    _signal_group(process, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _signal_group(process: subprocess.Popen[bytes], signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal_number)
