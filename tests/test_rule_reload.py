"""Rules and lists that change while a job runs: swapped whole, refused whole, and the stream goes on."""

# mypy: allow-untyped-calls

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import duckdb
import msgspec
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import TimestampedValue
from messages import EVENT_TIME_MS, LOGIN
from scored import login, record, rule

from fraud_pipeline import graph, local_runner, local_timers
from fraud_pipeline.cli import main
from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.rules.files import RuleFiles
from fraud_pipeline.rules.running import MAX_TRAVELLING_ENTRIES, rules_and_source
from fraud_pipeline.tables.rows import dead_letter_row
from transforms.events import Message, Reason, dead_letter_id
from transforms.message_lines import wrap_line
from transforms.records import FeatureRecord, Score
from transforms.reload import CLAIM_SECONDS, Failure, Loader, loader_of, stop_loader
from transforms.rule_file import RuleError, load_rules
from transforms.rules import RuleSet
from transforms.score_events import ScoreFeatures
from transforms.scoring import score

FIRST = "rules:\n" + rule("first", "event_type == 'login'", 0.4)
SECOND = "rules:\n" + rule("second", "event_type == 'login'", 0.6)
THIRD = "rules:\n" + rule("third", "event_type == 'login'", 0.6)
BROKEN = SECOND.replace("event_type ==", "event_typ ==")
FAILING_TEST = SECOND + "    tests:\n      match:\n        - {event_type: payment}\n"
LISTS = "lists:\n  - {name: thieves, kind: deny, field: user_id, file: thieves.csv}\n"


def write(path: Path, text: str) -> None:
    """Replaces a file whole, as whoever publishes rules should."""
    beside = path.with_suffix(".new")
    beside.write_text(text, "utf-8")
    beside.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    write(path, FIRST)
    return path


@pytest.fixture
def make(path: Path) -> Iterator[Callable[..., Loader]]:
    """Makes loaders that refresh only when told to."""
    made: list[Loader] = []

    def loader(fallback: RuleSet | None = None, lists: Path | None = None) -> Loader:
        files = RuleFiles(str(path), None if lists is None else str(lists), refresh_seconds=3_600)
        made.append(Loader(files, fallback))
        return made[-1]

    yield loader
    for each in made:
        each.stop()


def ids(rules: RuleSet) -> list[str]:
    return [each.id for each in rules.rules]


# ------------------------------------------------------------------------------ the loader


