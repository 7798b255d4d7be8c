# mypy: allow-untyped-calls
"""Alerts to where people look; what doesn't arrive becomes dead letters that can be sent again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from fraud_pipeline.alerting.destinations import Destination, TopicDestination
from fraud_pipeline.alerting.notifications import head, notification
from fraud_pipeline.alerting.topics import message
from fraud_pipeline.alerting.webhooks import Failure
from transforms import rfc3339
from transforms.alerts import Alert
from transforms.events import DeadLetter, Reason

MAX_TOGETHER = 100
"""Notifications that are handed over together, within one budget of time."""


class Delivery(msgspec.Struct, frozen=True):
    """Where alerts go.

    Attributes:
      include: fields of events that notifications may tell.
    """

    destinations: tuple[Destination, ...] = ()
    include: tuple[str, ...] = ()


class DeliverAlerts(beam.PTransform[PCollection[Alert], PCollection[DeadLetter]]):
    """Sends the notifications of alerts to each destination.

    Takes `Alert`s, gives a `DeadLetter` of reason DELIVERY_FAILED for each notification that a destination didn't take
    within its time; its payload is the notification. Nothing is raised, and nothing waits for long: an outage of what
    tells people doesn't stop what finds fraud. A notification may be sent twice: `alert_id` and `version` tell.
    Counters: `alerts/delivered`, `alerts/delivery_failed`.

    Args:
      delivery: where to.
      bounded: whether the alerts are of the batch path, which gives each case once, when it is over.
      on_dataflow: whether topics are written to by Beam's own write, which Dataflow makes part of its service: that one
        waits for Pub/Sub, however long it takes.
    """

    def __init__(self, delivery: Delivery, *, bounded: bool = False, on_dataflow: bool = False) -> None:
        super().__init__()
        self._bounded = bounded
        self._delivery = delivery
        self._on_dataflow = on_dataflow

    def expand(self, alerts: PCollection[Alert]) -> PCollection[DeadLetter]:
        """Wires it."""
        bodies = alerts | "Notify" >> beam.ParDo(_NotifyDoFn(self._delivery.include, self._bounded)).with_output_types(
            bytes
        )
        # What is sent is kept first, so that a retry of what is before it gives no notification of another content.
        bodies = bodies | "Keep" >> beam.Reshuffle()
        failed = []
        for destination in self._delivery.destinations:
            # A step's name is what a running job is updated by: it must not depend on the order of the destinations.
            name = destination.label.replace("/", "_")
            if self._on_dataflow and isinstance(destination, TopicDestination):
                write = beam.io.WriteToPubSub(destination.topic, with_attributes=True)
                messages = bodies | f"ToMessages {name}" >> beam.Map(message)
                _ = messages | f"Publish {name}" >> write
            else:
                send = beam.ParDo(_SendDoFn(destination)).with_output_types(DeadLetter)
                failed.append(bodies | f"Send {name}" >> send)
        return (failed or [bodies | "None" >> beam.Filter(_never)]) | "Failed" >> beam.Flatten()


class _NotifyDoFn(beam.DoFn):
    def __init__(self, include: tuple[str, ...], is_last: bool) -> None:
        self._include = include
        self._is_last = is_last

    def process(self, alert: Alert) -> Iterator[bytes]:
        body = notification(alert, self._include, is_last=self._is_last)
        if body is not None:
            yield body


class _SendDoFn(beam.DoFn):
    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def start_bundle(self) -> None:
        self._bodies: list[bytes] = []

    def process(self, body: bytes) -> Iterator[DeadLetter]:
        self._bodies.append(body)
        if len(self._bodies) >= MAX_TOGETHER:
            yield from self._send()

    def finish_bundle(self) -> Iterator[Any]:
        window = GlobalWindow()
        for letter in self._send():
            yield WindowedValue(letter, window.max_timestamp(), (window,))

    def _send(self) -> Iterator[DeadLetter]:
        bodies, self._bodies = self._bodies, []
        if not bodies:
            return
        results = self._destination.sender().send(bodies)
        for body, failure in zip(bodies, results, strict=True):
            if failure is None:
                Metrics.counter("alerts", "delivered").inc()
            else:
                Metrics.counter("alerts", "delivery_failed").inc()
                yield delivery_failed(body, failure, self._destination.label)


def delivery_failed(body: bytes, failure: Failure, destination: str) -> DeadLetter:
    """The dead letter of a notification that didn't arrive. The same one where the delivery is tried again."""
    said = head(body)
    return DeadLetter(
        reason=Reason.DELIVERY_FAILED,
        field=None,
        message=f"the alert didn't reach {destination} in {_times(failure.attempts)}: {failure.why}; "
        "send it again with fraud-pipeline replay --reason DELIVERY_FAILED",
        payload=body,
        received_ms=rfc3339.epoch_ms(said.last_event_time),
        source=source_of(destination),
        event_id=said.event_id,
        user_id=said.user_id,
        event_time_ms=rfc3339.epoch_ms(said.event_time),
    )


def source_of(destination: str) -> str:
    """The source of the dead letters of a destination, by its label."""
    return f"alerts to {destination}"


def _times(attempts: int) -> str:
    return "no attempt" if attempts == 0 else "one attempt" if attempts == 1 else f"{attempts} attempts"


def _never(body: bytes) -> bool:
    return False
