"""`fraud-pipeline run`: messages in, scores out."""

from __future__ import annotations

import argparse
import sys

from fraud_pipeline.alerting.options import add_arguments, case_config, delivery
from fraud_pipeline.errors import UsageError

_DESCRIPTION = "Scores login and payment events: reads messages, aggregates them by user, applies the rules."

_EXAMPLES = """\
examples:
  a file, all at once, into one DuckDB file
    fraud-pipeline run --input events.jsonl --output results.duckdb
  the same file as the stream that it was, with late events, corrections and silences
    fraud-pipeline run --input events.jsonl --output results.duckdb --mode replay
  a subscription, here, until Ctrl-C
    fraud-pipeline run --input pubsub:projects/P/subscriptions/S --output results.duckdb
  the same, alerts to a topic and to a chat whose URL is in a file
    fraud-pipeline run --input pubsub:projects/P/subscriptions/S --output results.duckdb \\
      --alerts-to pubsub:projects/P/topics/alerts --alerts-to webhook:chat-url.txt --alerts-secret env:ALERTS_SECRET
  a subscription, on Dataflow (run_dataflow.sh does this with production defaults)
    fraud-pipeline run --input pubsub:projects/P/subscriptions/S --output bigquery:P.fraud --runner DataflowRunner ...

what comes out: the tables scores, sessions, session_rollups, alerts, labels, dead_letters and intake.
  fraud-pipeline query "SELECT * FROM ledger" --database results.duckdb
Every other option is Beam's and goes to the runner."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the arguments."""
    parser = subparsers.add_parser(
        "run",
        help="score events from files or Pub/Sub",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="PATH|pubsub:SUBSCRIPTION",
        help="JSON lines, gzipped or not, * allowed, may be given again; or pubsub:projects/P/subscriptions/S",
    )
    parser.add_argument(
        "--output",
        required=True,
        help="results.duckdb, a directory (see --format), or bigquery:project.dataset",
    )
    parser.add_argument("--format", choices=("parquet", "jsonl"), help="of the files in a directory (parquet)")
    parser.add_argument(
        "--mode",
        choices=("backfill", "replay"),
        help="for files: backfill sorts and folds each user's events, fast; replay runs them as a stream in order of "
        "arrival, some hundreds of events a second (backfill)",
    )
    parser.add_argument(
        "--rules", metavar="PATH", help="rules in YAML, local or gs:// (those shipped; see `fraud-pipeline rules`)"
    )
    parser.add_argument("--lists", metavar="PATH", help="deny, allow and watch lists in YAML, local or gs:// (none)")
    parser.add_argument(
        "--entities",
        metavar="FILE",
        help="declaration of entities: addresses, devices, cards ... and their features (the one that ships)",
    )
    parser.add_argument(
        "--rules-refresh-seconds",
        type=float,
        metavar="SECONDS",
        help="how often workers read rules and lists again, at paths that they can reach (never: they travel with the "
        "job)",
    )
    for name, default, meaning in (
        ("gap", 300, "silence, in event time, that ends a session"),
        ("grace", 300, "how long after its end, by the watermark, a session can still be corrected"),
        ("inactivity", 300, "silence, in processing time, after which a session is finalized provisionally"),
    ):
        parser.add_argument(
            f"--{name}-seconds", type=float, default=default, metavar="SECONDS", help=f"{meaning} ({default})"
        )
    parser.add_argument(
        "--retention-days", type=float, default=30, metavar="DAYS", help="how long a silent user is remembered (30)"
    )
    parser.add_argument(
        "--clock-skew-seconds",
        type=int,
        default=60,
        metavar="SECONDS",
        help="how far an event may be ahead of its receipt before it is a dead letter (60)",
    )
    parser.add_argument(
        "--timestamp-attribute",
        metavar="NAME",
        help="Pub/Sub attribute with the event time, for the watermark; recommended (publish time)",
    )
    add_arguments(parser)
    parser.set_defaults(run=run, takes_beam_options=True)


def run(args: argparse.Namespace) -> int:
    """Runs the job the arguments ask for."""
    from fraud_pipeline import job
    from fraud_pipeline.config import PipelineConfig
    from fraud_pipeline.rules.arguments import entities_of
    from fraud_pipeline.rules.running import rules_and_source
    from fraud_pipeline.sinks import sink_for
    from transforms.wire import Limits

    subscriptions = [i.removeprefix(job.PUBSUB) for i in args.input if i.startswith(job.PUBSUB)]
    if subscriptions and len(args.input) > 1:
        raise UsageError(f"--input was given {len(args.input)} times; a subscription stands alone")
    if subscriptions and args.mode:
        raise UsageError(f"--mode {args.mode} is for files, not for --input {args.input[0]!r}; leave it out")
    if args.timestamp_attribute and not subscriptions:
        raise UsageError("--timestamp-attribute is for a subscription, not for files; leave it out")
    entities = entities_of(args)
    rules, source = rules_and_source(args.rules, args.lists, args.rules_refresh_seconds, entities)
    try:
        config = PipelineConfig(
            gap_seconds=args.gap_seconds,
            grace_seconds=args.grace_seconds,
            inactivity_seconds=args.inactivity_seconds,
            retention_seconds=args.retention_days * 86_400,
            limits=Limits(clock_skew_seconds=args.clock_skew_seconds),
            rules=rules,
            rules_source=source,
            entities=entities,
            cases=case_config(args),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    send = delivery(args)
    sink = sink_for(args.output, format=args.format, resume=bool(subscriptions), entities=entities)
    if subscriptions:
        code = job.stream(subscriptions[0], sink, config, args.beam_args, args.timestamp_attribute, send)
    elif args.mode == "replay":
        code = job.replay(args.input, sink, config, args.beam_args, delivery=send)
    else:
        code = job.backfill(args.input, sink, config, args.beam_args, send)
    for table, rows in sink.rows_written().items():
        print(f"{rows:>12,} {table}", file=sys.stderr)
    return code
