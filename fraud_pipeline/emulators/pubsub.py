"""The Pub/Sub emulator of the Google Cloud CLI, and what is made in it before a job runs."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fraud_pipeline.emulators.process import EmulatorError, free_port, server
from fraud_pipeline.errors import UsageError

_START_ATTEMPTS = 3

# gcloud and its Java are a process group of their own. The launcher ends it on SIGTERM, and when its standard input
# closes, as it does when the process that started it is killed.
_LAUNCHER = """
import os, signal, subprocess, sys, threading
started = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
def stop(signal_number=signal.SIGTERM, frame=None):
    try:
        os.killpg(started.pid, signal_number)
    except ProcessLookupError:
        pass
def follow():
    os.read(0, 1)
    stop()
signal.signal(signal.SIGTERM, stop)
threading.Thread(target=follow, daemon=True).start()
exit_code = started.wait()
stop(signal.SIGKILL)
sys.exit(exit_code)
"""


@dataclass(frozen=True)
class Emulator:
    """A running emulator.

    Attributes:
      host: such as `127.0.0.1:8085`, for the variable `PUBSUB_EMULATOR_HOST`.
      project: the project that topics and subscriptions are made in.
      log: file of its output.
    """

    host: str
    project: str
    log: Path

    def environment(self) -> dict[str, str]:
        """The variables with which Google's client libraries, and so Beam, find it."""
        return {"PUBSUB_EMULATOR_HOST": self.host, "PUBSUB_PROJECT_ID": self.project}


@contextlib.contextmanager
def pubsub_emulator(
    data_dir: Path | None = None,
    *,
    project: str = "fraud-local",
    port: int | None = None,
    timeout_seconds: float = 60.0,
) -> Iterator[Emulator]:
    """Runs the emulator while the block runs, with this process's environment pointing to it.

    Args:
      data_dir: where its log goes; None for a temporary directory. It keeps messages in memory only.
      project: an id that Google would accept: 6 letters, digits or hyphens at least.
      port: of 127.0.0.1; None for a free one.

    Raises:
      UsageError: gcloud, its emulator or Java is missing.
      EmulatorError: it didn't start; the message holds the end of its log.
    """
    gcloud = _find("gcloud", "the Google Cloud CLI (https://cloud.google.com/sdk/docs/install)")
    _find("java", "a Java runtime (on Debian: apt-get install default-jre-headless)")
    with contextlib.ExitStack() as stack:
        directory = data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-emulator-")))
        directory.mkdir(parents=True, exist_ok=True)
        for attempt in range(_START_ATTEMPTS):
            emulator = Emulator(f"127.0.0.1:{port or free_port()}", project, directory / "emulator.log")
            try:
                stack.enter_context(_running(gcloud, emulator, directory, timeout_seconds))
                break
            except EmulatorError as error:
                _explain_missing_component(error)
                # Another process may have taken the port between the probe and the start.
                if "address already in use" not in str(error).lower() or port or attempt == _START_ATTEMPTS - 1:
                    raise
        stack.enter_context(_environment(emulator.environment()))
        yield emulator


def create_topic_and_subscription(
    emulator: Emulator, topic: str, subscription: str, *, ack_deadline_seconds: int = 60
) -> tuple[str, str]:
    """Makes a topic and a subscription to it, unless they exist.

    Args:
      topic, subscription: short names.
      ack_deadline_seconds: how long a message may be in work before it is delivered again.

    Returns:
      Their full paths: `projects/P/topics/T` and `projects/P/subscriptions/S`.
    """
    from google.api_core.exceptions import AlreadyExists
    from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

    with _environment(emulator.environment()):
        publisher, subscriber = PublisherClient(), SubscriberClient()
    topic_path = publisher.topic_path(emulator.project, topic)
    subscription_path = subscriber.subscription_path(emulator.project, subscription)
    with subscriber, contextlib.closing(publisher.transport):
        with contextlib.suppress(AlreadyExists):
            publisher.create_topic(name=topic_path)
        with contextlib.suppress(AlreadyExists):
            subscriber.create_subscription(
                name=subscription_path, topic=topic_path, ack_deadline_seconds=ack_deadline_seconds
            )
    return topic_path, subscription_path


def _find(command: str, what: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise UsageError(f"the Pub/Sub emulator needs the command {command!r}, which isn't on PATH; install {what}")
    return path


def _explain_missing_component(error: EmulatorError) -> None:
    if "component" in str(error) and "installed" in str(error):
        raise UsageError(
            "gcloud has no Pub/Sub emulator; run: gcloud components install beta pubsub-emulator "
            "(on Debian: apt-get install google-cloud-cli-pubsub-emulator)"
        ) from error


def _running(
    gcloud: str, emulator: Emulator, directory: Path, timeout_seconds: float
) -> contextlib.AbstractContextManager[object]:
    command = [gcloud, "beta", "emulators", "pubsub", "start"]
    options = [
        f"--project={emulator.project}",
        f"--host-port={emulator.host}",
        f"--data-dir={directory}",
        "--quiet",
    ]
    return server(
        "the Pub/Sub emulator",
        [sys.executable, "-c", _LAUNCHER, *command, *options],
        log=emulator.log,
        is_ready=lambda: _answers(f"http://{emulator.host}/"),
        environment={
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        },
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


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
