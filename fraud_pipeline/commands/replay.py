"""`fraud-pipeline replay`: puts dead letters back in, once each."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from fraud_pipeline.alerting.options import add_secret_argument, destination_of
from fraud_pipeline.errors import UsageError

_DESCRIPTION = "Puts dead letters back in after a fix, byte for byte, each once, however often this is run."

_EXAMPLES = """\
which: by default all but these, which could only be rejected again:
  DUPLICATE, of events that were scored; SINK_REJECTED, whose payload is a table's row and no message;
  RULES_REJECTED and RULES_UNREADABLE, which are about a file of rules; DELIVERY_FAILED, which are alerts. Alerts go
  to where they were meant to go, with --reason DELIVERY_FAILED, which a URL as --to implies; give --failed-to where
  the receiver has moved.

once each: what was put back is recorded, in the results file's table replayed_dead_letters, or beside an export in
  a file ending in .replayed. A file that is written to is also searched for what a killed run has put there. A
  topic can't be: a killed run leaves up to 500 messages that the next one publishes again, with the same
  attribute dead_letter_id. Events among them that were scored become DUPLICATE dead letters, and count once.

examples:
  what would be put back, by reason:
    fraud-pipeline replay --from results.duckdb --to fixed.jsonl --dry-run
  what wasn't JSON on one day, into a file, and then that file through the job:
    fraud-pipeline replay --from results.duckdb --reason NOT_JSON --since 2026-03-01 --until 2026-03-02 --to fixed.jsonl
    fraud-pipeline run --input fixed.jsonl --output fixed.duckdb
  into a file beside the events that did get through, each at its own place in time:
    fraud-pipeline replay --from results.duckdb --to events.jsonl --received-time original
  an export of BigQuery's table dead_letters, back into the topic:
    fraud-pipeline replay --from dead_letters.jsonl.gz --to pubsub:projects/P/topics/events
  alerts that didn't reach a webhook, or a topic:
    fraud-pipeline replay --from results.duckdb --to https://soc.example/alerts --alerts-secret env:ALERTS_SECRET
    fraud-pipeline replay --from results.duckdb --reason DELIVERY_FAILED --to pubsub:projects/P/topics/alerts
