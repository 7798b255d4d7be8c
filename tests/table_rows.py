"""Rows of the scores and labels tables, and results files of them, for tests of what reads these."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fraud_pipeline.tables.duckdb import load
from fraud_pipeline.tables.rows import timestamp
from fraud_pipeline.tables.schema import TABLES

NOON_MS = 1_767_268_800_000
"""2026-01-01T12:00:00Z."""
DAY_MS = 86_400_000


def scored(event_id: str, user_id: str = "u1", at_ms: int = NOON_MS, version: int = 1, **values: Any) -> dict[str, Any]:
    """A row of the scores table: a payment of 20.00 EUR unless other values are given."""
    time = timestamp(at_ms)
    row: dict[str, Any] = {column.name: None for column in TABLES["scores"].columns}
    row |= {
        "event_id": event_id,
        "user_id": user_id,
        "event_type": "payment",
        "event_time": time,
        "received_time": time,
        "scored_time": time,
        "lag_seconds": 0.0,
        "session_id": "s",
        "session_start": time,
        "version": version,
        "trigger": "EVENT",
        "approximate": False,
        "score": 0.0,
        "action": "allow",
        "rules_version": "none",
        "amount_minor": 2_000,
        "currency": "EUR",
    }
    row |= {column.name: [] for column in TABLES["scores"].columns if column.mode == "REPEATED"}
    assert values.keys() <= row.keys()
    return {**row, **values}


def label(event_id: str, is_fraud: bool, user_id: str = "u1", at_ms: int = NOON_MS + DAY_MS) -> dict[str, Any]:
    """A row of the labels table."""
    time = timestamp(at_ms)
    return {
        "event_id": f"label-{event_id}-{at_ms}",
        "user_id": user_id,
        "event_time": time,
        "received_time": time,
        "message_source": "test",
        "target_event_id": event_id,
        "target_event_time": timestamp(NOON_MS),
        "is_fraud": is_fraud,
        "source": "analyst",
    }


def results(path: Path, scores: Iterable[dict[str, Any]], labels: Iterable[dict[str, Any]] = ()) -> str:
    """A results file of these rows."""
    staged = {"scores": [path.with_suffix(".scores.jsonl")], "labels": [path.with_suffix(".labels.jsonl")]}
    for table, rows in (("scores", scores), ("labels", labels)):
        staged[table][0].write_text("".join(json.dumps(row) + "\n" for row in rows))
    load(path, staged)
    return str(path)
