"""Rate of `fraud-pipeline rules backtest` on a large history, by the command itself.

A simulated day of traffic is scored by the job, and its tables are replicated with other ids, days and values until
there are enough rows. So a larger share of them is suspicious than in most real traffic.

Run: python -m bench.backtest [--rows 1000000] [--rules FILE] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from bench.rules import _many
from fraud_pipeline.backtest.history import open_history
from fraud_pipeline.backtest.run import backtest
from fraud_pipeline.rules import read_rules
from fraud_pipeline.tables.duckdb import open_results
from fraud_pipeline.tables.schema import TABLES, Column
from transforms.rule_file import load_rules
from transforms.rules import RuleSet

USERS, HISTORY_DAYS, SEED = 400, 12, 21
COPIES_AT_A_TIME = 30
OTHER_CONDITIONS = {
    "one rule, a regular expression over every event": "user_agent.matches('(?i)bot')",
    "one rule of which SQL can say nothing, so that it is asked about every event": "event_time_ms % 7 == 8",
}
ONE_RULE = """
rules:
  - id: one
    description: One.
    reason_code: ONE
    severity: low
    weight: 0.5
    when: {condition}
"""


def main() -> None:
    """Prints the rate, and what ten million rows take at that rate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rules", default=None)
    parser.add_argument("--keep", type=Path, default=None, help="directory whose files are made once and kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = args.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        results = directory / "results.duckdb"
        if not results.exists():
            _score(directory, results)
        history = directory / f"history-{args.rows}.duckdb"
        if not history.exists():
            _replicate(results, history, args.rows)
        _measure(history, args.rules)


def _score(directory: Path, results: Path) -> None:
    events = directory / "events.jsonl"
    _command("simulate", "--users", USERS, "--days", 3, "--history-days", HISTORY_DAYS, "--seed", SEED,
             "--label-events", "--output", events, "--labels", directory / "truth.jsonl")  # fmt: skip
    _command("run", "--input", events, "--output", results)


def _replicate(results: Path, history: Path, rows: int) -> None:
    """Rows of the results again and again, under other ids, some days later, their numbers moved by up to a tenth."""
    with open_results(history) as connection:
        connection.execute(f"ATTACH '{results}' AS once (READ_ONLY)")
        found = connection.execute("SELECT COUNT(*) FROM once.scores").fetchone()
        assert found is not None
        copies = -(-rows // found[0])
        connection.execute("SELECT setseed(0.5)")
        for first in range(0, copies, COPIES_AT_A_TIME):
            last = min(first + COPIES_AT_A_TIME, copies)
            for table in ("scores", "labels"):
                columns = ", ".join(f'{_varied(column)} AS "{column.name}"' for column in TABLES[table].columns)
                connection.execute(
                    f"INSERT INTO {table} BY NAME "
                    f"SELECT {columns} FROM once.{table}, range({first}, {last}) AS copies(copy)"
                )
            connection.execute("CHECKPOINT")


def _varied(column: Column) -> str:
    name = f'"{column.name}"'
    if column.name in ("event_id", "user_id", "target_event_id", "device_id", "card_id"):
        return f"{name} || '-' || copy"
    if column.type == "TIMESTAMP":
        return f"{name} + to_days(CAST(copy % 28 AS INTEGER))"
    if column.mode == "REPEATED" or column.name in ("score", "latitude", "longitude", "version"):
        return name
    if column.type == "FLOAT64":
        return f"{name} * (0.9 + 0.2 * random())"
    if column.type == "INT64":
        return f"CASE WHEN {name} > 9 THEN CAST({name} * (0.9 + 0.2 * random()) AS BIGINT) ELSE {name} END"
    return name


def _measure(history: Path, rules: str | None) -> None:
    with duckdb.connect(str(history), read_only=True) as connection:
        counted = connection.execute("SELECT COUNT(*) FROM scores").fetchone()
        assert counted is not None
        rows = counted[0]
    started = time.perf_counter()
    chosen = ["--rules", rules] if rules else []
    found: dict[str, Any] = json.loads(_command("rules", "backtest", *chosen, "--history", history, "--json"))
    seconds = time.perf_counter() - started
    asked = found["asked_rows"]
    print(
        f"{rows:,} rows of {history.stat().st_size / 1e9:.2f} GB, {len(found['rules'])} rules, {os.cpu_count()} cores"
    )
    print(f"rules backtest: {seconds:.1f} s, {rows / seconds:,.0f} rows/s; "
          f"the rules were asked about {asked:,} rows ({100 * asked / rows:.2f}%)")  # fmt: skip
    if rows < 10_000_000:
        print(f"10,000,000 rows at that rate, which is extrapolated: {10_000_000 / rows * seconds / 60:.1f} minutes")
    if rows < 10_000_000:
        _measure_rules(history, "300 rules, the shipped ones with other thresholds", _many(read_rules()))
        for name, condition in OTHER_CONDITIONS.items():
            _measure_rules(history, name, load_rules(ONE_RULE.format(condition=condition)))


def _measure_rules(history: Path, name: str, rules: RuleSet) -> None:
    started = time.perf_counter()
    with open_history(str(history)) as opened:
        asked = backtest(opened, rules).row_count
        rows = opened.row_count
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:.1f} s, {rows / seconds:,.0f} rows/s; asked about {100 * asked / rows:.2f}%")


def _command(*arguments: Any) -> bytes:
    command = [sys.executable, "-m", "fraud_pipeline", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()