"""

_PUBSUB = "pubsub:"
_ALERTS = "DELIVERY_FAILED"
_NOT_BY_DEFAULT = (_ALERTS, "DUPLICATE", "SINK_REJECTED", "RULES_REJECTED", "RULES_UNREADABLE")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the arguments."""
    parser = subparsers.add_parser(
        "replay",
        help="put dead letters back in, once each",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH",
        help="results.duckdb; an output directory; or an export of the table dead_letters, as JSON lines (payload "
        "in base64; gzipped or not) or Parquet",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="PATH|pubsub:TOPIC|https://URL",
        help="a JSONL file, which keeps what it holds; or pubsub:projects/P/topics/T; for alerts as --alerts-to of "
        "fraud-pipeline run: a topic, https://URL, webhook:env:NAME or webhook:FILE",
    )
    add_secret_argument(parser)
    parser.add_argument(
        "--failed-to",
        metavar="LABEL",
        help="alerts that didn't reach this receiver, as dead letters name it, or `any` (the one of --to)",
    )
    parser.add_argument(
        "--reason",
        action="append",
        metavar="CODE",
        help="only dead letters of this reason; may be given again",
    )
    for name, meaning in (
        ("since", "received at this time or later"),
        ("until", "received before this time"),
    ):
        parser.add_argument(
            f"--{name}", metavar="TIME", help=f"only those {meaning}: 2026-03-01, or 2026-03-01T12:34:56Z"
        )
    parser.add_argument(
        "--received-time",
        choices=("now", "original"),
        default="now",
        help="when a line of the file counts as received: now, so that what came FROM_THE_FUTURE may be in the past "
        "by now; or when it was first (now)",
    )
    parser.add_argument(
        "--timestamp-attribute",
        metavar="NAME",
        help="Pub/Sub attribute to put the event time into, for a job that is run with the same option",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be put back, and change nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Puts dead letters back and says how many."""
    from fraud_pipeline.alerting.deliver import source_of
    from fraud_pipeline.alerting.resend import Resend
    from fraud_pipeline.dead_letters import (
        Destination,
        FileDestination,
        Filters,
        PubsubDestination,
        Store,
        replay,
    )
    from transforms.wire import LAST_MS

    now = time.time()
    now_ms = int(now * 1000)
    is_alerts = _is_alerts(args)
    filters = Filters(
        reasons=[_ALERTS] if is_alerts else _reasons(args.reason),
        since_ms=0 if args.since is None else _time_ms("--since", args.since),
        until_ms=LAST_MS if args.until is None else _time_ms("--until", args.until),
    )
    if filters.since_ms >= filters.until_ms:
        raise UsageError(f"--since {args.since} isn't before --until {args.until}; swap them")
    destination: Destination
    goes_to = args.to
    if is_alerts:
        receiver = destination_of(args.to, args.alerts_secret, "--to")
        if not args.dry_run:
            receiver.check()
        destination, goes_to = Resend(receiver), receiver.label
        if args.failed_to != "any":
            filters = filters._replace(source=source_of(args.failed_to or receiver.label))
    elif args.to.startswith(_PUBSUB):
        if args.received_time == "original":
            raise UsageError("--received-time original is for files: Pub/Sub stamps what it receives; leave it out")
        destination = PubsubDestination(args.to.removeprefix(_PUBSUB), now_ms, args.timestamp_attribute)
    else:
        if args.timestamp_attribute is not None:
            raise UsageError("--timestamp-attribute is for Pub/Sub, not for files; leave it out")
        destination = FileDestination(Path(args.to), now_ms if args.received_time == "now" else None)
    with Store(Path(args.source), goes_to, now, read_only=args.dry_run) as store:
        summary = replay(store, destination, filters)

    verb = "would be put back into" if args.dry_run else "put back into"
    print(f"{summary.put_back.total():>10,} {verb} {goes_to}")
    for reason, count in summary.put_back.most_common():
        print(f"{count:>14,} {reason}")
    print(f"{summary.before:>10,} put back before")
    if summary.incomplete:
        print(
            f"{summary.incomplete:>10,} left: a part of the payload is missing; export the whole table",
            file=sys.stderr,
        )
        return 1
    return 0


def _is_alerts(args: argparse.Namespace) -> bool:
    """Whether alerts are to be sent again, rather than messages put back."""
    is_webhook = args.to.startswith(("https://", "http://", "webhook:"))
    reasons = set(args.reason or ([_ALERTS] if is_webhook else []))
    if _ALERTS in reasons and len(reasons) > 1:
        raise UsageError(f"--reason {_ALERTS} is alerts, and the others are messages: put them back one after another")
    if is_webhook and reasons != {_ALERTS}:
        raise UsageError(
            f"--to {args.to.partition(':')[0]}:… takes alerts only; give --reason {_ALERTS}, or no --reason"
        )
    if _ALERTS in reasons:
        if not is_webhook and not args.to.startswith(_PUBSUB):
            raise UsageError(f"--reason {_ALERTS} is alerts, which go to a topic or a webhook, not to --to {args.to!r}")
        if args.received_time == "original" or args.timestamp_attribute is not None:
            raise UsageError(
                "--received-time and --timestamp-attribute are for messages, not for alerts; leave them out"
            )
        return True
    if args.failed_to is not None or args.alerts_secret is not None:
        raise UsageError(f"--failed-to and --alerts-secret are for --reason {_ALERTS}; give it, or leave them out")
    return False


def _reasons(wanted: list[str] | None) -> list[str]:
    from transforms.events import Reason

    known = [value for name, value in vars(Reason).items() if name.isupper()]
    for reason in wanted or ():
        if reason not in known:
            raise UsageError(f"--reason {reason!r} is no reason; give one of {', '.join(known)}")
    return wanted or [reason for reason in known if reason not in _NOT_BY_DEFAULT]


def _time_ms(option: str, text: str) -> int:
    from transforms.rfc3339 import epoch_ms

    try:
        return epoch_ms(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} {error}") from error
