"""A job that reads a subscription through a keyed stateful step, for tests that run it as a process and kill it.

`python -c "import pubsub_job; pubsub_job.main()" OUTPUT SUBSCRIPTION [local|beam] [ATTRIBUTE]`; `beam` is Beam's own
read. OUTPUT becomes a directory of JSON lines.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Duration

from fraud_pipeline import local_pubsub
from fraud_pipeline.sinks.jsonl import JsonlSink
from fraud_pipeline.sources import ReadMessagesFromPubsub
from fraud_pipeline.stopping import run_until_stopped
from transforms.events import Message

KEYS = 50


class Outputs(NamedTuple):
    """The job's only table."""

    seen: Any


class Count(beam.DoFn):
    """Says of each message its number within its key; and how many there were, five seconds of event time after."""

    COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[int, Message],
        at: Any = beam.DoFn.TimestampParam,
        count: Any = beam.DoFn.StateParam(COUNT),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[dict[str, Any]]:
        key, message = element
        n = (count.read() or 0) + 1
        count.write(n)
        end.set(at + Duration(5))
        yield {
            "id": json.loads(message.payload)["id"],
            "key": key,
            "n": n,
            "at_ms": at.micros // 1000,
            "received_ms": message.received_ms,
            "source": message.source,
        }

    @on_timer(END)
    def on_end(
        self,
        key: Any = beam.DoFn.KeyParam,
        at: Any = beam.DoFn.TimestampParam,
        count: Any = beam.DoFn.StateParam(COUNT),
    ) -> Iterator[dict[str, Any]]:
        yield {"ended": key, "n": count.read(), "at_ms": at.micros // 1000}


def with_key(message: Message) -> tuple[int, Message]:
    """Keys a message by its id."""
    return json.loads(message.payload)["id"] % KEYS, message


def main() -> None:
    """Runs until SIGTERM."""
    output, subscription, read, *attribute = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    if read == "local":
        local_pubsub.install(sample_seconds=2)
    sink = JsonlSink(Path(output), resume=True, row_builders={"seen": dict})
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"]))
    messages = pipeline | ReadMessagesFromPubsub(subscription, *attribute)
    counted = messages | beam.Map(with_key).with_output_types(tuple[int, Message]) | beam.ParDo(Count())
    sink.write(Outputs(counted))
    sys.exit(run_until_stopped(pipeline, sink.finalize))
