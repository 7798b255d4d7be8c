"""`fraud-pipeline rules explain`, `test` and `list`."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from scored import HOUR, MINUTE, NOON_MS, login, payment, record, rule

from fraud_pipeline.cli import main
from fraud_pipeline.rules import read_rules
from fraud_pipeline.tables.rows import score_row
from transforms.explain import explain
from transforms.rule_file import load_rules
from transforms.scoring import score

STORY = {"failures_in_a_row": 5, "login_failure_count_10m": 7}


def explained(when: str, values: dict[str, Any]) -> tuple[bool, int, list[tuple[str, str, dict[str, Any]]]]:
    (found,) = explain(load_rules("rules:\n" + rule("one", when)), values)
    leaves = [(p.text, p.verdict, dict(p.seen)) for p in found.parts if p.kind == "leaf"]
    return found.matched, found.missing, leaves


# ------------------------------------------------------------------------------ what is in the way


@pytest.mark.parametrize(
    ("when", "missing"),
    [
        ("is_new_ip", 0),
        ("is_new_device", 1),
        ("is_new_device && travel_km > 5.0", 2),
        ("is_new_ip && travel_km > 5.0", 1),
        ("is_new_device || is_new_country && travel_km > 5.0", 1),
        ("!is_new_ip", 1),
        ("!(is_new_ip && has_country)", 1),
        ("!(is_new_ip || has_country)", 2),
        ("!(is_new_device || has_country)", 1),
        ("is_new_ip ? is_new_device : has_country", 1),
        ("is_new_device ? is_new_ip : is_new_country", 1),
        ("(is_new_ip || travel_km > 5.0) && (is_new_device || is_new_country)", 1),
        ("country.startsWith('F') && amount_minor / payment_count_1h > 1", 2),
    ],
)
def test_how_many_comparisons_are_in_the_way(when: str, missing: int) -> None:
    values = {
        "event_type": "payment", "country": "DE", "amount_minor": 5, "payment_count_1h": 0,
        "is_new_ip": True, "is_new_device": False, "is_new_country": False,
    }  # fmt: skip
    matched, found, _ = explained(when, values)
    assert (matched, found) == (missing == 0, missing)


def test_each_comparison_comes_with_what_was_seen() -> None:
    when = "event_type == 'payment' && !has_country && amount_minor / payment_count_1h > 1 && travel_km > 5.0"
    values = {"event_type": "payment", "amount_minor": 5, "payment_count_1h": 0}
    assert explained(when, values)[2] == [
        ("event_type == 'payment'", "yes", {"event_type": "payment"}),
        ("has_country", "no", {"country": None}),
        ("amount_minor / payment_count_1h > 1", "error", {"amount_minor": 5, "payment_count_1h": 0}),
        ("travel_km > 5.0", "unknown", {"travel_km": None}),
    ]


def test_a_record_and_its_row_are_explained_alike() -> None:
    rules = read_rules()
    found = record(payment(HOUR, 5_000, attributes={"trip_km": 3.5}), is_new_payee=True, **STORY)
    row = json.loads(json.dumps(score_row(score(found, rules), NOON_MS)))
    assert [(e.rule.id, e.missing, e.parts) for e in explain(rules, found)] == [
        (e.rule.id, e.missing, e.parts) for e in explain(rules, row)
    ]


# ------------------------------------------------------------------------------ the command


@pytest.fixture
def files(tmp_path: Path) -> Path:
    text = "rules:\n"
    text += rule("burst", "event_type == 'login' && failures_in_a_row >= 5", 0.6)
    text += rule("nearly", "event_type == 'login' && failures_in_a_row >= 5 && login_failure_count_10m >= 9", 0.6)
    text += rule("far", "event_type == 'login' && is_new_ip && is_new_device && travel_km > 5.0", 0.6)
    text += rule("other_type", "event_type == 'payment' && failures_in_a_row >= 5", 0.6)
    text += rule("trial", "failures_in_a_row >= 5", 0.9) + "    mode: shadow\n    tags: [guessing]\n"
    text += rule("over", "failures_in_a_row >= 5", 0.9) + "    action: block\n    valid_to: 2026-01-01T12:00:00Z\n"
    (tmp_path / "rules.yaml").write_text(text, "utf-8")
    (tmp_path / "lists.yaml").write_text(
        "lists:\n  - {name: nets, kind: watch, field: ip, entries: [192.0.2.0/24]}\n", "utf-8"
    )
    rules = read_rules(str(tmp_path / "rules.yaml"))
    first = record(login(MINUTE, "failure", event_id="e1"), version=1, failures_in_a_row=1)
    second = record(login(MINUTE, "failure", event_id="e1"), version=2, trigger="LATE", **STORY)
    other = record(login(MINUTE, "failure", event_id="e2"), version=3)
    same_id = record(login(MINUTE, "failure", event_id="e2", user_id="u2"), version=1)
    rows = [score_row(score(r, rules), NOON_MS) for r in (second, first, other, same_id)]
    (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tmp_path


def explain_command(files: Path, *arguments: str) -> list[str]:
    return ["rules", "explain", *arguments, "--rules", str(files / "rules.yaml")]


def test_an_event_of_history_is_explained_by_its_latest_version(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = explain_command(files, "e1", "--history", str(files / "scores.jsonl"))
    assert main([*command, "--lists", str(files / "lists.yaml")]) == 0
    shown = capsys.readouterr().out
    version = read_rules(str(files / "rules.yaml")).version
    assert shown.startswith(f"login e1 of user u1: review, score 0.8 (rules {version}, lists ")
    assert f"recorded: review, score 0.6, burst (rules {version})" in shown
    assert "on list nets: ip '192.0.2.1', demands review" in shown
    matched, _, nearly = shown.partition("nearly, one comparison short")
    assert "burst  high  0.6  BURST" in matched
    assert "trial  high  0.9  TRIAL (on trial)" in matched
    assert "over  high  0.9  demands block  OVER (not valid at the time of the event)" in matched
    assert "nearly  high" in nearly
    assert "NO      login_failure_count_10m >= 9   [login_failure_count_10m is 7]" in nearly
    assert "far" not in shown
    assert "other_type" not in shown
    assert main([*command, "--all"]) == 0
    everything = capsys.readouterr().out
    assert "far" in everything
    assert "unknown travel_km > 5.0   [travel_km is unknown]" in everything


def test_an_event_on_standard_input_is_explained(
    files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"event_type": "login", "failures_in_a_row": 5, "event_time": "2026-01-01T11:59:59Z"}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(event)))
    assert main(explain_command(files)) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("login: block, score 0.96 ")
    assert "recorded" not in shown


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["e9", "--history", "SCORES"], "", "has no event 'e9'"),
        (["e2", "--history", "SCORES"], "", "2 events 'e2', of users u1, u2; choose with --user"),
        (["e2"], "", "an event's id and --history go together"),
        (["--history", "SCORES"], "", "an event's id and --history go together"),
        (["e1", "--history", "missing.duckdb"], "", "is not there"),
        ([], "", "standard input isn't JSON"),
        ([], "[5]", "give one JSON object"),
        ([], '{"failures_in_row": 5}', "unknown variable 'failures_in_row'; did you mean 'failures_in_a_row'?"),
        ([], '{"event_time": "noon"}', "the event can't be used"),
        ([], '{"attributes": "x"}', "attributes 'x' aren't JSON"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(
    arguments: list[str], stdin: str, said: str, files: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    arguments = [str(files / "scores.jsonl") if a == "SCORES" else a for a in arguments]
    assert main(explain_command(files, *arguments)) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_a_user_chooses_among_events_of_one_id(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = explain_command(files, "e2", "--history", str(files / "scores.jsonl"), "--user", "u2")
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("login e2 of user u2: allow")


def test_every_rule_that_ships_has_tests_and_they_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "test"]) == 0
    assert re.fullmatch(r"[1-9]\d* passed, 0 failed\n", capsys.readouterr().out)


def test_tests_of_a_file_are_all_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.yaml"
    good = rule("good", "failures_in_a_row >= 5 && outcome == 'failure'")
    good += "    tests:\n      match:\n        - {outcome: failure, failures_in_a_row: 5}\n"
    good += "      no_match:\n        - {outcome: failure, failures_in_a_row: 4}\n"
    path.write_text("rules:\n" + good + rule("untested", "is_new_ip"), "utf-8")
    assert main(["rules", "test", str(path)]) == 0
    assert capsys.readouterr().out == "2 passed, 0 failed\nwithout a test: untested\n"
    assert main(["rules", "check", str(path)]) == 0
    assert "2 rules, 2 tests passed" in capsys.readouterr().out

    path.write_text("rules:\n" + good.replace(">= 5", ">= 4").replace("failures_in_a_row: 5", "failures_in_a_row: 3"))
    assert main(["rules", "test", str(path), "--verbose"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED good, match 1: the example must match, but `failures_in_a_row >= 4` is false" in shown
    assert "FAILED good, no_match 1: the example must not match" in shown
    assert "yes     outcome == 'failure'   [outcome is 'failure']" in shown
    assert "0 passed, 2 failed" in shown
    assert main(["rules", "check", str(path)]) == 2
    assert f"{path}:11:11: rule 'good': the example must match" in capsys.readouterr().err


def test_rules_are_listed_with_what_is_special_about_them(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "list", str(files / "rules.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "trial  high  0.9  TRIAL  (on trial, #guessing)" in shown
    assert "over  high  0.9  OVER  (demands block, until 2026-01-01T12:00:00+00:00)" in shown
    assert main(["rules", "list", str(files / "rules.yaml"), "--tag", "guessing"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if "  high  " in line] == ["trial"]


def test_variables_of_other_entities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "entities.yaml"
    path.write_text(
        "attributes:\n  promo_code: {type: string, help: Code.}\n"
        "entities:\n  promo:\n    key: attributes.promo_code\n    help: code\n    features:\n      event_count: [1h]\n"
    )
    assert main(["rules", "variables", "--entities", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "promo_event_count_1h" in shown
    assert "promo_code" in shown
    assert "ip_distinct_user_count_1h" not in shown
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n" + rule("one", "promo_event_count_1h > 5"))
    assert main(["rules", "check", str(rules), "--entities", str(path)]) == 0
    path.write_text("entities: 5")
    assert main(["rules", "check", str(rules), "--entities", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
