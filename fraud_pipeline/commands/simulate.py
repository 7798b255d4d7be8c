"""`fraud-pipeline simulate`: labelled login and payment traffic, into a file or to Pub/Sub."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fraud_pipeline.errors import UsageError

if TYPE_CHECKING:
    from fraud_pipeline.simulate import Arrival, AttackPlan, SimulationConfig
    from fraud_pipeline.simulate.output import LineFile
    from fraud_pipeline.simulate.publish import Pace, Publisher

_EPILOG = """\
attack scenarios, and how many there are by default for 1,000 users and a day:
{scenarios}

That is many more than in real life, where a demo would show none. --attack-rate 0.02 comes closer.
Intensity goes from 0 (no attack) over slow and careful (0.1) to fast and loud (1).

output: a line for each message, in order of arrival, with the time it arrives and what the job reads:
  {{"received_ms":1748822461104,"payload":"{{\\"event_type\\":\\"login\\",...}}"}}
labels: a line for each event of an attack, kept apart from what the job reads:
  {{"event_id":"e-...","scenario":"brute_force","attack_id":"brute_force-0002","intensity":0.36}}

examples:
  a day of 200 users, after four quiet days:
    fraud-pipeline simulate --output events.jsonl --labels labels.jsonl
  about a million messages, compressed:
    fraud-pipeline simulate --users 5000 --days 20 --output events.jsonl.gz --labels labels.jsonl.gz
  three careful takeovers and nothing else, in perfect order:
    fraud-pipeline simulate --attack-rate 0 --attack account_takeover=3@0.1 --in-order --output events.jsonl
  the usual attacks, all of them careful:
    fraud-pipeline simulate --attack all=@0.1 --output events.jsonl --labels labels.jsonl
  to the Pub/Sub emulator, the last day up to now, an hour in a minute:
    export PUBSUB_EMULATOR_HOST=127.0.0.1:8085
    fraud-pipeline simulate --end now --publish projects/fraud-local/topics/events --speed-up 60
  live: the history at once, then each event when it happens:
    fraud-pipeline simulate --start now --speed-up 1 --publish projects/fraud-local/topics/events
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    from fraud_pipeline.simulate.scenarios import load_scenarios

    scenarios = "\n".join(
        f"  {scenario.name:<20} {scenario.per_1000_user_days:>3.0f}  {scenario.help}"
        for scenario in load_scenarios().values()
    )
    parser = subparsers.add_parser(
        "simulate",
        help="make labelled login and payment traffic with attacks in it",
        description="Makes a day or more of login and payment traffic with labelled attacks. The same options and "
        "seed always make the same bytes.",
        epilog=_EPILOG.format(scenarios=scenarios),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)

    traffic = parser.add_argument_group("traffic")
    traffic.add_argument("--users", type=int, default=200, metavar="N", help="number of users (default: 200)")
    traffic.add_argument("--days", type=int, default=1, metavar="N", help="days with attacks (default: 1)")
    traffic.add_argument(
        "--history-days",
        type=int,
        default=4,
        metavar="N",
        help="quiet days before them, so that users have habits that an attack can break (default: 4)",
    )
    traffic.add_argument("--seed", type=int, default=7, metavar="N", help="another seed, other traffic (default: 7)")
    when = traffic.add_mutually_exclusive_group()
    when.add_argument(
        "--start",
        metavar="TIME",
        help="start of the first day with attacks: a date, an RFC 3339 time, or now (default: 2025-06-02)",
    )
    when.add_argument("--end", metavar="TIME", help="end of the last day instead; with now, nothing lies in the future")

    attacks = parser.add_argument_group("attacks")
    attacks.add_argument(
        "--attack-rate",
        type=float,
        default=1.0,
        metavar="X",
        help="multiplies the usual number of attacks; 0 for none but those of --attack (default: 1)",
    )
    attacks.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="NAME=[COUNT][@INTENSITY]",
        help="number of attacks of a scenario in the whole run, and their intensity from 0 to 1, as in "
        "brute_force=5, brute_force=5@0.2 or brute_force=@0.2; the default is the usual number, at all "
        "intensities; NAME may be all; can be repeated",
    )

    delivery = parser.add_argument_group("delivery (shares of the events, 0 to 1)")
    for name, default, text in (
        ("delayed", 0.05, "arrive out of order, most within 2 s, some minutes later"),
        ("late", 0.005, "arrive more than 5 minutes later, some by hours"),
        ("duplicate", 0.01, "are delivered twice, byte for byte"),
        ("conflict", 0.0005, "are followed by other content with the same event_id"),
        ("malformed", 0.003, "arrive as no valid event: truncated, wrong types, binary, ..."),
    ):
        delivery.add_argument(f"--{name}-rate", type=float, metavar="X", help=f"{text} (default: {default})")
    delivery.add_argument(
        "--in-order",
        action="store_true",
        help="all of these 0 unless given: every event once, whole, in order",
    )

    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        metavar="PATH",
        help="file of messages; compressed when it ends in .gz; - for standard output",
    )
    output.add_argument("--labels", metavar="PATH", help="file of labels; compressed when it ends in .gz")
    output.add_argument(
        "--label-events",
        action="store_true",
        help="let verdicts follow in the traffic, days later: chargebacks, analysts' and customers' label events",
    )
    output.add_argument(
        "--publish",
        metavar="TOPIC",
        help="publish to projects/PROJECT/topics/TOPIC; honours PUBSUB_EMULATOR_HOST",
    )
    pace = output.add_mutually_exclusive_group()
    pace.add_argument(
        "--speed-up",
        type=float,
        metavar="X",
        help="publish so many times faster than the traffic happens; 0 for as fast as possible (default: 60)",
    )
    pace.add_argument("--rate", type=float, metavar="N", help="publish N messages a second")


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Returns:
      0, or 128 + the signal's number when SIGINT or SIGTERM cut it short; the files hold whole lines all the same.

    Raises:
      UsageError: an argument is wrong, a file can't be written, or the topic can't be published to.
    """
    from fraud_pipeline.simulate import simulate
    from fraud_pipeline.simulate.output import LineFile
    from fraud_pipeline.simulate.publish import Publisher
    from fraud_pipeline.simulate.running import progress, stop_signals

    _check_outputs(args)
    now_ms = time.time_ns() // 1_000_000
    config = _config(args, now_ms)
    pace = _pace(args) if args.publish is not None else None
    try:
        arrivals = simulate(config)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if args.end == "now":
        arrivals = _until(arrivals, now_ms)
    try:
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(stop_signals())
            messages = None if args.output is None else stack.enter_context(LineFile(args.output))
            labels = None if args.labels is None else stack.enter_context(LineFile(args.labels))
            publisher = None if args.publish is None else stack.enter_context(Publisher(args.publish))
            show = stack.enter_context(progress(config))
            counts = _pump(arrivals, messages, labels, publisher, pace, stop, show)
    except BrokenPipeError:
        # What reads has seen enough; Python flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        raise UsageError(f"writing failed: {error}; free some space or choose another path") from error
    _summarize(counts, args, stop)
    return 128 + stop[0] if stop else 0


def _pump(
    arrivals: Iterator[Arrival],
    messages: LineFile | None,
    labels: LineFile | None,
    publisher: Publisher | None,
    pace: Pace | None,
    stop: list[int],
    show: Callable[[int, int], None],
) -> Counter[str]:
    """Sends every arrival where it should go until one of the signals in `stop` came; returns counts by kind."""
    import msgspec

    from fraud_pipeline.simulate.publish import wait_until
    from transforms.message_lines import timed_line

    counts: Counter[str] = Counter()
    number = 0
    for number, arrival in enumerate(arrivals):
        received_ms = arrival.received_ms
        if pace is not None:
            wait_until(
                pace.due(received_ms, number),
                lambda: bool(stop),
                functools.partial(show, received_ms, number),
            )
        if stop:
            break
        if messages is not None:
            messages.write(timed_line(arrival.payload, received_ms))
        if publisher is not None:
            publisher.publish(arrival.payload)
        if arrival.label is not None:
            counts["labels"] += 1
            if labels is not None:
                labels.write(msgspec.json.encode(arrival.label))
        counts[arrival.kind] += 1
        show(received_ms, number)
    return counts


def _check_outputs(args: argparse.Namespace) -> None:
    if args.output is None and args.publish is None:
        raise UsageError("there is nowhere to write to; give --output events.jsonl or --publish TOPIC")
    if args.labels is not None and args.labels == args.output:
        raise UsageError(f"--output and --labels are both {args.output!r}; labels stay apart: give another path")
    if args.publish is None and (args.speed_up is not None or args.rate is not None):
        raise UsageError("--speed-up and --rate pace --publish, which isn't given; add --publish TOPIC")
    if args.speed_up is not None and not 0 <= args.speed_up < float("inf"):
        raise UsageError(f"--speed-up is {args.speed_up}; give 0 (as fast as possible) or more")
    if args.rate is not None and not 0 < args.rate < float("inf"):
        raise UsageError(f"--rate is {args.rate}; give a number of messages a second above 0")
    if args.start == "now" and (args.publish is None or args.speed_up != 1):
        raise UsageError(
            "--start now would make events of the future; add --publish TOPIC --speed-up 1, or use --end now"
        )


def _pace(args: argparse.Namespace) -> Pace:
    from fraud_pipeline.simulate.publish import Rate, SpeedUp, WallClock

    if args.start == "now":
        return WallClock()
    if args.rate is not None:
        return Rate(args.rate)
    return SpeedUp(60.0 if args.speed_up is None else args.speed_up)


def _config(args: argparse.Namespace, now_ms: int) -> SimulationConfig:
    from fraud_pipeline.simulate import NO_DISORDER, Delivery, SimulationConfig
    from fraud_pipeline.simulate.config import DAY_MS, DEFAULT_START_MS

    usual = NO_DISORDER if args.in_order else Delivery()

    def rate(given: float | None, default: float) -> float:
        return default if given is None else given

    if args.end is not None:
        start_ms = _time_ms("--end", args.end, now_ms) - args.days * DAY_MS
    elif args.start is not None:
        start_ms = _time_ms("--start", args.start, now_ms)
    else:
        start_ms = DEFAULT_START_MS
    try:
        return SimulationConfig(
            users=args.users,
            days=args.days,
            history_days=args.history_days,
            seed=args.seed,
            start_ms=start_ms,
            attack_rate=args.attack_rate,
            attacks=_attacks(args.attack),
            delivery=Delivery(
                delayed=rate(args.delayed_rate, usual.delayed),
                late=rate(args.late_rate, usual.late),
                duplicates=rate(args.duplicate_rate, usual.duplicates),
                conflicts=rate(args.conflict_rate, usual.conflicts),
                malformed=rate(args.malformed_rate, usual.malformed),
            ),
            label_events=args.label_events,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _attacks(texts: list[str]) -> dict[str, AttackPlan]:
    from fraud_pipeline.simulate import AttackPlan
    from fraud_pipeline.simulate.scenarios import load_scenarios

    plans: dict[str, AttackPlan] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        count, at, intensity = rest.partition("@")
        try:
            if not equals or not rest or (at and not intensity):
                raise ValueError("a part is missing")
            plan = AttackPlan(int(count) if count else None, float(intensity) if at else None)
        except ValueError as error:
            raise UsageError(
                f"--attack {text!r} is wrong: {error}; give NAME=COUNT, NAME=COUNT@INTENSITY or NAME=@INTENSITY"
            ) from error
        plans.update(dict.fromkeys(load_scenarios() if name == "all" else [name], plan))
    return plans


def _time_ms(option: str, text: str, now_ms: int) -> int:
    if text == "now":
        return now_ms
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is no time; give a date, an RFC 3339 time, or now, as in 2025-06-02T00:00:00Z"
        ) from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _until(arrivals: Iterator[Arrival], end_ms: int) -> Iterator[Arrival]:
    for arrival in arrivals:
        if arrival.received_ms > end_ms:
            return
        yield arrival


def _summarize(counts: Counter[str], args: argparse.Namespace, stop: list[int]) -> None:
    labels = counts.pop("labels", 0)
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("duplicate", "conflict", "malformed") if counts[kind])
    places = " and ".join(place for place in (args.output, args.publish) if place is not None)
    print(
        f"{'stopped: ' if stop else ''}{counts.total():,} messages to {places}"
        f"{f' ({kinds})' if kinds else ''}, {labels:,} events of attacks"
        f"{f', labelled in {args.labels}' if args.labels is not None else ''}",
        file=sys.stderr,
    )
