"""Publishes messages to a Pub/Sub topic, at the pace of the simulated traffic or any other."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

from fraud_pipeline.errors import UsageError

_TOPIC = re.compile(r"projects/[a-z][a-z0-9-]{4,28}[a-z0-9]/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_NAP_SECONDS = 0.1
_GIVE_UP_SECONDS = 60.0


class Pace(Protocol):
    """When a message is due."""

    def due(self, received_ms: int, number: int) -> float:
        """When to publish, in seconds of the epoch.

        Args:
          received_ms: arrival in the simulation, epoch ms.
          number: of the message, from 0.
        """


class SpeedUp:
    """The simulation's own pace, so many times faster; 0 for as fast as possible."""

    def __init__(self, factor: float, clock: Callable[[], float] = time.time) -> None:
        self._factor = factor
        self._clock = clock
        self._start: tuple[float, int] | None = None

    def due(self, received_ms: int, number: int) -> float:
        """See `Pace`."""
        if not self._factor:
            return 0.0
        if self._start is None:
            self._start = (self._clock(), received_ms)
        start, first_ms = self._start
        return start + (received_ms - first_ms) / 1000 / self._factor


class Rate:
    """So many messages a second, whatever the simulated time."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.time) -> None:
        self._per_second = per_second
        self._start = clock()

    def due(self, received_ms: int, number: int) -> float:
        """See `Pace`."""
        return self._start + number / self._per_second


class WallClock:
    """Each message at its own time: at once what lies in the past, and the rest when its time has come."""

    def due(self, received_ms: int, number: int) -> float:
        """See `Pace`."""
        return received_ms / 1000


def wait_until(due: float, stopped: Callable[[], bool], on_nap: Callable[[], None]) -> None:
    """Sleeps until a time (seconds of the epoch), or until stopped; `on_nap` is called every tenth of a second."""
    while not stopped() and (left := due - time.time()) > 0:
        time.sleep(min(left, _NAP_SECONDS))
        on_nap()


class Publisher:
    """Publishes payloads in batches; with `PUBSUB_EMULATOR_HOST` set, to the emulator.

    It blocks while more than 20,000 messages are under way. At the end of the block it waits for all of them.
    """

    def __init__(self, topic: str) -> None:
        """Checks the topic's name.

        Args:
          topic: `projects/P/topics/T`.

        Raises:
          UsageError: that is no topic's name.
        """
        if not _TOPIC.fullmatch(topic):
            raise UsageError(
                f"--publish {topic!r} is no topic; give projects/PROJECT/topics/TOPIC, as in "
                "projects/fraud-local/topics/events"
            )
        self.topic = topic
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._under_way = 0
        self.published = 0

    def __enter__(self) -> Publisher:
        """Connects.

        Raises:
          UsageError: there are no credentials.
        """
        from google.api_core.retry import Retry
        from google.auth.exceptions import DefaultCredentialsError
        from google.cloud.pubsub_v1 import PublisherClient, types

        try:
            self._client = PublisherClient(
                batch_settings=types.BatchSettings(max_messages=1000, max_bytes=1_000_000, max_latency=0.02),
                publisher_options=types.PublisherOptions(
                    flow_control=types.PublishFlowControl(
                        message_limit=20_000,
                        byte_limit=100_000_000,
                        limit_exceeded_behavior=types.LimitExceededBehavior.BLOCK,
                    ),
                    retry=Retry(timeout=_GIVE_UP_SECONDS),
                ),
            )
        except DefaultCredentialsError as error:
            raise UsageError(
                "no Google credentials; run gcloud auth application-default login, or set PUBSUB_EMULATOR_HOST"
            ) from error
        return self

    def publish(self, payload: bytes) -> None:
        """Hands one message over.

        Raises:
          UsageError: an earlier message couldn't be published.
        """
        self._raise_error()
        # Pub/Sub refuses a message with neither data nor attributes.
        attributes = {} if payload else {"content_type": "application/json"}
        with self._changed:
            self._under_way += 1
        self._client.publish(self.topic, payload, **attributes).add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        error = future.exception()
        with self._changed:
            self._under_way -= 1
            if error is None:
                self.published += 1
            elif self._error is None:
                self._error = error
            self._changed.notify_all()

    def _raise_error(self) -> None:
        if self._error is not None:
            text = " ".join(str(self._error).split())
            raise UsageError(
                f"can't publish to {self.topic!r}: {text}; create the topic, and check PUBSUB_EMULATOR_HOST "
                "or the permission pubsub.topics.publish"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop()
        with self._changed:
            all_done = self._changed.wait_for(lambda: self._under_way == 0, 2 * _GIVE_UP_SECONDS)
        if all_done:
            self._client.transport.close()
        if error is not None:
            return
        self._raise_error()
        if not all_done:
            raise UsageError(f"{self._under_way:,} messages for {self.topic!r} got no answer; try again")
