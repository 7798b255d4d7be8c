"""The job of `python -m bench.pubsub_read`, a process of its own that notes what has come so far, and when."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec

from fraud_pipeline import job, local_pubsub, local_runner, local_timers
from fraud_pipeline.beam_options import pipeline_options
from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.sinks.jsonl import JsonlSink
from fraud_pipeline.sources import ReadMessagesFromPubsub
from fraud_pipeline.stopping import run_until_stopped
from transforms.events import DeadLetter, Envelope
from transforms.parse_events import ParseEvents
from transforms.records import Score

ATTRIBUTE = "event_time"
NOTES = "notes"


class Bundle(msgspec.Struct):
    """What came so far at once: event ids, epoch seconds, and the job's processor seconds until then."""

    ids: list[str]
    at: float
    cpu: float


class Note(beam.DoFn):
    """Appends a line to a file for each bundle."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def start_bundle(self) -> None:
        self._ids: list[str] = []

    def process(self, element: Envelope | Score | DeadLetter) -> None:
        if isinstance(element, DeadLetter):
            self._ids.append(str(element.event_id))
        elif isinstance(element, Envelope):
            self._ids.append(element.event.event_id)
        elif element.record.trigger == "EVENT":  # any other corrects a score that was given
            self._ids.append(element.record.event.event_id)

    def finish_bundle(self) -> None:
        if self._ids:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(Bundle(self._ids, time.time(), time.process_time())) + b"\n")


class NotingSink(JsonlSink):
    """The job's sink, which also notes what is scored or has become a dead letter."""

    def write(self, outputs: Any) -> None:
        super().write(outputs)
        note = "Note" >> beam.ParDo(Note(self.output.with_name(NOTES)))
        _ = (outputs.scores, outputs.dead_letters) | "Noted" >> beam.Flatten() | note


def run_job(subscription: str, folder: Path, whole: bool) -> None:
    """Runs the job, or its read alone, until SIGTERM or until the process that started it ends.

    Args:
      subscription: `projects/P/subscriptions/S`.
      folder: where the file `notes` gets a `Bundle` of JSON a line, and the tables go.
      whole: the whole graph into JSON lines, as `fraud-pipeline run` has it.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if whole:
        sys.exit(job.stream(subscription, NotingSink(folder / "out", resume=True), PipelineConfig(), (), ATTRIBUTE))
    for part in (local_pubsub, local_runner, local_timers):
        part.install()
    pipeline = beam.Pipeline(options=pipeline_options((), runner=job.LOCAL_RUNNER, streaming=True))
    parsed = pipeline | "ReadMessages" >> ReadMessagesFromPubsub(subscription, ATTRIBUTE) | ParseEvents()
    _ = (parsed.events, parsed.dead_letters) | beam.Flatten() | beam.ParDo(Note(folder / NOTES))
    sys.exit(run_until_stopped(pipeline, lambda: None))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
