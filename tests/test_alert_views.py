"""Alerts about cards, devices, addresses and networks in the views that analysts ask."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from suspicions import Player, suspicion

from fraud_pipeline.tables.duckdb import load
from fraud_pipeline.tables.query import run_query
from fraud_pipeline.tables.rows import alert_row, score_row
from transforms.cases import CaseConfig
from transforms.records import Score

QUERIES = Path(__file__).parents[1] / "docs" / "queries"


def answers(path: Path, scores: Sequence[Score], config: CaseConfig, sql: str) -> list[dict[str, Any]]:
    """What a query says of these scores and the alerts that they lead to."""
    player = Player(config)
    player.play(*scores)
    player.drain()
    rows = {
        "scores": [score_row(score, 0) for score in scores],
        "alerts": [alert_row(alert, 0) for alert in player.told],
    }
    staged = {}
    for table, lines in rows.items():
        staged[table] = [path / f"{table}.jsonl"]
        staged[table][0].write_text("".join(json.dumps(row) + "\n" for row in lines))
    load(path / "results.duckdb", staged)
    found = run_query(path / "results.duckdb", sql)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def spree() -> list[Score]:
    """Forty payments with one card by twenty users, each on a device of their own, from addresses of one network."""
    users = [{"user_id": f"u{i}", "device_id": f"d{i}", "ip": f"192.0.2.{i}", "card_id": "tok"} for i in range(20)]
    return [suspicion(n / 10, f"e{n}", **users[n % 20]) for n in range(40)]


@pytest.mark.parametrize("key_field", ["card_id", "merchant_id"])
def test_an_alert_counts_for_all_that_is_behind_its_events_and_not_only_those_it_shows(
    key_field: str, tmp_path: Path
) -> None:
    scores = [score for score in spree() if score.record.event.event_id != "e7"]
    if key_field == "merchant_id":
        scores = [suspicion(n / 10, f"e{n}", merchant_id="m", ip=f"192.0.2.{n}", card_id="tok") for n in range(40)]
    found = answers(tmp_path, scores, CaseConfig(key_field=key_field), (QUERIES / "alerts_by_entity.sql").read_text())
    counts = {(row["entity"], row["entity_id"]): (row["alert_count"], row["flagged_count"]) for row in found}
    assert counts["card", "tok"] == (1, len(scores))
    assert set(dict(counts.values())) == {1}, "one alert is behind each of them"
    assert len(counts) > 40


def test_other_events_of_the_same_card_are_in_no_alert_of_other_rules_or_times(tmp_path: Path) -> None:
    scores = [
        suspicion(0, "a", "A", card_id="tok", device_id="d1"),
        suspicion(1, "b", "B", card_id="tok", device_id="d2"),
        suspicion(200, "c", "A", card_id="tok", device_id="d3"),
        suspicion(201, "d", "", card_id="tok", device_id="d4"),
    ]
    sql = "SELECT entity_id, alert_count FROM alerts_by_entity WHERE entity IN ('card', 'device') ORDER BY entity_id"
    found = answers(tmp_path, scores, CaseConfig(key_field="card_id"), sql)
    assert {row["entity_id"]: row["alert_count"] for row in found} == {"d1": 1, "d2": 1, "d3": 1, "tok": 3}


@pytest.mark.parametrize(("prefix", "least"), [("192.0.2.", 20), ("2001:db8::", 10)])
def test_an_alert_about_a_network_counts_for_its_addresses(prefix: str, least: int, tmp_path: Path) -> None:
    """For all of an IPv4 network, for those that the alert shows of an IPv6 one."""
    scores = [suspicion(n / 10, f"e{n}", user_id=f"u{n}", ip=f"{prefix}{n % 20}") for n in range(40)]
    sql = "SELECT COUNTIF(alert_count = 1) AS counted, COUNT(*) AS addresses FROM alerts_by_entity WHERE entity = 'ip'"
    (row,) = answers(tmp_path, scores, CaseConfig(key_field="network"), sql)
    assert least <= row["counted"] <= row["addresses"] == 20


def test_an_alert_about_a_card_is_explained_by_its_leading_event(tmp_path: Path) -> None:
    sql = (QUERIES / "alerts_explained.sql").read_text()
    (row,) = answers(tmp_path, spree(), CaseConfig(key_field="card_id"), sql)
    assert (row["user_id"], row["event_count"], row["change"]) == ("u0", 40, "CLOSED")
    assert row["summary"].startswith("Review 40 events of 20 users on one card from ")
