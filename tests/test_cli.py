"""The command line: a mistake is one line on stderr and exit code 2, and help teaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_pipeline.cli import build_parser, main
from fraud_pipeline.config import PipelineConfig


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--input", "missing.jsonl", "--output", "r.duckdb"], "'missing.jsonl' matches no file"),
        (["run", "--inptu", "x", "--input", "{file}", "--output", "r.duckdb"], "did you mean --input?"),
        (["run", "--input", "{file}", "--output", "r.duckdb", "--runer=x"], "did you mean --runner?"),
        (["run", "--input", "{file}", "--output", "r.csv"], "would be one file for several tables"),
        (["run", "--input", "{file}", "--output", "r.duckdb", "--gap-seconds", "0"], "gap_seconds is 0.0"),
        (["run", "--input", "{file}", "--output", "r.duckdb", "--gap-seconds", "nan"], "gap_seconds is nan"),
        (["run", "--input", "pubsub:nowhere", "--output", "r.duckdb"], "'nowhere' is no subscription"),
        (["run", "--input", "pubsub:projects/p/subscriptions/s", "--output", "r.duckdb", "--mode", "replay"], "is for"),
        (["run", "--input", "{file}", "--output", "r.duckdb", "--rules", "none.yaml"], "can't be read"),
        (["run", "--input", "{file}", "--output", "r.duckdb", "--runner", "NoRunner"], "NoRunner"),
        (["query", "SELEC 1", "--database", "none.duckdb"], "none.duckdb"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.jsonl").write_bytes(b"")
    try:
        code = main([a.replace("{file}", "events.jsonl") for a in arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    error = capfd.readouterr().err.strip()
    assert says in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.glob("r.*"))


def test_every_command_has_help_for_each_of_its_arguments() -> None:
    (commands,) = (a for a in build_parser()._actions if a.choices and a.dest == "command")
    assert set(commands.choices) >= {"run", "simulate", "demo", "demo-emulators", "query", "replay", "rules", "tables"}
    for name, parser in commands.choices.items():
        assert parser.description, name
        assert all(action.help or action.dest.endswith("command") or action.choices for action in parser._actions), name


@pytest.mark.parametrize("setting", ["gap_seconds", "inactivity_seconds", "retention_seconds"])
def test_a_configuration_out_of_range_says_the_range(setting: str) -> None:
    with pytest.raises(ValueError, match=f"{setting} is -1: give a number of seconds above 0"):
        PipelineConfig(**{setting: -1})


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(AttributeError):
        PipelineConfig().gap_seconds = 1  # type: ignore[misc]