def test_a_change_is_swapped_whole(path: Path, make: Callable[..., Loader]) -> None:
    loader = make()
    before = loader.rules
    loader.refresh()
    assert loader.rules is before, "nothing changed"
    write(path, SECOND)
    loader.refresh()
    assert ids(loader.rules) == ["second"]
    assert loader.rules.version != before.version
    assert ids(before) == ["first"], "who holds the old rules keeps them whole"
    assert loader.take_counts() == {"reload.swapped": 1}
    assert not loader.has_news


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (BROKEN, Reason.RULES_REJECTED, "unknown variable 'event_typ'; did you mean 'event_type'?"),
        (FAILING_TEST, Reason.RULES_REJECTED, "the example must match, but `event_type == 'login'` is false"),
        ("rules: [", Reason.RULES_REJECTED, "not YAML"),
        ("", Reason.RULES_REJECTED, "it is empty"),
        (None, Reason.RULES_UNREADABLE, "can't be read"),
    ],
)
def test_a_broken_change_keeps_what_was_there_and_says_so_once(
    content: str | None, reason: str, said: str, path: Path, make: Callable[..., Loader],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    loader = make()
    kept = loader.rules
    if content is None:
        path.unlink()
    else:
        write(path, content)
    with caplog.at_level(logging.ERROR):
        loader.refresh()
        loader.refresh()
    assert loader.rules is kept
    assert len(caplog.records) == 1
    assert kept.version in caplog.text
    failure = loader.claim()
    assert failure is not None
    letter = failure.dead_letter()
    assert (letter.reason, letter.source) == (reason, str(path))
    assert said in letter.message
    control = msgspec.json.decode(letter.payload)
    assert control["kept_rules_version"] == kept.version
    assert bool(control["content_digest"]) is (content is not None)
    loader.delivered(failure)
    loader.refresh()
    assert loader.claim() is None, "once for the same content"
    write(path, SECOND)
    loader.refresh()
    assert ids(loader.rules) == ["second"], "the next right version is taken"
    if content is not None:
        write(path, content)
        loader.refresh()
        again = loader.claim()
        assert again is not None
        assert again.kept_version == loader.rules.version


def test_a_failure_whose_report_got_lost_comes_again(
    path: Path, make: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make()
    write(path, BROKEN)
    loader.refresh()
    first = loader.claim()
    assert first is not None
    assert loader.claim() is None, "others don't report what one reports"
    assert loader.has_news
    later = time.monotonic() + CLAIM_SECONDS + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    again = loader.claim()
    assert again is not None
    assert dead_letter_id(again.dead_letter()) == dead_letter_id(first.dead_letter())
    loader.delivered(again)
    assert not loader.has_news or loader.take_counts()


def test_a_worker_that_starts_while_the_file_is_broken_uses_what_travelled(
    path: Path, make: Callable[..., Loader]
) -> None:
    travelled = make().rules
    write(path, BROKEN)
    loader = make(travelled)
    assert loader.rules is travelled
    assert loader.claim() is not None
    with pytest.raises(RuleError, match="unknown variable"):
        make()


def test_a_list_that_changes_is_taken_with_its_entries(tmp_path: Path, path: Path, make: Callable[..., Loader]) -> None:
    lists, entries = tmp_path / "lists.yaml", tmp_path / "thieves.csv"
    write(entries, "value\nu7\n")
    write(lists, LISTS)
    loader = make(lists=lists)
    found = record(login())
    assert score(found, loader.rules).action == "allow"
    rules_version, lists_version = loader.rules.version, loader.rules.lists.version
    write(entries, "value\nu7\nu1\n")
    loader.refresh()
    result = score(found, loader.rules)
    assert (result.action, result.rules_version) == ("block", rules_version)
    assert result.lists_version not in ("", lists_version)
    write(entries, "value,expires\nu7,tomorrow\n")
    loader.refresh()
    assert loader.rules.lists.version == result.lists_version
    failure = loader.claim()
    assert failure is not None
    assert "thieves.csv:2:1: list 'thieves'" in failure.message


def test_lists_that_did_not_change_are_not_read_again(tmp_path: Path, path: Path, make: Callable[..., Loader]) -> None:
    lists = tmp_path / "lists.yaml"
    write(tmp_path / "thieves.csv", "value\nu7\n")
    write(lists, LISTS)
    loader = make(lists=lists)
    before = loader.rules.lists
    write(path, SECOND)
    loader.refresh()
    assert ids(loader.rules) == ["second"]
    assert loader.rules.lists is before


def test_the_thread_takes_a_change_by_itself_and_outlives_an_unforeseen_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(RuleFiles, frozen=True):
        def fetch(self) -> Any:
            if path.with_suffix(".odd").exists():
                path.with_suffix(".odd").unlink()
                raise ZeroDivisionError("unforeseen")
            return super().fetch()

    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    loader = Loader(Odd(str(path), refresh_seconds=0.02))
    try:
        path.with_suffix(".odd").touch()
        wait_until(lambda: bool(died))
        write(path, SECOND)
        wait_until(lambda: ids(loader.rules) == ["second"])
    finally:
        loader.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen within 20 seconds"
        time.sleep(0.005)


def test_equal_sources_share_one_loader(path: Path) -> None:
    source = RuleFiles(str(path), refresh_seconds=3_600)
    try:
        assert loader_of(source) is loader_of(pickle.loads(pickle.dumps(source)))
        assert sum(thread.name == "rules-loader" for thread in threading.enumerate()) >= 1
    finally:
        stop_loader(source)


# ------------------------------------------------------------------------------ a stream

PACE_SECONDS = 0.01
STEPS = {60: FIRST, 120: SECOND, 180: BROKEN, 240: THIRD}
EVENTS = 300


class _Pace(beam.DoFn):
    """Lets the stream take its time, and changes the file of rules at some of its events."""

    def __init__(self, path: str) -> None:
        self._path = path

    def process(self, message: Message) -> Iterator[Message]:
        number = int(msgspec.json.decode(message.payload)["event_id"])
        if number in STEPS:
            write(Path(self._path), STEPS[number])
        time.sleep(PACE_SECONDS)
        yield message


SCORES: list[tuple[int, Score]] = []
LETTERS: list[Any] = []


def _keep_score(found: Score) -> None:
    SCORES.append((int(found.record.event.event_id), found))


def _keep_letter(letter: Any) -> None:
    LETTERS.append(letter)


def _message(number: int) -> Message:
    event = {**LOGIN, "event_id": str(number), "user_id": f"u{number % 7}", "event_time": EVENT_TIME_MS + number}
    return Message(msgspec.json.encode(event), EVENT_TIME_MS + number, "test")


def test_rules_change_while_a_stream_runs(path: Path) -> None:
    SCORES.clear()
    LETTERS.clear()
    local_runner.install()
    local_timers.install()
    source = RuleFiles(str(path), refresh_seconds=0.05)
    rules, _ = rules_and_source(str(path), None, None)
    assert rules is not None
    stream = test_stream.TestStream()
    for number in range(EVENTS):
        at = (EVENT_TIME_MS + number) / 1_000
        stream = stream.advance_watermark_to(at).add_elements([TimestampedValue(_message(number), at)])
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    options.view_as(StandardOptions).runner = "BundleBasedDirectRunner"
    try:
        with beam.Pipeline(options=options) as pipeline:
            messages = pipeline | stream.advance_watermark_to_infinity() | beam.ParDo(_Pace(str(path)))
            outputs = graph.build(messages, PipelineConfig(rules=rules, rules_source=source))
            _ = outputs.scores | "Keep scores" >> beam.Map(_keep_score)
            _ = outputs.dead_letters | "Keep letters" >> beam.Map(_keep_letter)
    finally:
        stop_loader(source)

    arrivals = [(number, found) for number, found in SCORES if found.record.trigger == "EVENT"]
    assert sorted(number for number, _ in arrivals) == list(range(EVENTS)), "every event is scored, once"
    fired = {number: found.fired[0].rule_id for number, found in arrivals}
    order = [fired[number] for number in range(EVENTS)]
    assert list(dict.fromkeys(order)) == ["first", "second", "third"], "each takes over from the one before, for good"
    assert order == sorted(order, key=["first", "second", "third"].index)
    assert set(order[180:240]) == {"second"}, "a broken version changes nothing"
    assert all(score(f.record, _rules(STEPS_BY_ID[f.fired[0].rule_id])).rules_version == f.rules_version
               for _, f in arrivals), "a score names the rules that made it"  # fmt: skip
    assert [letter.reason for letter in LETTERS] == [Reason.RULES_REJECTED], "one for one broken version"
    assert "event_typ" in LETTERS[0].message


STEPS_BY_ID = {"first": FIRST, "second": SECOND, "third": THIRD}


def _rules(text: str) -> RuleSet:
    return load_rules(text)


class _Refresh(beam.DoFn):
    """Changes the file at each record, and has the loader look at once."""

    def __init__(self, path: str, contents: list[str], source: RuleFiles) -> None:
        self._path, self._contents, self._source = path, contents, source

    def process(self, found: FeatureRecord) -> Iterator[FeatureRecord]:
        write(Path(self._path), self._contents[found.version])
        loader_of(self._source).refresh()
        yield found


def test_what_happened_is_counted(path: Path) -> None:
    """On the runner that hands each element through all steps before the next."""
    source = RuleFiles(str(path), refresh_seconds=3_600)
    contents = [FIRST, SECOND, BROKEN, BROKEN, THIRD]
    try:
        with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
            records = pipeline | beam.Create([record(login(i), version=i) for i in range(len(contents))])
            scores, letters = records | beam.ParDo(_Refresh(str(path), contents, source)) | ScoreFeatures(None, source)
            fired = scores | beam.Map(lambda s: (s.record.version, s.fired[0].rule_id))
            expected = [(0, "first"), (1, "second"), (2, "second"), (3, "second"), (4, "third")]
            assert_that(fired, equal_to(expected), label="fired")
            assert_that(letters | beam.Map(lambda d: d.reason), equal_to([Reason.RULES_REJECTED]), label="letters")
    finally:
        stop_loader(source)
    found = pipeline.result.metrics().query(MetricsFilter().with_namespace("rules"))["counters"]
    counts = {c.key.metric.name: c.committed for c in found if c.key.metric.name.startswith("reload")}
    assert counts == {"reload.swapped": 2, "reload.rejected": 1}


def test_scoring_does_not_wait_for_a_load_that_hangs(path: Path) -> None:
    """A named pipe in the place of the file: whoever opens it hangs until somebody writes."""
    source = RuleFiles(str(path), refresh_seconds=0.02)
    loader = loader_of(source)
    path.unlink()
    os.mkfifo(path)
    try:
        time.sleep(0.2)
        assert all(score(record(login()), loader.rules).fired for _ in range(100))
        assert loader_of(source) is loader
        path.write_text(SECOND, "utf-8")
        wait_until(lambda: ids(loader.rules) == ["second"])
    finally:
        stop_loader(source)


# ------------------------------------------------------------------------------ the command line


def test_large_lists_do_not_travel(tmp_path: Path, path: Path) -> None:
    lists = tmp_path / "lists.yaml"
    write(lists, LISTS)
    write(tmp_path / "thieves.csv", "value\n" + "".join(f"u{i}\n" for i in range(MAX_TRAVELLING_ENTRIES)))
    rules, source = rules_and_source(str(path), str(lists), None)
    assert rules is not None
    assert source is None
    assert len(pickle.dumps(rules)) < 2_000_000
    write(tmp_path / "thieves.csv", "value\n" + "".join(f"u{i}\n" for i in range(MAX_TRAVELLING_ENTRIES + 1)))
    rules, source = rules_and_source(str(path), str(lists), 30)
    assert rules is None
    assert source is not None
    assert source.refresh_seconds == 30


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rules-refresh-seconds", "5"], "needs --rules or --lists"),
        (["--rules", "RULES", "--rules-refresh-seconds", "0"], "not above 0 and up to 86400"),
        (["--rules", "BROKEN"], "unknown variable 'event_typ'"),
        (["--rules", "MISSING"], "MISSING: can't be read"),
        (["--rules", "odd://rules.yaml"], "can't be read"),
        (["--lists", "RULES"], "unknown key 'rules'; there are lists"),
        (["--lists", "LARGE"], "give --rules-refresh-seconds"),
    ],
)
def test_run_refuses_in_one_line(
    options: list[str], said: str, tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(Path("RULES"), FIRST)
    write(Path("BROKEN"), BROKEN)
    write(Path("LARGE"), LISTS)
    write(Path("thieves.csv"), "value\n" + "".join(f"u{i}\n" for i in range(MAX_TRAVELLING_ENTRIES + 1)))
    write(Path("events.jsonl"), "")
    assert main(["run", "--input", "events.jsonl", "--output", "out", *options]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1


def test_dataflow_reads_rules_again_from_cloud_storage_only(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--input", "pubsub:projects/p/subscriptions/s", "--output", "bigquery:my-project.fraud"]
    command += ["--runner", "DataflowRunner", "--rules", str(path), "--rules-refresh-seconds", "60"]
    assert main(command) == 2
    assert "is local, and workers can't read it again; copy it to gs://" in capsys.readouterr().err


def test_a_run_records_rules_on_trial_and_lists_and_its_ledger_leaves_rejected_rules_out(tmp_path: Path) -> None:
    database, rules, lists = (tmp_path / name for name in ("results.duckdb", "rules.yaml", "lists.yaml"))
    trial = rule("trial", "event_type == 'login'", 0.9) + "    mode: shadow\n"
    write(rules, FIRST + trial)
    write(lists, "lists:\n  - {name: u, kind: deny, field: user_id, entries: [u1]}\n")
    write(tmp_path / "in.jsonl", "".join(f"{wrap_line(_message(i)).decode()}\n" for i in range(14)))
    command = ["run", "--input", str(tmp_path / "in.jsonl"), "--output", str(database)]
    command += ["--rules", str(rules), "--lists", str(lists)]
    assert main(command) == 0
    used = RuleFiles(str(rules), str(lists))
    versions = used.build(used.fetch())
    failure = Failure(Reason.RULES_REJECTED, "rules.yaml", "d", "wrong", "v", "", EVENT_TIME_MS)
    row = dead_letter_row(failure.dead_letter())
    with duckdb.connect(str(database)) as connection:
        found = connection.execute(
            "SELECT user_id, action, fired_rules, shadow_rules, rules_version, lists_version, count(*) FROM scores "
            "GROUP BY ALL ORDER BY user_id"
        ).fetchall()
        before = connection.execute("SELECT * FROM ledger").fetchall()
        text = connection.execute("SELECT message FROM dead_letters").fetchall()
        names = ", ".join(row)
        marks = ", ".join(f"${name}" for name in row)
        connection.execute(f"INSERT INTO dead_letters ({names}) SELECT {marks}", {**row, "payload": b"{}"})
        after = connection.execute("SELECT * FROM ledger").fetchall()
    same = ["trial"], versions.version, versions.lists.version, 2
    assert found == [
        (f"u{i}", *(("block", ["list.u", "first"]) if i == 1 else ("allow", ["first"])), *same) for i in range(7)
    ]
    assert text == []
    assert after == before
    assert before[0][-1] == 0
