"""The demo, end to end: small, on the real runner, with everything that it leaves behind."""

from __future__ import annotations

import shlex
from io import StringIO
from pathlib import Path

import duckdb
import msgspec
import pytest
from rich.console import Console

from fraud_pipeline import cli
from fraud_pipeline.commands.demo import examples
from fraud_pipeline.report import tables
from fraud_pipeline.report.results import read_labels, read_results
from fraud_pipeline.simulate.config import DAY_MS, DEFAULT_START_MS

pytestmark = pytest.mark.xdist_group("demo")  # one run for all of them

USERS, SEED = "12", "17"
"""Few, and yet some are online in the outage."""


class Demo(msgspec.Struct):
    """A demo that was run."""

    directory: Path
    out: str
    err: str

    @property
    def database(self) -> Path:
        return self.directory / "results.duckdb"

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            return connection.execute(sql).fetchall()


def run(directory: Path, capsys: pytest.CaptureFixture[str]) -> Demo:
    assert cli.main(["demo", "--users", USERS, "--seed", SEED, "--out", str(directory)]) == 0
    captured = capsys.readouterr()
    return Demo(directory, captured.out, captured.err)


_demos: list[Demo] = []


@pytest.fixture
def demo(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> Demo:
    """One for all tests; `capsys` is a fixture of each."""
    if not _demos:
        _demos.append(run(tmp_path_factory.mktemp("demo") / "new" / "directory", capsys))
    return _demos[0]


def test_it_leaves_traffic_labels_results_and_pictures(demo: Demo) -> None:
    names = {"events.jsonl", "labels.jsonl", "results.duckdb", "timeline.png", "attacks.png"}
    assert {path.name for path in demo.directory.iterdir()} == names
    for picture in ("timeline.png", "attacks.png"):
        assert (demo.directory / picture).read_bytes().startswith(b"\x89PNG")
        assert str(demo.directory / picture) in demo.out


def test_every_message_is_accounted_for(demo: Demo) -> None:
    messages = len((demo.directory / "events.jsonl").read_bytes().splitlines())
    assert demo.rows("SELECT SUM(messages_in), SUM(ABS(balance)) FROM ledger") == [(messages, 0)]
    assert f"each of the {messages:,} messages is accounted for" in demo.out


def test_it_ran_as_a_stream(demo: Demo) -> None:
    panes = {row[0] for row in demo.rows("SELECT DISTINCT pane FROM session_rollups")}
    assert {"EARLY", "ON_TIME"} <= panes
    triggers = {row[0] for row in demo.rows("SELECT DISTINCT trigger FROM sessions")}
    assert {"ON_TIME", "INACTIVITY"} <= triggers


def test_provisional_sessions_were_finalized_in_the_end(demo: Demo) -> None:
    assert demo.rows("SELECT COUNT(*) FROM current_sessions WHERE provisional") == [(0,)]


def test_sessions_that_ended_in_the_outage_were_finalized_by_inactivity_first(demo: Demo) -> None:
    noon_ms = DEFAULT_START_MS + DAY_MS // 2
    triggers = demo.rows(
        "SELECT LIST(trigger ORDER BY version) FROM sessions WHERE "
        f"epoch_ms(session_end) BETWEEN {noon_ms + 5 * 60_000} AND {noon_ms + 15 * 60_000} GROUP BY session_id"
    )
    assert triggers
    assert {tuple(row[0]) for row in triggers} == {("INACTIVITY", "ON_TIME")}  # type: ignore[arg-type]


def test_it_shows_the_report_of_what_it_leaves(demo: Demo) -> None:
    results = read_results(demo.database, read_labels(demo.directory / "labels.jsonl"))
    assert results.detection is not None
    assert len(results.detection.attacks) == 14
    assert any(attack.caught for attack in results.detection.attacks)
    out = StringIO()
    console = Console(file=out, width=tables.WIDTH, highlight=False)
    for part in tables.report(results):
        console.print(part)
    assert out.getvalue() in demo.out


def test_what_it_says_to_ask_next_works(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [line.strip() for line in demo.out.splitlines() if " query " in line]
    assert len(commands) == len(examples(read_results(demo.database))) == 3
    for command in commands:
        program, *arguments = shlex.split(command)
        assert Path(program).name == "fraud-pipeline"
        assert cli.main(arguments) == 0, command
        assert "row" in capsys.readouterr().out
    assert "(no row" not in demo.out


def test_it_is_quiet_about_what_is_normal(demo: Demo) -> None:
    assert "WARNING" not in demo.err
    assert "Traceback" not in demo.err
    assert demo.err.splitlines()[-1].startswith("done in ")


def test_the_same_seed_shows_the_same(demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = run(tmp_path, capsys)
    assert again.out.replace(str(tmp_path), "DIR") == demo.out.replace(str(demo.directory), "DIR")
    columns = "* EXCLUDE (scored_time, lag_seconds)"
    query = f"SELECT {columns} FROM scores ORDER BY user_id, version, event_id"
    assert again.rows(query) == demo.rows(query)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "0"], "the number of users is 0; give 1 to"),
        (["--users", "many"], "invalid int value: 'many'"),
        (["--seed", "-1"], "the seed is -1; give an integer"),
        (["--out", "FILE"], "can't be made: File exists"),
        (["--out", "FILE/below"], "can't be made: Not a directory"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    arguments = [argument.replace("FILE", str(tmp_path / "file")) for argument in arguments]
    try:
        code = cli.main(["demo", *arguments])
    except SystemExit as stopped:
        code = stopped.code  # type: ignore[assignment]
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
