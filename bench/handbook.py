"""The published features of the *Fraud Detection Handbook*, computed by the streaming graph: equal to 1e-6, or not.

The simulated card payments of Le Borgne, Siblini, Lebichot and Bontempi, *Reproducible Machine Learning for Credit Card
Fraud Detection: Practical Handbook* (2022), section 3.5, run through the graph as a stream. A fraud becomes known by a
label seven days after the payment. Customers are users, terminals are merchants:

- customer: number and mean amount of payments in `(t - w, t]`;
- terminal: number of payments and share of fraud in `(t - 7 d - w, t - 7 d]`; the book has 0 where there is no payment;

each for w = 1, 7 and 30 days. The book's flags of weekend and night depend on the clock alone and are left out, as
are payments that share customer and second with another: their order, and so their window, isn't defined.

Windows don't depend on sessions. Unless --gap-seconds says otherwise, a customer's payments are one session that ends
with the data, as local runners take milliseconds to finalize a session, and with the default gap nearly every payment
would be one. For the same reason payments arrive in a bundle for each half day (--max-ticks), in their order.

A run shows on stderr how many payments are scored.

Run: python -m bench.handbook --data DIR
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from bench.handbook_data import COLUMNS, FEATURES_FILE, TRANSACTIONS_FILE, Row, messages, published, ties, transactions
from fraud_pipeline import job
from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks import Sink
from fraud_pipeline.stream_replay import ReplayOptions
from transforms.entities import EntityConfig, load_entities
from transforms.features import FEATURES
from transforms.message_lines import wrap_line
from transforms.records import Score
from transforms.rule_file import load_rules

TOLERANCE = 1e-6
ONE_SESSION_SECONDS = 90 * 86_400.0
"""A gap that no customer's silence reaches."""

MAX_TICKS = 88
"""Bundles that the stream arrives in: two for each of the 44 days that the published rows look back over."""

ENTITIES = """
entities:
  merchant:
    key: merchant_id
    features:
      delayed_payment_count: {delay: 7d, windows: [1d, 7d, 30d]}
      fraud_share: {delay: 7d, windows: [1d, 7d, 30d]}
"""

RULES = """
rules:
  - id: large_payment
    description: A payment far above what customers spend.
    severity: low
    weight: 0.1
    reason_code: LARGE_PAYMENT
    when: amount_minor > 100000
"""
"""Rules that name no entity: those that ship name more entities than are declared here."""


class Parity(NamedTuple):
    """How features compare.

    Attributes:
      rows, values: how many were compared.
      worst: the largest difference, in the book's units.
      wrong: values that differ by more than the tolerance, as (transaction, column, ours, the book's), at most 20.
      wrong_count: how many there are.
      approximate: how many rows the graph called approximate.
    """

    rows: int
    values: int
    worst: float
    wrong: list[tuple[int, str, float | None, float]]
    wrong_count: int
    approximate: int


_WANTED: set[int] = set()
_FOUND: dict[int, tuple[int, Sequence[Any], bool]] = {}
_SCORED: set[int] = set()


def _collect(score: Score) -> None:
    transaction = int(score.record.event.event_id[1:])
    record = score.record
    _SCORED.add(transaction)
    if transaction in _WANTED and (transaction not in _FOUND or _FOUND[transaction][0] < record.version):
        _FOUND[transaction] = record.version, tuple(record.features), record.approximate


class _Collect(Sink):
    """Keeps the last features of the payments that are wanted, in this process."""

    def write(self, outputs: Any) -> None:
        _ = outputs.scores | beam.Map(_collect)

    def finalize(self) -> None:
        pass

    def rows_written(self) -> Mapping[str, int]:
        return {"payments scored": len(_SCORED)}


