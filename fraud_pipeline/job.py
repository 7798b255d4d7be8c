"""The job: a source, the graph and a sink, put together for a runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from fraud_pipeline import dataflow, graph, local_runner, local_timers
from fraud_pipeline.alerting.deliver import DeliverAlerts, Delivery
from fraud_pipeline.alerting.destinations import check_destinations
from fraud_pipeline.beam_options import pipeline_options
from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks import Sink
from fraud_pipeline.sources import (
    ReadMessagesFromFiles,
    ReadMessagesFromPubsub,
    check_subscription,
    match_files,
    read_messages,
)
from fraud_pipeline.stopping import run_until_stopped
from fraud_pipeline.stream_replay import ReplayClock, ReplayOptions, replay_stream

LOCAL_RUNNER = "BundleBasedDirectRunner"
"""Named, as `DirectRunner` picks another engine, one that can neither replay a stream nor read Pub/Sub well."""

PUBSUB = "pubsub:"


def backfill(
    inputs: Sequence[str],
    sink: Sink,
    config: PipelineConfig,
    beam_args: Sequence[str] = (),
    delivery: Delivery = Delivery(),
) -> int:
    """Runs files through the batch path.

    Args:
      inputs: paths or patterns of files of messages.
      beam_args: Beam's options; without `--runner` it runs here.
      delivery: where alerts go besides the table.

    Returns:
      0, or 128 + the signal that stopped it, its files complete.

    Raises:
      UsageError: an input, the output or an option is wrong.
    """
    files = match_files(inputs)
    options = pipeline_options(beam_args, runner=LOCAL_RUNNER)
    config = msgspec.structs.replace(config, bounded=True)
    return _run(ReadMessagesFromFiles(files), options, sink, config, delivery, [file.path for file in files])


def replay(
    inputs: Sequence[str],
    sink: Sink,
    config: PipelineConfig,
    beam_args: Sequence[str] = (),
    replay_options: ReplayOptions = ReplayOptions(),
    delivery: Delivery = Delivery(),
) -> int:
    """Runs files as a stream, in order of arrival, clock and watermark advancing as they would have.

    Args, returns and raises as `backfill`; the messages are held in memory.
    """
    options = pipeline_options(beam_args, runner=LOCAL_RUNNER, streaming=True)
    if dataflow.is_dataflow(options):
        raise UsageError("--mode replay runs here, not on Dataflow; leave out --runner, or --mode")
    messages = [message for file in match_files(inputs) for message in read_messages(file)]
    config = msgspec.structs.replace(config, clock=ReplayClock(min((m.received_ms for m in messages), default=0)))
    return _run(replay_stream(messages, replay_options), options, sink, config, delivery)


def stream(
    subscription: str,
    sink: Sink,
    config: PipelineConfig,
    beam_args: Sequence[str] = (),
    timestamp_attribute: str | None = None,
    delivery: Delivery = Delivery(),
) -> int:
    """Runs a Pub/Sub subscription through the graph, without end: here until stopped, or submitted to Dataflow.

    Args:
      subscription: `projects/P/subscriptions/S`.
      timestamp_attribute: the attribute that holds the event time; None for publish time.

    Returns and raises as `backfill`.
    """
    source = ReadMessagesFromPubsub(subscription, timestamp_attribute)
    options = pipeline_options(beam_args, runner=LOCAL_RUNNER, streaming=True)
    if options.view_as(StandardOptions).runner == LOCAL_RUNNER:
        from fraud_pipeline import local_pubsub

        check_subscription(subscription)
        local_pubsub.install()
    return _run(source, options, sink, config, delivery)


def _run(
    source: beam.PTransform[Any, Any],
    options: PipelineOptions,
    sink: Sink,
    config: PipelineConfig,
    delivery: Delivery,
    inputs: Sequence[str] = (),
) -> int:
    on_dataflow = dataflow.is_dataflow(options)
    check_destinations(delivery.destinations, by_workers=on_dataflow)
    if on_dataflow:
        dataflow.check(options, sink, inputs, config.rules_source)
    else:
        sink.check()
    if options.view_as(StandardOptions).runner == LOCAL_RUNNER:
        local_runner.install()
        local_timers.install()
    try:
        pipeline = beam.Pipeline(options=options)
    except ValueError as error:
        raise UsageError(" ".join(str(error).split())) from error
    outputs = graph.build(pipeline | "ReadMessages" >> source, config)
    if delivery.destinations:
        is_service = on_dataflow and options.view_as(StandardOptions).streaming
        failed = outputs.alerts | "DeliverAlerts" >> DeliverAlerts(
            delivery, bounded=config.bounded, on_dataflow=is_service
        )
        letters = (outputs.dead_letters, failed) | "WithUndelivered" >> beam.Flatten()
        outputs = outputs._replace(dead_letters=letters)
    sink.write(outputs)
    if on_dataflow and options.view_as(StandardOptions).streaming:
        return dataflow.submit(pipeline)
    return run_until_stopped(pipeline, sink.finalize, progress=sink.rows_written)
