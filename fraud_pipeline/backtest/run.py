"""Rules over history: only on rows that a prefilter lets through, on several processes where these are many."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeAlias

from fraud_pipeline.backtest.evaluate import Reader, columns_needed, names_in
from fraud_pipeline.backtest.history import History
from fraud_pipeline.backtest.members import matches_some
from fraud_pipeline.backtest.tally import Example, Tally, change, mattered, order, outcome, said
from fraud_pipeline.errors import UsageError
from transforms.records import Score
from transforms.rules import Rule, RuleSet
from transforms.scoring import score
from transforms.variables import LIST_PREFIX

if TYPE_CHECKING:
    import pyarrow

Progress: TypeAlias = Callable[[float], None]

ALONE_ROWS = 60_000
"""Rows that are judged in this process before others are started, which takes as long as some ten thousand rows."""


def backtest(history: History, rules: RuleSet, workers: int | None = None, progress: Progress | None = None) -> Tally:
    """What a file of rules says of each event in history: an `Outcome` for each that it says anything of.

    Args:
      workers: processes, or None for as many as there are cores.
      progress: called with the part of history, from 0 to 1, that has been read.

    Raises:
      UsageError: history doesn't hold a feature that a rule needs.
    """
    return _run(history, judge_of(history, (rules,)), workers, progress)


def diff(
    history: History,
    old: RuleSet,
    new: RuleSet,
    most_examples: int = 3,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Tally:
    """What two files of rules say differently of events in history: a `Change` for each such event.

    Args:
      most_examples: examples for each pair of an old and a new action.
      workers, progress: as in `backtest`.

    Raises:
      UsageError: as in `backtest`.
    """
    return _run(history, judge_of(history, (old, new), most_examples), workers, progress)


class Judge:
    """Judges batches of rows; goes to other processes as it is.

    Args:
      rule_sets: one, or an old and a new one to compare.
      columns: names of the rows' values, the verdict after them.
    """

    def __init__(self, rule_sets: tuple[RuleSet, ...], columns: tuple[str, ...], most_examples: int = 0) -> None:
        self.rule_sets = rule_sets
        self.columns = columns
        self.most_examples = most_examples
        self._inputs = _inputs(rule_sets)

    def __call__(self, batch: pyarrow.RecordBatch) -> Tally:
        """The tally of a batch."""
        tally = Tally(self.most_examples)
        reader = Reader(self.columns, self.rule_sets[0].vocabulary)
        thresholds = self.rule_sets[0].thresholds
        at = {name: i for i, name in enumerate(self.columns)}
        amount_at, currency_at = at["amount_minor"], at["currency"]

        def count_error(rule: Rule, error: Exception) -> None:
            tally.errors[rule.id] += 1

        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            record = reader.record(row)
            scores = [score(record, rules, count_error) for rules in self.rule_sets]
            *_, is_fraud = row
            amount, currency = row[amount_at] or 0, row[currency_at]
            if len(scores) == 1:
                if scores[0].fired or scores[0].shadow:
                    tally.add(outcome(scores[0], thresholds, is_fraud, currency), amount)
            elif found := change(scores[0], scores[1], is_fraud, currency):
                tally.add(found, amount)
                event = record.event
                if tally.wants(found.old_action, found.new_action, order(event.user_id, event.event_id)):
                    tally.show(self._example(scores[0], scores[1], row[amount_at], currency, is_fraud))
        tally.row_count = batch.num_rows
        return tally

    def _example(
        self, old: Score, new: Score, amount_minor: int | None, currency: str | None, is_fraud: bool | None
    ) -> Example:
        event = new.record.event
        known = self.rule_sets[-1].known(new.record)
        return Example(
            event_id=event.event_id,
            user_id=event.user_id,
            event_time_ms=event.event_time_ms,
            amount_minor=amount_minor,
            currency=currency,
            is_fraud=is_fraud,
            old=said(old),
            new=said(new),
            mattered={name: known.get(name) for name in mattered(old, new, self._inputs)},
        )


def _inputs(rule_sets: tuple[RuleSet, ...]) -> dict[str, set[str]]:
    """By rule and list, the variables that it looks at, in any of the files."""
    found: dict[str, set[str]] = defaultdict(set)
    for rules in rule_sets:
        for rule in rules.rules:
            found[rule.id] |= names_in(rule.when) & rules.vocabulary.variables.keys()
        for one in rules.lists.lists:
            found[one.fired.rule_id].add(one.head.field)
    return found


def judge_of(history: History, rule_sets: tuple[RuleSet, ...], most_examples: int = 0) -> Judge:
    """A judge of history's rows.

    Raises:
      UsageError: history doesn't hold what a rule needs.
    """
    for rules in rule_sets:
        vocabulary = rules.vocabulary
        for rule in rules.rules:
            for name in sorted(names_in(rule.when) & vocabulary.variables.keys()):
                column = "attributes" if name in vocabulary.attributes else name
                if column not in history.columns and not name.startswith(LIST_PREFIX):
                    raise UsageError(
                        f"history has no column {column!r}, which rule {rule.id!r} needs: an older version wrote it; "
                        "run it again from the events, or leave the rule out"
                    )
    return Judge(rule_sets, columns_needed(rule_sets, history.columns), most_examples)


def _run(history: History, judge: Judge, workers: int | None, progress: Progress | None) -> Tally:
    condition = " OR ".join(dict.fromkeys(f"({matches_some(history, rules)})" for rules in judge.rule_sets))
    total = Tally(judge.most_examples)
    for tally in _tallies(history, judge, condition, workers or len(os.sched_getaffinity(0)), progress or _silent):
        total.merge(tally)
    return total


def _tallies(history: History, judge: Judge, condition: str, workers: int, progress: Progress) -> Iterator[Tally]:
    batches = history.batches(judge.columns, condition)
    alone = 0
    for batch in batches:
        yield judge(batch.rows)
        progress(batch.done)
        alone += batch.rows.num_rows
        if alone >= ALONE_ROWS and workers > 1:
            break
    # Spawned, as DuckDB's threads don't survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start, initargs=(judge,)) as pool:
        waiting: set[Future[Tally]] = set()
        for batch in batches:
            waiting.add(pool.submit(_judge, batch.rows))
            progress(batch.done)
            if len(waiting) > 2 * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in waiting)


def _silent(done: float) -> None:
    """No progress is shown."""


_judge_here: list[Judge] = []


def _start(judge: Judge) -> None:
    _judge_here[:] = [judge]


def _judge(rows: Any) -> Tally:
    return _judge_here[0](rows)
