"""A new entity is a file given to `fraud-pipeline run`: its features end in the results, and rules can name them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fraud_pipeline.cli import main
from fraud_pipeline.tables.duckdb import connect

MINE = """
attributes:
  driver_id: {type: string, help: The driver of a ride.}
entities:
  promo_code:
    key: attributes.promo_code
    features:
      distinct_user_count: [1h]
  driver:
    key: attributes.driver_id
    features:
      payment_count: [10m]
      payment_amount_minor: [1d]
"""

RULES = """
rules:
  - id: shared_promo_code
    description: A promotion code that many users enter within an hour is passed around.
    severity: high
    weight: 0.9
    reason_code: SHARED_PROMO_CODE
    when: promo_code_distinct_user_count_1h >= 3
"""


@pytest.fixture
def events(tmp_path: Path) -> Path:
    lines = []
    for n in range(4):
        claimed = {"event_type": "login", "outcome": "success", "attributes": {"promo_code": "WELCOME"}}
        ride = {"event_type": "payment", "amount_minor": 700, "currency": "EUR", "attributes": {"driver_id": "d1"}}
        for kind, event in (("login", claimed), ("ride", ride)):
            common = {"event_id": f"{kind}{n}", "user_id": f"u{n}", "event_time": f"2026-03-01T12:0{n}:00Z"}
            lines.append(json.dumps(common | event))
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("mode", ["backfill", "replay"])
def test_features_of_a_declared_entity_are_in_the_results_and_in_rules(
    events: Path, tmp_path: Path, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    (tmp_path / "rules.yaml").write_text(RULES)
    results = tmp_path / "results.duckdb"
    command = ["run", "--input", str(events), "--output", str(results), "--mode", mode]
    command += ["--entities", str(tmp_path / "mine.yaml"), "--rules", str(tmp_path / "rules.yaml")]
    assert main(command) == 0
    with connect(results, read_only=True) as connection:
        rows = connection.execute(
            "SELECT event_id, promo_code_distinct_user_count_1h, driver_payment_count_10m, "
            "driver_payment_amount_minor_1d, reason_codes FROM latest_scores ORDER BY event_id"
        ).fetchall()
    assert rows == [
        ("login0", 1, None, None, []),
        ("login1", 2, None, None, []),
        ("login2", 3, None, None, ["SHARED_PROMO_CODE"]),
        ("login3", 4, None, None, ["SHARED_PROMO_CODE"]),
        ("ride0", None, 1, 700, []),
        ("ride1", None, 2, 1_400, []),
        ("ride2", None, 3, 2_100, []),
        ("ride3", None, 4, 2_800, []),
    ]


def test_a_wrong_file_of_entities_is_one_line_and_exit_code_2(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.replace("payment_count", "payment_cuont"))
    command = ["run", "--input", str(events), "--output", str(tmp_path / "results.duckdb")]
    assert main([*command, "--entities", str(tmp_path / "mine.yaml")]) == 2
    said = capsys.readouterr().err.strip()
    assert "mine.yaml:12: entity 'driver': unknown feature 'payment_cuont'; did you mean 'payment_count'?" in said
    assert "\n" not in said


def test_tables_create_adds_the_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    results = tmp_path / "results.duckdb"
    assert main(["tables", "create", "--duckdb", str(results)]) == 0
    capsys.readouterr()
    entities = ["--entities", str(tmp_path / "mine.yaml")]
    assert main(["tables", "create", "--duckdb", str(results), *entities]) == 0
    assert "driver_payment_count_10m" in capsys.readouterr().out
    assert main(["tables", "create", "--duckdb", str(results)]) == 0, "they stay where they aren't declared"
    assert "everything is as declared" in capsys.readouterr().out