def graph_features(
    rows: Sequence[Row],
    wanted: set[int],
    entities: EntityConfig,
    *,
    bounded: bool = False,
    max_ticks: int = MAX_TICKS,
    gap_seconds: float = ONE_SESSION_SECONDS,
) -> dict[int, tuple[dict[str, Any], bool]]:
    """Features of payments as the graph gives them, by name, each with whether they are approximate.

    Args:
      wanted: transactions to keep them of.
      bounded: True for the batch path, False for the streaming one.
      max_ticks: bundles of the stream.
      gap_seconds: silence that ends a session, in event time and in processing time.

    Raises:
      InterruptedError: a signal stopped the job.
    """
    _WANTED.clear()
    _WANTED.update(wanted)
    _FOUND.clear()
    _SCORED.clear()
    config = PipelineConfig(
        entities=entities,
        gap_seconds=gap_seconds,
        inactivity_seconds=gap_seconds,
        rules=load_rules(RULES, "handbook", entities=entities),
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.jsonl"
        ordered = sorted(messages(rows), key=lambda message: message.received_ms)
        path.write_bytes(b"".join(wrap_line(message) + b"\n" for message in ordered))
        if bounded:
            code = job.backfill([str(path)], _Collect(), config)
        else:
            code = job.replay(
                [str(path)], _Collect(), config, replay_options=ReplayOptions(max_ticks=max_ticks, stalls=())
            )
    if code:
        raise InterruptedError(f"the job was stopped, exit code {code}; run it to its end")
    names = [feature.name for feature in (*FEATURES, *entities.features)]
    return {t: (dict(zip(names, found, strict=True)), rough) for t, (_, found, rough) in _FOUND.items()}


def compare(ours: Mapping[int, tuple[dict[str, Any], bool]], book: Mapping[int, Mapping[str, float]]) -> Parity:
    """Compares features with the book's; a payment that the graph hasn't scored is an error.

    Raises:
      KeyError: a payment wasn't scored.
    """
    wrong: list[tuple[int, str, float | None, float]] = []
    values, worst, wrong_count = 0, 0.0, 0
    for transaction, expected in book.items():
        found, _ = ours[transaction]
        for column, theirs in expected.items():
            name, unit = COLUMNS[column]
            value = found[name]
            mine = 0.0 if value is None else value / unit
            values += 1
            worst = max(worst, abs(mine - theirs))
            if not abs(mine - theirs) <= TOLERANCE:
                wrong_count += 1
                if len(wrong) < 20:
                    wrong.append((transaction, column, mine, theirs))
    return Parity(len(book), values, worst, wrong, wrong_count, sum(rough for _, rough in ours.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Compares all rows, prints how it went; 1 where a value differs, 2 for a mistake on the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.handbook", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data", type=Path, required=True, help=f"directory of {TRANSACTIONS_FILE} and {FEATURES_FILE}"
    )
    parser.add_argument("--gap-seconds", type=float, default=ONE_SESSION_SECONDS, help="of sessions (90 days)")
    parser.add_argument("--max-ticks", type=int, default=MAX_TICKS, help=f"bundles of the stream ({MAX_TICKS})")
    parser.add_argument("--bounded", action="store_true", help="through the batch path instead of the stream")
    args = parser.parse_args(argv)
    try:
        _check(args)
    except (UsageError, ValueError) as error:
        print(f"python -m bench.handbook: {error}", file=sys.stderr)
        return 2
    rows = transactions(args.data / TRANSACTIONS_FILE)
    book = published(args.data / FEATURES_FILE)
    tied = ties(rows)
    compared = {transaction: values for transaction, values in book.items() if transaction not in tied}
    last_ms = max(at_ms for transaction, at_ms, *_ in rows if transaction in compared)
    needed = [row for row in rows if row[1] <= last_ms]
    print(f"{len(needed):,} payments, {len(book):,} rows published, {len(book) - len(compared)} of them ties")
    start = time.perf_counter()
    entities = load_entities(ENTITIES, "handbook")
    ours = graph_features(
        needed,
        set(compared),
        entities,
        bounded=args.bounded,
        max_ticks=args.max_ticks,
        gap_seconds=args.gap_seconds,
    )
    seconds = time.perf_counter() - start
    parity = compare(ours, compared)
    path = "batch path" if args.bounded else "streaming graph"
    print(f"{path}: {seconds:.0f} s, {len(needed) / seconds:,.0f} payments/s")
    print(f"{parity.rows:,} rows, {parity.values:,} values, largest difference {parity.worst:.2g}")
    print(f"{parity.wrong_count:,} values differ by more than {TOLERANCE:g}; {parity.approximate:,} rows approximate")
    for transaction, column, mine, theirs in parity.wrong:
        print(f"  transaction {transaction}, {column}: {mine}, published {theirs}")
    return 1 if parity.wrong_count else 0


def _check(args: argparse.Namespace) -> None:
    for name in (TRANSACTIONS_FILE, FEATURES_FILE):
        if not (args.data / name).is_file():
            raise UsageError(f"{args.data / name} isn't there; give --data the directory that has it")
    _ = PipelineConfig(gap_seconds=args.gap_seconds), ReplayOptions(max_ticks=args.max_ticks)


if __name__ == "__main__":
    # Functions of `__main__` are pickled by value and would fill copies of what they are to fill.
    from bench import handbook

    sys.exit(handbook.main())
