"""A Pub/Sub read for local runs of BundleBasedDirectRunner that is fast and loses nothing. Not for production.

Beam's own local read pulls ten messages at a time, acknowledges them before they are processed, and takes the wall
clock for the watermark. This one pulls until it has a full bundle, acknowledges it when what it gave is through the
graph, and holds the watermark at the oldest time it has lately seen. It leans on private parts of Beam, so it refuses
any version but the one it was made for.

The runner keeps state in memory: after a kill, messages that were not through are delivered again, while sessions
that were still open are forgotten.
"""

from __future__ import annotations

import collections
import logging
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.runners.direct import transform_evaluator
from apache_beam.runners.direct.direct_runner import _DirectReadFromPubSub
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from google.api_core.exceptions import DeadlineExceeded, InternalServerError, ServiceUnavailable
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.types import PullResponse
from proto.datetime_helpers import DatetimeWithNanoseconds

BEAM_VERSION = "2.77.0"
MAX_MESSAGES = 1_000
"""Messages in a bundle, at most. The emulator gives at most 100 a pull."""
SAMPLE_SECONDS = 10.0
"""The watermark is the oldest time seen in the last so many seconds, and the clock after so many silent ones."""
_PULL_SECONDS = 30.0
_IDLE_SECONDS = 0.02
_OUTAGE_SECONDS = 1.0
_OUTAGES = (DeadlineExceeded, InternalServerError, ServiceUnavailable)

_LOGGER = logging.getLogger(__name__)


def install(sample_seconds: float = SAMPLE_SECONDS) -> None:
    """Makes BundleBasedDirectRunner read Pub/Sub this way, in this process, from now on.

    Args:
      sample_seconds: how far messages may be out of order, in seconds of the clock, without being late.

    Raises:
      RuntimeError: this Beam isn't the version whose private parts are known.
    """
    if beam.__version__ != BEAM_VERSION:
        raise RuntimeError(
            f"the local Pub/Sub read is made for Beam {BEAM_VERSION}, not {beam.__version__}; "
            "look at transform_evaluator._PubSubReadEvaluator, adapt local_pubsub.py and its tests"
        )
    _Evaluator.sample_seconds = sample_seconds
    transform_evaluator.TransformEvaluatorRegistry._test_evaluators_overrides[_DirectReadFromPubSub] = _Evaluator


class WatermarkEstimate:
    """The oldest time among the messages of the last sample, never going back.

    Args:
      sample_seconds: length of the sample, in seconds of the clock.
      now: the clock at the start, epoch seconds.
    """

    def __init__(self, sample_seconds: float, now: float) -> None:
        self._sample_seconds = sample_seconds
        self._last_message = now
        self._oldest: collections.deque[tuple[float, Timestamp]] = collections.deque()
        self._watermark = MIN_TIMESTAMP

    def update(self, timestamps: Sequence[Timestamp], now: float) -> Timestamp:
        """Takes the timestamps of a pull at `now`, epoch seconds; gives the watermark."""
        if timestamps:
            self._last_message = now
            self._oldest.append((now, min(timestamps)))
        while self._oldest and self._oldest[0][0] < now - self._sample_seconds:
            self._oldest.popleft()
        if self._oldest:
            # A time ahead of the clock must not make all others late.
            estimate = min(Timestamp.of(now), *(oldest for _, oldest in self._oldest))
        elif now - self._last_message >= self._sample_seconds:
            estimate = Timestamp.of(now)
        else:
            estimate = self._watermark
        self._watermark = max(self._watermark, estimate)
        return self._watermark


@dataclass
class _Reading:
    watermark: WatermarkEstimate
    unacknowledged: list[str] = field(default_factory=list)
    warned: bool = False


class _Evaluator(transform_evaluator._PubSubReadEvaluator):
    """Evaluated again and again by the executor's one thread, each time when nothing else is executing.

    So at the start of an evaluation all that the last one gave is through the graph, and may be acknowledged.
    """

    sample_seconds = SAMPLE_SECONDS
    _readings: weakref.WeakKeyDictionary[Any, _Reading] = weakref.WeakKeyDictionary()

    def finish_bundle(self) -> Any:
        if self._applied_ptransform not in self._readings:
            estimate = WatermarkEstimate(self.sample_seconds, time.time())
            self._readings[self._applied_ptransform] = _Reading(estimate)
        self._reading = self._readings[self._applied_ptransform]
        self._received: list[Any] = []
        result = super().finish_bundle()
        result.keyed_watermark_holds = {None: self._watermark}
        self._reading.unacknowledged += [each.ack_id for each in self._received]
        return result

    def _read_from_pubsub(self, timestamp_attribute: str | None) -> list[tuple[Timestamp, PubsubMessage]]:
        client = self._get_subscriber_client(self._applied_ptransform)
        try:
            if self._reading.unacknowledged:
                client.acknowledge(subscription=self._sub_name, ack_ids=self._reading.unacknowledged)
                self._reading.unacknowledged = []
            self._pull(client)
        except _OUTAGES as error:
            _LOGGER.warning("Pub/Sub doesn't answer (%s); trying again", error.message)
            time.sleep(_OUTAGE_SECONDS)
        messages = [_message(each.message) for each in self._received]
        timestamps = [self._timestamp(message, timestamp_attribute) for message in messages]
        self._watermark = self._reading.watermark.update(timestamps, time.time())
        return list(zip(timestamps, messages, strict=True))

    def _pull(self, client: SubscriberClient) -> None:
        while len(self._received) < MAX_MESSAGES:
            pull = client.pull(
                subscription=self._sub_name,
                max_messages=MAX_MESSAGES - len(self._received),
                # A pull that gives up waiting strands what the emulator was about to give it.
                return_immediately=True,
                timeout=_PULL_SECONDS,
                retry=None,
            )
            # The wrapped protocol buffers cost 120 microseconds a message more.
            received = PullResponse.pb(pull).received_messages
            if not received:
                break
            self._received += received
        if not self._received:
            time.sleep(_IDLE_SECONDS)

    def _timestamp(self, message: PubsubMessage, attribute: str | None) -> Timestamp:
        """As Beam reads it, but a value that is no time gives the publish time: one message can't stop the job."""
        value = message.attributes.get(attribute) if attribute else None
        if value is not None:
            try:
                timestamp = _parse(value)
                if MIN_TIMESTAMP < timestamp < MAX_TIMESTAMP:
                    return timestamp
            except ValueError:
                pass
            if not self._reading.warned:
                self._reading.warned = True
                _LOGGER.warning(
                    "attribute %s of message %s is no time: %.40r; taking publish times for such messages, "
                    "give epoch milliseconds or RFC 3339 in UTC",
                    attribute,
                    message.message_id,
                    value,
                )
        return Timestamp.from_utc_datetime(message.publish_time)


def _message(message: Any) -> PubsubMessage:
    parsed = PubsubMessage._from_message(message)
    parsed.publish_time = DatetimeWithNanoseconds.from_timestamp_pb(message.publish_time)
    return parsed


def _parse(value: str) -> Timestamp:
    try:
        return Timestamp(micros=int(value) * 1_000)
    except ValueError:
        return Timestamp.from_rfc3339(value).to_precision(Timestamp.MICROS_PRECISION, allow_lossy_conversion=True)
