"""The BigQuery emulator: the package local-bigquery, in a virtual environment of its own on Python 3.13.

`python -m fraud_pipeline.emulators.bigquery install` makes that environment, `.venv-bigquery` beside `.venv`.
Its dependencies conflict with Beam's, so it can't share the project's.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fraud_pipeline.emulators.process import EmulatorError, free_port, server
from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from google.cloud import bigquery

_REPOSITORY = Path(__file__).resolve().parents[2]
LOCK = _REPOSITORY / "requirements" / "bigquery-emulator.lock"
VENV = _REPOSITORY / ".venv-bigquery"
_INSTALL = "python -m fraud_pipeline.emulators.bigquery install"
_START_ATTEMPTS = 3
_EXTENSIONS = ("icu", "ducklake", "spatial")

# Ends the server when its standard input closes, as it does when the process that started it is killed.
_LAUNCHER = """
import os, signal, sys, threading
def follow():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=follow, daemon=True).start()
from local_bigquery.cli import main
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Emulator:
    """A running emulator.

    Attributes:
      host: such as `http://127.0.0.1:9050`, for the variable `BIGQUERY_EMULATOR_HOST`.
      grpc_port: port of the storage API.
      project: the project that exists from the start; others are made when a dataset is created in them.
      log: file of its output.
    """

    host: str
    grpc_port: int
    project: str
    log: Path

    def environment(self) -> dict[str, str]:
        """The variables with which Google's client libraries find it."""
        return {"BIGQUERY_EMULATOR_HOST": self.host, "GOOGLE_CLOUD_PROJECT": self.project}

    def client(self, project: str | None = None) -> bigquery.Client:
        """A client of it, without credentials."""
        from google.api_core.client_options import ClientOptions
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        return bigquery.Client(
            project=project or self.project,
            credentials=AnonymousCredentials(),
            client_options=ClientOptions(api_endpoint=self.host),
        )


@contextlib.contextmanager
def bigquery_emulator(
    data_dir: Path, *, project: str = "fraud-local", timeout_seconds: float = 60.0
) -> Iterator[Emulator]:
    """Runs the emulator on free ports while the block runs.

    Args:
      data_dir: where it keeps datasets; an existing one is continued. Its log goes to `emulator.log` in it.
      project: an id that Google would accept: 6 letters, digits or hyphens at least.

    Raises:
      UsageError: it isn't installed.
      EmulatorError: it didn't start; the message holds the end of its log.
    """
    if not _is_installed():
        raise UsageError(f"the BigQuery emulator is not installed in {VENV.name}; run: {_INSTALL}")
    data_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for attempt in range(_START_ATTEMPTS):
            port, grpc_port = free_port(), free_port()
            emulator = Emulator(f"http://127.0.0.1:{port}", grpc_port, project, data_dir / "emulator.log")
            try:
                stack.enter_context(_running(emulator, port, data_dir, timeout_seconds))
                break
            except EmulatorError as error:
                # Another process may have taken a port between the probe and the start.
                if "address already in use" not in str(error) or attempt == _START_ATTEMPTS - 1:
                    raise
        yield emulator


def _running(
    emulator: Emulator, port: int, data_dir: Path, timeout_seconds: float
) -> contextlib.AbstractContextManager[object]:
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--grpc-port": str(emulator.grpc_port),
        "--project": emulator.project,
        "--data-dir": str(data_dir),
    }
    arguments = [word for option in options.items() for word in option]
    return server(
        "the BigQuery emulator",
        [str(_python()), "-c", _LAUNCHER, *arguments],
        log=emulator.log,
        is_ready=lambda: _answers(f"{emulator.host}/bigquery/v2/projects"),
        environment=_home(),
        timeout_seconds=timeout_seconds,
    )


def _answers(url: str) -> bool:
    # An opener without proxies: a proxy configured for the machine can't reach 127.0.0.1.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _python() -> Path:
    return VENV / "bin" / "python"


def _home() -> dict[str, str]:
    """DuckDB looks for its extensions under HOME; the user's own stays untouched."""
    return {"HOME": str(VENV / "home")}


def install() -> Path:
    """Makes the emulator's virtual environment, unless it is there and current.

    Returns:
      Its directory.

    Raises:
      UsageError: this isn't a checkout, or there is no Python 3.13.
      subprocess.CalledProcessError: an installer failed; it has printed why.
    """
    if not LOCK.exists():
        raise UsageError(f"{LOCK} is missing; the emulator runs from a checkout of the project only")
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes may come here at once
        if not _is_installed():
            _install()
    return VENV


def _is_installed() -> bool:
    return _stamp().exists() and _stamp().read_text() == _digest()


def _stamp() -> Path:
    return VENV / "installed"


def _digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()


def _install() -> None:
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    python = _find_python(uv)
    shutil.rmtree(VENV, ignore_errors=True)
    if uv:
        # Without a Python 3.13 on the machine uv downloads one.
        _run(uv, "venv", "--quiet", "--python", python or "3.13", str(VENV))
        _run(uv, "pip", "install", "--quiet", "--python", str(_python()), "-r", str(LOCK))
    elif python:
        _run(python, "-m", "venv", str(VENV))
        _run(str(_python()), "-m", "pip", "install", "--quiet", "-r", str(LOCK))
    else:
        raise UsageError(
            "the BigQuery emulator needs Python 3.13 and none was found; install it (pyenv install 3.13, or "
            "uv python install 3.13) or set PYTHON313 to its path"
        )
    (VENV / "home").mkdir()
    script = "import sys; from duckdb_extensions import import_extension; [*map(import_extension, sys.argv[1:])]"
    _run(str(_python()), "-c", script, *_EXTENSIONS, environment=_home())
    _stamp().write_text(_digest())


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, env={**os.environ, **(environment or {})})


def _find_python(uv: str | None) -> str | None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [
        os.environ.get("PYTHON313"),
        sys.executable,
        shutil.which("python3.13"),
        *map(str, sorted(pyenv.glob("versions/3.13*/bin/python3.13"))),
    ]
    if uv:
        found = subprocess.run([uv, "python", "find", "3.13"], capture_output=True, text=True)
        candidates.append(found.stdout.strip() if found.returncode == 0 else None)
    return next((python for python in candidates if python and _is_python_313(python)), None)


def _is_python_313(python: str) -> bool:
    # A shim of pyenv exists also where the version it stands for isn't selected: ask it.
    command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() == "3 13"
    except OSError:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m fraud_pipeline.emulators.bigquery install`."""
    parser = argparse.ArgumentParser(prog="python -m fraud_pipeline.emulators.bigquery")
    parser.add_argument("action", choices=["install"], help="make the emulator's virtual environment")
    parser.parse_args(argv)
    try:
        print(f"The BigQuery emulator is installed in {install()}")
    except UsageError as error:
        print(f"install: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"install: {shlex.join(error.cmd)} failed with exit code {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
