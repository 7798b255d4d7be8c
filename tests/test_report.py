"""The report: its figures against hand-made examples, its tables, its pictures, and the command."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import duckdb
import msgspec
import pytest
from rich.console import Console

from bench.detection import evaluate
from fraud_pipeline import cli, job
from fraud_pipeline.config import PipelineConfig, default_rules
from fraud_pipeline.errors import UsageError
from fraud_pipeline.report import tables
from fraud_pipeline.report.measures import DAY_MS, Attack, Decision, by_scenario, count, detection, ratio
from fraud_pipeline.report.plots import write_pictures
from fraud_pipeline.report.results import LedgerDay, Results, Sample, SessionRows, read_labels, read_results
from fraud_pipeline.simulate import AttackLabel, SimulationConfig, simulate
from fraud_pipeline.sinks import sink_for
from transforms.message_lines import timed_line

pytestmark = pytest.mark.xdist_group("report")  # one run for all of them

SIMULATION = SimulationConfig(users=40, seed=3)
DAY = 20_000
NOON_MS = DAY * DAY_MS + DAY_MS // 2


def decision(
    event_id: str, action: str = "allow", first: str | None = "same", at_s: float = 0, received_s: float | None = None
) -> Decision:
    """A decision on an event so many seconds after noon; the answer on arrival was the same unless given."""
    at_ms = NOON_MS + round(at_s * 1000)
    received_ms = at_ms if received_s is None else NOON_MS + round(received_s * 1000)
    return Decision(event_id, at_ms, received_ms, action if first == "same" else first, action)


def label(event_id: str, attack_id: str = "brute_force-0", intensity: float = 0.5) -> AttackLabel:
    return AttackLabel(event_id, attack_id.partition("-")[0], attack_id, intensity)


def attack(events: str, *actions: tuple[str, str], name: str = "brute_force-0") -> Attack:
    """The attack with these labelled events, of which some were scored, in order of arrival: (event, action)."""
    decisions = [decision(event_id, action, at_s=i) for i, (event_id, action) in enumerate(actions)]
    (found,) = detection(decisions, [label(event_id, name) for event_id in events]).attacks
    return found


# ------------------------------------------------------------------------------ figures


def test_an_attack_is_caught_when_one_of_its_events_is_flagged() -> None:
    caught = attack("abcd", ("a", "allow"), ("b", "review"), ("c", "allow"), ("d", "block"))
    assert (caught.events, caught.scored, caught.flagged, caught.caught) == (4, 4, 2, True)
    missed = attack("ab", ("a", "allow"), ("b", "allow"))
    assert (missed.events, missed.flagged, missed.caught, missed.passed_before_alarm) == (2, 0, False, None)


@pytest.mark.parametrize(
    ("actions", "passed", "early"),
    [
        ("r", 0, True),
        ("ra", 0, True),
        ("ar", 1, False),
        ("ara", 1, True),
        ("aar", 2, False),
        ("arrr", 1, True),
        ("aarr", 2, False),
        ("aaaa", None, False),
    ],
)
def test_early_is_before_half_of_the_events(actions: str, passed: int | None, early: bool) -> None:
    events = "abcd"[: len(actions)]
    words = {"a": "allow", "r": "review"}
    found = attack(events, *((e, words[a]) for e, a in zip(events, actions, strict=True)))
    assert (found.passed_before_alarm, found.caught_early) == (passed, early)


def test_the_alarm_is_timed_by_arrival_and_by_the_answer_given_then() -> None:
    decisions = [
        decision("a", "block", first="allow", at_s=0, received_s=0),
        decision("b", "allow", first="allow", at_s=1, received_s=1),
        decision("c", "review", first="review", at_s=2, received_s=2),
        # It happened first and arrived last.
        decision("d", "block", first="block", at_s=-5, received_s=9),
    ]
    (found,) = detection(decisions, [label(e) for e in "abcd"]).attacks
    assert (found.flagged, found.passed_before_alarm, found.caught_early) == (3, 2, False)


def test_caught_only_by_a_correction_is_caught_but_not_early() -> None:
    (found,) = detection([decision("a", "block", first="allow")], [label("a")]).attacks
    assert (found.caught, found.passed_before_alarm, found.caught_early) == (True, None, False)


def test_flagged_on_arrival_and_then_allowed_is_not_caught() -> None:
    (found,) = detection([decision("a", "allow", first="block")], [label("a")]).attacks
    assert (found.caught, found.caught_early) == (False, False)


def test_events_that_were_not_scored_count_as_events_of_their_attack() -> None:
    half_lost = attack("abcd", ("a", "allow"), ("b", "block"))
    assert (half_lost.events, half_lost.scored, half_lost.caught_early) == (4, 2, True)
    lost = detection([decision("a")], [label("a"), label("x", "card_testing-0")]).attacks[1]
    assert (lost.attack_id, lost.events, lost.scored, lost.caught) == ("card_testing-0", 1, 0, False)


def test_false_positives_are_counted_on_the_days_with_attacks() -> None:
    decisions = [
        decision("attacked", "block"),
        decision("attacked, missed", "allow"),
        decision("normal", "allow", at_s=1),
        decision("false alarm", "review", at_s=2),
        decision("an hour later", "allow", at_s=3_600),
        decision("another false alarm", "block", at_s=3),
        decision("the day before", "review", at_s=-86_400),
        decision("the day after", "allow", at_s=86_400),
    ]
    found = detection(decisions, [label("attacked"), label("attacked, missed")])
    assert found.days == (DAY,)
    assert (found.normal_events, found.normal_flagged) == (4, 2)
    assert found.false_positive_rate == 0.5
    assert found.precision == 1 / 3
    assert found.events_by_hour == {DAY * 24 + 12: 3, DAY * 24 + 13: 1}
    assert [(mark.attack_id, mark.action) for mark in found.marks] == [
        ("brute_force-0", "allow"),
        ("brute_force-0", "block"),
        ("", "review"),
        ("", "block"),
    ]


def test_rates_without_anything_to_count_are_unknown() -> None:
    found = detection([decision("a", "allow")], [label("a")])
    assert (found.false_positive_rate, found.precision) == (None, None)
    assert count("none", []).recall is None
    assert (ratio(1, 4), ratio(0, 4), ratio(0, 0)) == (0.25, 0, None)


def test_attacks_are_counted_by_scenario() -> None:
    labels = [label("a", "takeover-0"), label("b", "takeover-1"), label("c", "takeover-1"), label("d", "burst-0")]
    decisions = [decision("a", "review"), decision("b"), decision("c"), decision("d", "block", first="allow")]
    rows = by_scenario(detection(decisions, labels).attacks)
    assert [(r.name, r.attacks, r.caught, r.caught_early, r.events, r.flagged, r.recall) for r in rows] == [
        ("burst", 1, 1, 0, 1, 1, 1.0),
        ("takeover", 2, 1, 1, 3, 1, 0.5),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_decisions_and_labels_does_not_matter(seed: int) -> None:
    labels = [label(str(i), f"takeover-{i % 3}") for i in range(12)]
    decisions = [decision(str(i), "block" if i % 5 == 0 else "allow", at_s=i) for i in range(20)]
    expected = detection(decisions, labels)
    rng = random.Random(seed)
    rng.shuffle(labels)
    rng.shuffle(decisions)
    assert detection(decisions, labels) == expected


# ------------------------------------------------------------------------------ a results file


class Lab(msgspec.Struct):
    """Some simulated traffic that was run."""

    events: Path
    labels: Path
    database: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    directory = tmp_path_factory.mktemp("report")
    made = Lab(directory / "events.jsonl", directory / "labels.jsonl", directory / "results.duckdb")
    with made.events.open("wb") as events, made.labels.open("wb") as labels:
        for arrival in simulate(SIMULATION):
            events.write(timed_line(arrival.payload, arrival.received_ms) + b"\n")
            if arrival.label is not None:
                labels.write(msgspec.json.encode(arrival.label) + b"\n")
    assert job.backfill([str(made.events)], sink_for(str(made.database)), PipelineConfig()) == 0
    return made


@pytest.fixture(scope="module")
def results(lab: Lab) -> Results:
    return read_results(lab.database, read_labels(lab.labels))


def rows(database: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_figures_are_those_of_the_table_of_scores(lab: Lab, results: Results) -> None:
    latest: dict[object, tuple[object, ...]] = {}
    first: dict[object, object] = {}
    for row in rows(
        lab.database,
        "SELECT user_id, event_id, action, event_type, trigger, epoch_ms(event_time) FROM scores ORDER BY version",
    ):
        latest[row[:2]] = row
        if row[4] == "EVENT":
            first.setdefault(row[:2], row[2])
    for found in results.actions:
        mine = [row for row in latest.values() if row[2] == found.action]
        assert (found.events, found.users) == (len(mine), len({row[0] for row in mine}))
        assert found.logins == sum(row[3] == "login" for row in mine)
        assert found.payments == sum(row[3] == "payment" for row in mine)
        assert found.rescored == sum(row[4] != "EVENT" for row in mine)
        assert found.changed == sum(first[row[:2]] != row[2] for row in mine)
    assert sum(found.events for found in results.actions) == len(latest)

    labels = {found.event_id: found for found in read_labels(lab.labels)}
    assert results.detection is not None
    flagged = {row[1] for row in latest.values() if row[2] != "allow"}
    for attacked in results.detection.attacks:
        events = {event_id for event_id, found in labels.items() if found.attack_id == attacked.attack_id}
        assert (attacked.events, attacked.flagged) == (len(events), len(events & flagged))
    assert {one.attack_id for one in results.detection.attacks} == {found.attack_id for found in labels.values()}
    days = {int(row[5]) // DAY_MS for row in latest.values() if row[1] in labels}  # type: ignore[call-overload]
    normal = [
        row
        for row in latest.values()
        if row[1] not in labels and int(row[5]) // DAY_MS in days  # type: ignore[call-overload]
    ]
    assert results.detection.normal_events == len(normal) > 0
    assert results.detection.normal_flagged == sum(row[1] in flagged for row in normal)


def test_the_bench_of_detection_says_the_same_without_beam(results: Results) -> None:
    found = evaluate(SIMULATION, default_rules())
    assert found.detection == results.detection
    assert found.by_rule.total() >= found.detection.normal_flagged


def test_alerts_are_counted_once_for_each_reason(lab: Lab, results: Results) -> None:
    attacked = {found.event_id for found in read_labels(lab.labels)}
    assert results.detection is not None
    alerts = rows(
        lab.database,
        "SELECT event_id, user_id, reason_codes, epoch_ms(event_time) // 86400000 FROM current_alerts",
    )
    on_days = [row for row in alerts if row[3] in results.detection.days]
    for found in results.reasons:
        mine = [row for row in on_days if found.reason in row[2]]  # type: ignore[operator]
        assert (found.alerts, found.users) == (len(mine), len({row[1] for row in mine}))
        assert found.attacks == sum(row[0] in attacked for row in mine)
    assert {found.reason for found in results.reasons} == {reason for row in on_days for reason in row[2]}  # type: ignore[attr-defined]
    without = read_results(lab.database)
    assert without.detection is None
    assert {found.attacks for found in without.reasons} == {None}
    assert max(found.alerts for found in without.reasons) <= len(alerts)


def test_the_ledger_balances(lab: Lab, results: Results) -> None:
    assert sum(day.messages_in for day in results.ledger) == len(lab.events.read_bytes().splitlines())
    assert {day.balance for day in results.ledger} == {0}
    assert [day.day for day in results.ledger] == sorted(day.day for day in results.ledger)


def test_sessions_are_those_of_the_table(lab: Lab, results: Results) -> None:
    assert results.sessions == rows(lab.database, "SELECT COUNT(DISTINCT session_id) FROM current_sessions")[0][0]
    assert (
        sum(found.rows for found in results.session_rows)
        == rows(lab.database, "SELECT COUNT(*) FROM (SELECT DISTINCT session_id, version FROM sessions)")[0][0]
    )


def test_rows_written_twice_are_counted_once(lab: Lab, results: Results, tmp_path: Path) -> None:
    twice = tmp_path / "twice.duckdb"
    twice.write_bytes(lab.database.read_bytes())
    with duckdb.connect(str(twice)) as connection:
        for table in ("scores", "sessions", "session_rollups", "alerts", "dead_letters", "intake"):
            connection.execute(f"INSERT INTO {table} SELECT * FROM {table}")
    assert read_results(twice, read_labels(lab.labels)) == results


# ------------------------------------------------------------------------------ tables


def shown(results: Results, width: int = tables.WIDTH) -> str:
    out = StringIO()
    console = Console(file=out, width=width, highlight=False)
    for part in tables.report(results):
        console.print(part)
    return out.getvalue()


def test_every_table_fits_into_100_columns(results: Results) -> None:
    text = shown(results)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    for heading in ("Ledger", "Sessions", "Scores", "Attacks", "Alerts by reason", "Alerts as people read them"):
        assert re.search(rf"^ *{heading}", text, re.MULTILINE), heading


def test_headings_stay_whole_in_80_columns(results: Results) -> None:
    text = shown(msgspec.structs.replace(results, samples=()), width=80)
    assert max(map(len, text.splitlines())) <= 80
    for heading in ("duplicate", "malformed", "conflict", "balance", "rescored", "flagged"):
        assert re.search(rf"\b{heading}\b", text), heading


def test_the_ledger_has_columns_for_labels_and_refused_rows_where_there_are_some(results: Results) -> None:
    assert not re.search("labels|refused", shown(results))
    made = LedgerDay("2026-01-01", 10, 4, 3, 0, 0, 0, 0, 2, 1)
    text = shown(msgspec.structs.replace(results, ledger=(made,)))
    assert cells(text, "2026-01-01") == ["10", "4", "3", "0", "0", "0", "0", "2", "1"]
    assert "in = scored + labels + duplicate + too late + conflict + malformed + refused + balance" in text


def test_large_figures_fit_too(results: Results) -> None:
    days = [LedgerDay(f"2026-01-{d:02d}", 12_345_678, 12_245_678, *(16_667,) * 6, 0) for d in range(1, 31)]
    text = shown(msgspec.structs.replace(results, ledger=tuple(days)))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100


def cells(text: str, name: str) -> list[str]:
    (line,) = re.findall(rf"^ *{name} {{2,}}(.*)", text, re.MULTILINE)
    return list(line.split())


def test_the_table_of_attacks_says_what_was_measured(results: Results) -> None:
    text = shown(msgspec.structs.replace(results, reasons=(), samples=()))
    found = results.detection
    assert found is not None
    every = count("all", found.attacks)
    for row in by_scenario(found.attacks):
        share = f"{100 * row.flagged / row.events:.0f}"
        assert cells(text, row.name.replace("_", " ")) == [
            str(row.attacks),
            str(row.caught),
            f"{100 * row.caught / row.attacks:.0f}",
            "%",
            str(row.caught_early),
            str(row.events),
            str(row.flagged),
            share,
            "%",
        ]
    assert f"Attacks: {every.caught} of {every.attacks} caught" in text
    assert f"{found.normal_flagged} of {found.normal_events} normal events" in text


def test_without_labels_nothing_is_said_of_attacks(lab: Lab) -> None:
    text = shown(read_results(lab.database))
    assert "Ledger" in text
    for word in ("recall", "caught", "of attacks", "False alarms"):
        assert word not in text


def test_a_ledger_that_does_not_balance_says_so(results: Results) -> None:
    def title(*balances: int) -> str:
        days = tuple(LedgerDay(f"day {i}", 10, 10 - b, 0, 0, 0, 0, 0, 0, b) for i, b in enumerate(balances))
        return shown(msgspec.structs.replace(results, ledger=days)).strip().splitlines()[0]

    assert "each of the 20 messages is accounted for" in title(0, 0)
    assert "3 messages are under way or lost" in title(0, 3)
    assert "2 messages too many" in title(-2, 0)
    assert "on the wrong day" in title(-2, 2)


def test_days_long_past_are_summed_up(results: Results) -> None:
    days = tuple(LedgerDay(f"2026-01-{d:02d}", d, d, 0, 0, 0, 0, 0, 0, 0) for d in range(1, 31))
    text = shown(msgspec.structs.replace(results, ledger=days))
    assert cells(text, "21 days before")[:2] == [str(sum(range(1, 22)))] * 2
    assert cells(text, "all days")[:2] == ["465", "465"]
    assert "2026-01-21" not in text
    assert "2026-01-22" in text


def test_retractions_and_provisional_rows_are_told_apart(results: Results) -> None:
    made = (
        SessionRows("INACTIVITY", True, False, 7, 5),
        SessionRows("ON_TIME", False, False, 6, 5),
        SessionRows("LATE", False, True, 2, 1),
    )
    text = shown(msgspec.structs.replace(results, session_rows=made))
    assert cells(text, "inactivity")[:3] == ["7", "5", "provisional:"]
    assert cells(text, "on time")[:3] == ["6", "5", "final:"]
    assert cells(text, "retraction")[:3] == ["2", "1", "not"]


def test_samples_are_of_different_kinds(results: Results) -> None:
    made = tuple(
        Sample(f"u{i}", reason, f"Block the payment of u{i}: {reason} (score 0.9). Seen: much.")
        for i, reason in enumerate(
            ["CARD_TESTING_A", "CARD_TESTING_B", "BRUTE_FORCE_A", "X", "Y_Z", "IMPOSSIBLE_TRAVEL"]
        )
    )
    text = shown(msgspec.structs.replace(results, samples=made))
    assert [i for i in range(6) if f"of u{i}:" in text] == [0, 2, 3, 4]


# ------------------------------------------------------------------------------ pictures


def test_pictures_are_written_small_and_the_same_each_time(results: Results, tmp_path: Path) -> None:
    assert results.detection is not None
    once = write_pictures(results.detection, tmp_path / "new" / "once")
    twice = write_pictures(results.detection, tmp_path / "twice")
    assert [path.name for path in once] == ["timeline.png", "attacks.png"]
    for one, other in zip(once, twice, strict=True):
        data = one.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert 10_000 < len(data) < 150_000
        assert data == other.read_bytes()


def test_a_directory_that_cannot_be_made_is_a_usage_error(results: Results, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert results.detection is not None
    with pytest.raises(UsageError, match="choose another directory"):
        write_pictures(results.detection, tmp_path / "file")


# ------------------------------------------------------------------------------ the command


def test_the_command_prints_the_tables_and_writes_the_pictures(
    lab: Lab, results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["report", "--database", str(lab.database), "--labels", str(lab.labels), "--plots", str(tmp_path)]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith(shown(results))
    assert {path.name for path in tmp_path.iterdir()} == {"timeline.png", "attacks.png"}


def test_labels_may_be_gzipped(lab: Lab, tmp_path: Path) -> None:
    zipped = tmp_path / "labels.jsonl.gz"
    zipped.write_bytes(gzip.compress(lab.labels.read_bytes()))
    assert read_labels(zipped) == read_labels(lab.labels)


def mistakes(lab: Lab, directory: Path) -> Iterator[tuple[list[str], str]]:
    files = {
        "bad.jsonl": lab.labels.read_bytes().splitlines()[0] + b'\n{"event_id": 3}\n',
        "binary.jsonl": b"\xff\xfe\n",
        "empty.jsonl": b"",
        "torn.jsonl.gz": gzip.compress(lab.labels.read_bytes())[:-20],
        "not.jsonl.gz": b"plain",
        "others.jsonl": msgspec.json.encode(label("another event")),
        "not.duckdb": b"no database",
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    duckdb.connect(str(directory / "other.duckdb")).close()
    labels = ["--database", str(lab.database), "--labels"]
    yield [*labels, str(directory / "bad.jsonl")], "line 2 is no label"
    yield [*labels, str(directory / "binary.jsonl")], "line 1 is no label"
    yield [*labels, str(directory / "empty.jsonl")], "is empty"
    yield [*labels, str(directory / "torn.jsonl.gz")], "can't be read"
    yield [*labels, str(directory / "not.jsonl.gz")], "can't be read"
    yield [*labels, str(directory / "none.jsonl")], "can't be read: No such file"
    yield [*labels, str(directory)], "can't be read: Is a directory"
    yield [*labels, str(directory / "others.jsonl")], "none of the 1 labelled events"
    yield ["--database", str(directory / "none.duckdb")], "is not there"
    yield ["--database", str(directory / "not.duckdb")], "can't be opened"
    yield ["--database", str(directory / "other.duckdb")], "there is no table 'ledger'"
    yield ["--database", str(lab.database), "--plots", str(directory / "p")], "give --labels too"


def test_mistakes_are_one_line(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in mistakes(lab, tmp_path):
        assert cli.main(["report", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
