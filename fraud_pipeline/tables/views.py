"""The views: one SQL file each, BigQuery's dialect, beside this module. The comment on top is the description."""

from __future__ import annotations

from importlib.resources import files

import msgspec

_NAMES = (
    "latest_scores",
    "current_sessions",
    "session_rollups_final",
    "current_alerts",
    "alerts_last_day",
    "current_labels",
    "dead_letter_summary",
    "ledger",
    "first_answers",
    "decision_changes",
    "rule_performance_daily",
    "fraud_losses",
    "alerts_by_entity",
    "shared_devices",
    "linked_users",
)
"""In this order, as a view can read one that comes before it."""


class View(msgspec.Struct, frozen=True):
    """A view. Its SQL names tables and views without project or dataset."""

    name: str
    description: str
    sql: str


def _view(name: str) -> View:
    sql = files("fraud_pipeline.tables").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return View(name, description(sql), sql)


def description(sql: str) -> str:
    """The comment that a SQL file begins with, as one line."""
    lines: list[str] = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line[2:].strip())
    return " ".join(lines)


VIEWS: dict[str, View] = {name: _view(name) for name in _NAMES}
"""All views by name."""
