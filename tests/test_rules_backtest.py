"""Rules on history: the same answers as the stream's, counted right, whatever file they are read from."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import DAY_MS, NOON_MS, label, results, scored

from fraud_pipeline import job
from fraud_pipeline.backtest import run as backtest_run
from fraud_pipeline.backtest.evaluate import Reader
from fraud_pipeline.backtest.figures import Verdicts
from fraud_pipeline.backtest.history import History, open_history
from fraud_pipeline.backtest.measures import measure_backtest, measure_diff, measure_range
from fraud_pipeline.backtest.run import Judge, backtest, diff, judge_of
from fraud_pipeline.backtest.tally import Change, Outcome, Tally
from fraud_pipeline.cli import main
from fraud_pipeline.config import PipelineConfig
from fraud_pipeline.errors import UsageError
from fraud_pipeline.rules import read_rules
from fraud_pipeline.simulate import Delivery, SimulationConfig, simulate
from fraud_pipeline.sinks import sink_for
from fraud_pipeline.tables.duckdb import append_jsonl
from transforms.events import Message
from transforms.lists import Entry, ListHead, ListSet, ValueList
from transforms.message_lines import wrap_line
from transforms.rule_file import load_rules
from transforms.rules import RuleSet
from transforms.scoring import combine, decide, score

NEVER_MS = 1 << 62


def rule(id: str, when: str, weight: float | None = 0.5, **keys: Any) -> str:
    """A rule as YAML."""
    keys = {"severity": "high", **({} if weight is None else {"weight": weight}), **keys}
    rest = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    return f"  - id: {id}\n    description: d\n    reason_code: {id.upper()}\n{rest}    when: |-\n      {when}\n"


def rules_of(*rules: str, lists: ListSet | None = None) -> RuleSet:
    return load_rules("rules:\n" + "".join(rules), **({} if lists is None else {"lists": lists}))


def every_score(history: History, rules: RuleSet) -> Iterator[tuple[Any, bool | None]]:
    """The score of each event of history, without a prefilter, with its verdict."""
    judge = judge_of(history, (rules,))
    reader = Reader(judge.columns, rules.vocabulary)
    for batch in history.batches(judge.columns, "TRUE"):
        for row in zip(*(column.to_pylist() for column in batch.rows.columns), strict=True):
            yield score(reader.record(row), rules), row[-1]


# Live, shadow and backtest


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quiet day and a day with attacks, a fifth of the events out of order; payments have an attribute."""
    config = SimulationConfig(
        users=50, days=1, history_days=1, seed=24, delivery=Delivery(delayed=0.2, late=0, duplicates=0.02)
    )
    path = tmp_path_factory.mktemp("backtest") / "events.jsonl"
    lines = [wrap_line(Message(_with_trip(a.payload), a.received_ms, "")) for a in simulate(config)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def _with_trip(payload: bytes) -> bytes:
    try:
        event = json.loads(payload)
        if event["event_type"] != "payment":
            return payload
        event["attributes"] = {"trip_km": zlib.crc32(event["event_id"].encode()) % 7 * 1.5}
    except (ValueError, TypeError, KeyError, AttributeError):
        return payload  # It was malformed on purpose.
    return json.dumps(event).encode()


HALF_OF_ALL = ValueList(ListHead("half", "watch", "ip"), [("240.0.0.0/5", Entry(NEVER_MS, "test"))])


def candidate(mode: str) -> RuleSet:
    """Rules with every key that decides, features of all kinds, a list; some on trial where the mode says so."""
    return rules_of(
        *[
            rule("failures", "event_type == 'login' && failures_in_a_row >= 3", 0.4, mode=mode),
            rule("spike", "amount_to_mean_ratio_30d > 3.0 || !has_amount_to_mean_ratio_30d && amount_minor > 900"),
            rule("even", "amount_minor % 2 == 0 && country in ['DE', 'SE', 'GB']", 0.3, mode=mode, severity="low"),
            rule("young", "is_new_device && seconds_since_login < 900.0", None, action="block", mode=mode),
            rule("shared", "ip_event_count_1h >= 6 || device_distinct_user_count_30d >= 2", 0.3, mode=mode),
            rule("far", "trip_km >= 6.0 && !(trip_km > 8.0)", 0.25),
            rule("quick", "payment_count_10m >= 2 && seconds_since_last_event <= 120.0", 0.2),
            rule("known", "session_event_count >= 5 && !is_new_ip", None, action="allow"),
            rule("bounded", "session_event_count >= 2", 0.6, valid_from="2025-06-02T06:00:00Z",
                 valid_to="2025-06-02T18:00:00Z"),
            rule("listed", "on_list_half && event_type == 'login' && session_event_count > 2", 0.2),
        ],
        lists=ListSet([HALF_OF_ALL]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(messages: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the job wrote of the same messages, with rules live and with some on trial."""
    directory = tmp_path_factory.mktemp("runs")
    for mode in ("live", "shadow"):
        config = PipelineConfig(rules=candidate(mode))
        assert job.backfill([str(messages)], sink_for(str(directory / f"{mode}.duckdb")), config) == 0
    return {mode: directory / f"{mode}.duckdb" for mode in ("live", "shadow")}


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_a_backtest_says_of_each_event_what_the_job_said(runs: dict[str, Path], mode: str) -> None:
    with duckdb.connect(str(runs[mode]), read_only=True) as connection:
        rows = connection.execute(
            "SELECT user_id, event_id, score, action, fired_rules, shadow_rules, rules_version FROM latest_scores"
        ).fetchall()
    written = {(user, event): tuple(rest) for user, event, *rest in rows}
    # The table's features come from one run and the rules from the file: another run's results do as well.
    with open_history(str(runs["live"])) as history:
        found = {
            (s.record.event.user_id, s.record.event.event_id): (
                s.score,
                s.action,
                [rule.rule_id for rule in s.fired],
                [rule.rule_id for rule in s.shadow],
                s.rules_version,
            )
            for s, _ in every_score(history, candidate(mode))
        }
    assert found == written
    rules = {one for said in written.values() for one in (*said[2], *said[3])}
    assert rules == {*(one.id for one in candidate(mode).rules), "list.half"}, (
        "a rule that never fires: too easy a test"
    )


def test_rules_on_trial_fire_on_the_events_on_which_they_would_fire_live(runs: dict[str, Path]) -> None:
    on_trial = {"failures", "even", "young", "shared"}
    fired = {}
    for mode, path in runs.items():
        with duckdb.connect(str(path), read_only=True) as connection:
            fired[mode] = dict(
                connection.execute(
                    "SELECT event_id, list_sort(list_concat(fired_rules, shadow_rules)) FROM latest_scores"
                ).fetchall()
            )
            (trial,) = connection.execute("SELECT COUNT(*) FROM latest_scores WHERE len(shadow_rules) > 0").fetchall()
            assert (trial[0] > 0) == (mode == "shadow")
    assert fired["live"] == fired["shadow"]
    with open_history(str(runs["live"])) as history:
        live = backtest(history, candidate("live"))
        shadow = backtest(history, candidate("shadow"))
        totals = measure_range(history.days(), history.row_count, 0, history.totals(), "unknown")
    one = measure_backtest(live, candidate("live"), totals)
    other = measure_backtest(shadow, candidate("shadow"), totals)
    assert other.actions_with_shadow == one.actions
    assert other.actions != one.actions
    assert [(r.rule_id, r.hits, r.overlaps) for r in one.rules] == [
        (r.rule_id, r.hits, r.overlaps) for r in other.rules
    ]
    assert {r.rule_id for r in other.rules if r.mode == "shadow"} == on_trial


def test_a_tally_is_the_same_as_of_every_event_scored_without_a_prefilter(runs: dict[str, Path]) -> None:
    rules = candidate("live")
    with open_history(str(runs["live"])) as history:
        fast = backtest(history, rules)
        slow = Counter(
            tuple(rule.rule_id for rule in found.fired) for found, _ in every_score(history, rules) if found.fired
        )
        assert fast.row_count < history.row_count
    fired: Counter[tuple[str, ...]] = Counter()
    for outcome, events in fast.events.items():
        fired[outcome.fired] += events
    assert fired == slow


# Any rules over any rows

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "amount_minor": st.integers(0, 5),
    "currency": st.sampled_from(["EUR", "JPY"]),
    "country": st.sampled_from(["DE", "FR"]),
    "ip": st.sampled_from(["192.0.2.1", "192.0.2.200", "198.51.100.1"]),
    "payment_count_10m": st.integers(0, 5),
    "travel_km": st.integers(0, 5).map(float),
    "is_new_ip": st.booleans(),
    "attributes": st.sampled_from(['{"trip_km": 3}', '{"trip_km": 2.5, "x": "trip_km"}', '{"trip_km": "far"}', "{}"]),
}
ROW = st.fixed_dictionaries(
    {"event_type": st.sampled_from(["payment", "login", "signup", "claim"])},
    optional={name: st.none() | values for name, values in VALUES.items()},
)
CONDITION = st.sampled_from(
    [
        "payment_count_10m >= 2",
        "payment_count_10m >= 3 && !is_new_ip",
        "event_type == 'payment' && amount_minor * payment_count_10m > 4",
        "country != 'DE' || !has_country",
        "6 / payment_count_10m == 3",
        "travel_km > 2.0 ? is_new_ip : country == 'FR'",
        "trip_km > 2.0",
        "on_list_near && payment_count_10m > 0",
        "!on_list_near && is_new_ip",
        "event_type in ['signup', 'claim']",
        "ip.matches('^192[.]') || !country.matches('D')",
        "size(currency + 'x') == 4 && string(payment_count_10m) == '2'",
    ]
)
RULE = st.tuples(
    CONDITION,
    st.sampled_from([0.3, 0.6, 0.95]),
    st.sampled_from([None, "review", "block", "allow"]),
    st.sampled_from(["live", "shadow"]),
)
LISTS = ListSet(
    [
        ValueList(ListHead("near", "reference", "ip"), [("192.0.2.0/25", Entry(NEVER_MS, "a"))]),
        ValueList(ListHead("bad", "deny", "ip"), [("198.51.100.0/24", Entry(NOON_MS + 500, "a"))]),
        ValueList(ListHead("odd", "watch", "country", mode="shadow"), [("FR", Entry(NEVER_MS, "a"))]),
    ]
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file to fill anew."""
    return Path(results(tmp_path_factory.mktemp("scratch") / "history.duckdb", []))


def refill(path: Path, scores: Iterable[dict[str, Any]]) -> str:
    lines = path.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps(row) + "\n" for row in scores))
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM scores")
        append_jsonl(connection, "scores", lines)
    return str(path)


@settings(max_examples=30, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=25), st.lists(RULE, min_size=1, max_size=5), st.booleans(), st.randoms())
def test_the_fast_path_counts_what_scoring_every_row_by_itself_counts(
    scratch: Path, rows: list[dict[str, Any]], drawn: list[Any], with_lists: bool, random: Random
) -> None:
    rules = rules_of(
        *(
            rule(
                f"r{i}",
                when,
                None if action == "allow" else weight,
                mode=mode,
                **({"action": action} if action else {}),
            )
            for i, (when, weight, action, mode) in enumerate(drawn)
        ),
        lists=LISTS if with_lists else ListSet([ValueList(ListHead("near", "reference", "ip"), [])]),
    )
    table = [scored(f"e{i // 2}", at_ms=NOON_MS + i // 2 * 100, version=i % 2, **row) for i, row in enumerate(rows)]
    for row in table:
        if row["event_type"] != "payment":
            row |= {"amount_minor": None, "currency": None}
    random.shuffle(table)
    latest = {row["event_id"]: row for row in sorted(table, key=lambda row: row["version"])}
    slow: Counter[tuple[Any, ...]] = Counter()
    for row in latest.values():
        # The way of a table's row through the rules, without records, and the parts of `score` by themselves.
        live, shadow = rules.match({**row, "event_time": row["event_time"]})
        fired = tuple(one.rule_id for one in live)
        action = decide(live, combine(one.weight for one in live), rules.thresholds)
        if live or shadow:
            slow[fired, tuple(one.rule_id for one in shadow), action, row["currency"]] += 1
    with open_history(refill(scratch, table)) as history:
        fast = backtest(history, rules)
    found: Counter[tuple[Any, ...]] = Counter()
    for outcome, events in fast.events.items():
        found[outcome.fired, outcome.shadow, outcome.action, outcome.currency] += events
    assert found == slow


# Figures

FIGURES = rules_of(
    rule("many", "payment_count_10m >= 2", 0.6),
    rule("new", "is_new_ip", 0.95, severity="critical"),
    rule("trial", "payment_count_10m >= 1", 0.5, mode="shadow", severity="low"),
)
FIGURE_ROWS = [
    scored("e1", payment_count_10m=2, amount_minor=100),
    scored("e2", payment_count_10m=3, is_new_ip=True, amount_minor=1_000),
    scored("e3", payment_count_10m=2, amount_minor=10, currency="JPY", at_ms=NOON_MS + 3 * DAY_MS),
    scored("e4", payment_count_10m=1, amount_minor=50_000),
    scored("e5", payment_count_10m=0, amount_minor=7),
    scored("e6", event_type="login", is_new_ip=True, amount_minor=None, currency=None),
    # Replaced by the next: on it no rule fires.
    scored("e7", payment_count_10m=9, amount_minor=1),
    scored("e7", payment_count_10m=0, amount_minor=1, version=2),
]
FIGURE_LABELS = [
    label("e1", True),
    label("e2", False),
    label("e2", True, at_ms=NOON_MS + 2 * DAY_MS),
    label("e3", False),
    label("e4", True),
    label("e6", True),
    label("e2", True, user_id="somebody else"),
]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> str:
    return results(tmp_path_factory.mktemp("figures") / "results.duckdb", FIGURE_ROWS, FIGURE_LABELS)


def test_the_figures_of_rules(figures: str) -> None:
    with open_history(figures) as history:
        totals = measure_range(history.days(), history.row_count, history.superseded_count, history.totals(), "unknown")
        found = measure_backtest(backtest(history, FIGURES), FIGURES, totals)
    assert totals.verdicts == Verdicts(events=7, fraud=4, legitimate=1, unlabelled=2)
    assert (totals.days, totals.first_day, totals.last_day) == (2, "2026-01-01", "2026-01-04")
    assert (totals.rows, totals.superseded_rows) == (8, 1)
    assert totals.fraud_amount_minor == {"EUR": 51_100}
    rules = {one.rule_id: one for one in found.rules}
    many, new, trial = rules["many"], rules["new"], rules["trial"]
    assert [one.rule_id for one in found.rules] == ["new", "many", "trial"]
    assert many.hits == Verdicts(events=3, fraud=2, legitimate=1, unlabelled=0)
    assert (many.precision, many.recall, many.false_positives_per_day) == (2 / 3, 2 / 4, 1 / 2)
    assert many.saved_minor == {"EUR": 1_100}
    assert many.only == Verdicts(events=2, fraud=1, legitimate=1, unlabelled=0)
    assert many.only_saved_minor == {"EUR": 100}
    assert many.overlaps == {"trial": 3, "new": 1}
    assert (new.hits.events, new.recall, new.saved_minor, new.only.events) == (2, 2 / 4, {"EUR": 1_000}, 1)
    assert (trial.mode, trial.hits.events, trial.only.events) == ("shadow", 4, 1)
    assert (trial.saved_minor, trial.only_saved_minor) == ({"EUR": 51_100}, {"EUR": 50_000})
    assert found.prevented_minor == {"EUR": 1_100}
    assert found.missed_minor == {"EUR": 50_000}
    assert found.actions["block"] == Verdicts(events=2, fraud=2, legitimate=0, unlabelled=0)
    assert found.actions["review"] == Verdicts(events=2, fraud=1, legitimate=1, unlabelled=0)
    assert found.actions["allow"] == Verdicts(events=3, fraud=1, legitimate=0, unlabelled=2)
    assert found.actions_with_shadow is not None
    assert found.actions_with_shadow["allow"] == Verdicts(events=2, fraud=0, legitimate=0, unlabelled=2)


def test_what_is_unlabelled_can_count_as_legitimate(figures: str) -> None:
    with open_history(figures, unlabelled_is_legitimate=True) as history:
        totals = measure_range(history.days(), 8, 1, history.totals(), "legitimate")
    assert totals.verdicts == Verdicts(events=7, fraud=4, legitimate=3, unlabelled=0)


def test_a_range_of_time_begins_with_its_first_moment_and_ends_before_its_last(figures: str) -> None:
    with open_history(figures, from_ms=NOON_MS, to_ms=NOON_MS + 3 * DAY_MS) as history:
        assert sum(total.events for total in history.totals()) == 6
    with open_history(figures, from_ms=NOON_MS + 1) as history:
        assert sum(total.events for total in history.totals()) == 1
    with (
        pytest.raises(UsageError, match="no scored event in that range"),
        open_history(figures, to_ms=NOON_MS),
    ):
        pass


def test_the_truth_of_a_simulation_is_complete(figures: str, tmp_path: Path) -> None:
    truth = tmp_path / "truth.jsonl"
    truth.write_text('{"event_id": "e5", "scenario": "s", "attack_id": "a", "intensity": 1.0}\n')
    with open_history(figures, str(truth)) as history:
        verdicts = measure_range(history.days(), 8, 1, history.totals(), "legitimate").verdicts
    assert verdicts == Verdicts(events=7, fraud=1, legitimate=6, unlabelled=0)


@pytest.mark.parametrize("kind", ["parquet", "parts", "jsonl", "jsonl.gz"])
def test_files_of_any_kind_give_the_same(figures: str, tmp_path: Path, kind: str) -> None:
    with duckdb.connect(figures, read_only=True) as connection:
        for table in ("scores", "labels"):
            if kind == "parts":
                for part in (0, 1):
                    connection.execute(
                        f"COPY (FROM {table} WHERE rowid % 2 = {part}) TO '{tmp_path}/{table}-{part}.parquet'"
                    )
            else:
                connection.execute(f"COPY {table} TO '{tmp_path}/{table}.{kind}'")
    scores = str(tmp_path / ("scores-*.parquet" if kind == "parts" else f"scores.{kind}"))
    if kind.startswith("jsonl"):
        rows = {"scores": FIGURE_ROWS, "labels": FIGURE_LABELS}
        for table in rows:
            lines = "".join(json.dumps(row) + "\n" for row in rows[table]).encode()
            (tmp_path / f"{table}.{kind}").write_bytes(gzip.compress(lines) if kind.endswith("gz") else lines)
    with open_history(figures) as one, open_history(scores) as other:
        assert backtest(other, FIGURES).events == backtest(one, FIGURES).events
        assert other.totals() == one.totals()


def test_several_processes_count_what_one_does(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    rules = read_rules()
    seen: list[float] = []
    with open_history(str(runs["live"])) as history:
        alone = backtest(history, rules, workers=1)
        monkeypatch.setattr(backtest_run, "ALONE_ROWS", 1)
        monkeypatch.setattr("fraud_pipeline.backtest.history.BATCH_ROWS", 7)
        together = backtest(history, rules, workers=2, progress=seen.append)
    assert (together.events, together.amount_minor, together.row_count) == (
        alone.events,
        alone.amount_minor,
        alone.row_count,
    )
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] <= 1


def test_what_only_the_rules_can_say_of_a_text_is_asked_once_for_each_value(tmp_path: Path) -> None:
    rules = rules_of(rule("bot", "user_agent.matches('(?i)b[o0]t') && !country.matches('D')"))
    agents = ["Firefox", "Bot", "b0tnet", "robot", None]
    rows = [scored(f"e{i}", user_agent=agents[i % 5], country=[None, "DE", "FR", "SE"][i % 4]) for i in range(20)]
    with open_history(results(tmp_path / "results.duckdb", rows)) as history:
        tally = backtest(history, rules)
    assert tally.row_count == sum(tally.events.values()) == 3 * 2


def test_events_on_which_a_condition_cannot_be_evaluated_are_counted(tmp_path: Path) -> None:
    rules = rules_of(rule("ratio", "amount_minor / payment_count_10m > 10"), rule("other", "is_new_ip"))
    rows = [scored(f"e{i}", payment_count_10m=i % 2, is_new_ip=False) for i in range(6)]
    with open_history(results(tmp_path / "results.duckdb", rows)) as history:
        tally = backtest(history, rules)
    assert (tally.errors, sum(tally.events.values())) == (Counter(ratio=3), 3)


# Comparison


def test_a_diff_says_what_changes_by_action_and_by_rule_with_examples(figures: str) -> None:
    new = rules_of(
        rule("many", "payment_count_10m >= 3", 0.6),
        rule("large", "amount_minor >= 10000", 0.95),
        rule("trial", "payment_count_10m >= 1", 0.5, mode="shadow", severity="low"),
    )
    with open_history(figures) as history:
        totals = measure_range(history.days(), 8, 1, history.totals(), "unknown")
        found = measure_diff(diff(history, FIGURES, new), FIGURES, new, totals)
    changes = {(c.old_action, c.new_action): c for c in found.actions}
    assert {pair: c.verdicts.events for pair, c in changes.items()} == {
        ("review", "allow"): 2,
        ("block", "review"): 1,
        ("block", "allow"): 1,
        ("allow", "block"): 1,
    }
    assert changes["review", "allow"].verdicts == Verdicts(events=2, fraud=1, legitimate=1, unlabelled=0)
    assert changes["review", "allow"].amount_minor == {"EUR": 100, "JPY": 10}
    rules = {change.rule_id: change for change in found.rules}
    assert {name: change.change for name, change in rules.items()} == {
        "new": "removed",
        "many": "changed",
        "large": "added",
        "trial": "same",
    }
    assert (rules["many"].gained.events, rules["many"].lost.events) == (0, 2)
    assert rules["large"].gained == Verdicts(events=1, fraud=1, legitimate=0, unlabelled=0)
    assert (rules["trial"].gained.events, rules["trial"].lost.events) == (0, 0)
    (example,) = [e for e in found.examples if e.event_id == "e2"]
    assert (example.old.action, example.new.action, example.is_fraud) == ("block", "review", True)
    assert (example.old.fired, example.new.fired) == (("new", "many"), ("many",))
    assert example.mattered == {"is_new_ip": True}


def test_what_the_changed_condition_looks_at_matters_too(figures: str) -> None:
    before = rules_of(rule("many", "payment_count_10m >= 2"))
    after = rules_of(rule("many", "payment_count_10m >= 2 && is_new_ip && has_country"))
    with open_history(figures) as history:
        tally = diff(history, before, after)
    shown = {e.event_id: e.mattered for examples in tally.examples.values() for e in examples}
    assert shown["e1"] == {"country": None, "is_new_ip": None, "payment_count_10m": 2}
    assert "e2" in shown


def test_a_diff_of_the_same_rules_is_empty(figures: str) -> None:
    with open_history(figures) as history:
        assert diff(history, FIGURES, FIGURES).events == Counter()


def test_other_thresholds_alone_are_a_difference_of_which_all_inputs_matter(figures: str) -> None:
    lower = load_rules(
        "thresholds: {review_at: 0.5, block_at: 0.55}\nrules:\n" + rule("many", "payment_count_10m >= 2", 0.6)
    )
    before = rules_of(rule("many", "payment_count_10m >= 2", 0.6))
    with open_history(figures) as history:
        tally = diff(history, before, lower, most_examples=1)
    assert {(c.old_action, c.new_action, c.gained, c.lost) for c in tally.events} == {("review", "block", (), ())}
    ((example,),) = tally.examples.values()
    assert example.mattered.keys() == {"payment_count_10m"}


def _tallies() -> st.SearchStrategy[Tally]:
    keys = st.builds(
        Outcome,
        st.sampled_from([("a",), ("a", "b")]),
        st.just(()),
        st.sampled_from(["allow", "block"]),
        st.just("block"),
        st.sampled_from([True, False, None]),
        st.sampled_from(["EUR", None]),
    )

    def make(pairs: list[tuple[Outcome, int]]) -> Tally:
        tally = Tally()
        for key, amount in pairs:
            tally.add(key, amount)
        tally.row_count = len(pairs)
        return tally

    return st.lists(st.tuples(keys, st.integers(0, 9)), max_size=6).map(make)


@given(st.lists(_tallies(), max_size=4), st.randoms())
def test_parts_of_history_add_up_in_any_order(parts: list[Tally], random: Random) -> None:
    one, other = Tally(), Tally()
    for part in parts:
        one.merge(part)
    random.shuffle(parts)
    for part in parts:
        other.merge(part)
    assert (one.events, one.amount_minor, one.row_count) == (other.events, other.amount_minor, other.row_count)
    assert sum(one.events.values()) == sum(sum(part.events.values()) for part in parts)


def test_the_examples_of_a_change_do_not_depend_on_how_history_is_cut(figures: str) -> None:
    new = rules_of(rule("many", "payment_count_10m >= 100"))
    with open_history(figures) as history:
        judge = Judge((FIGURES, new), judge_of(history, (FIGURES, new)).columns, 1)
        (batch,) = history.batches(judge.columns, "TRUE")
        whole = judge(batch.rows)
        parts = Tally(1)
        for i in reversed(range(batch.rows.num_rows)):
            parts.merge(judge(batch.rows.slice(i, 1)))
    assert parts.examples == whole.examples
    assert all(len(examples) == 1 for examples in whole.examples.values())
    assert all(isinstance(change, Change) for change in whole.events)


# Commands


def _file(path: Path, *rules: str) -> str:
    path.write_text("rules:\n" + "".join(rules))
    return str(path)


def test_the_backtest_command_prints_tables(figures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = _file(tmp_path / "rules.yaml", rule("many", "payment_count_10m >= 2", 0.6), rule("new", "is_new_ip", 0.95))
    assert main(["rules", "backtest", "--rules", rules, "--history", figures]) == 0
    printed = capsys.readouterr()
    assert "7 events on 2 days, 2026-01-01 to 2026-01-04 (rows that a later version replaced: 1)" in printed.out
    line = next(line for line in printed.out.splitlines() if line.strip().startswith("many"))
    assert line.split() == ["many", "3", "2", "1", "0", "66.7%", "50.0%", "0.50"]
    assert max(map(len, printed.out.splitlines())) <= 100
    assert printed.err == ""


def test_the_backtest_command_gives_json(figures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = _file(tmp_path / "rules.yaml", rule("many", "payment_count_10m >= 2", 0.6))
    assert main(["rules", "backtest", "--rules", rules, "--history", figures, "--json", "--from", "2026-01-02"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["history"]["verdicts"] == {"events": 1, "fraud": 0, "legitimate": 1, "unlabelled": 0}
    (many,) = found["rules"]
    assert (many["rule_id"], many["hits"]["events"], many["recall"]) == ("many", 1, None)


def test_the_diff_command_prints_tables_and_examples(
    figures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _file(tmp_path / "old.yaml", rule("many", "payment_count_10m >= 2", 0.6))
    new = _file(tmp_path / "new.yaml", rule("many", "payment_count_10m >= 3", 0.6))
    assert main(["rules", "diff", old, new, "--history", figures]) == 0
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if line.split()[:2] == ["review", "allow"]]
    assert line.split()[2:] == ["2", "1", "1", "0", "EUR", "100,", "JPY", "10"]
    assert "payment_count_10m 2" in printed
    assert "e1 of u1, 2026-01-01 12:00:00Z, EUR 100 minor units, labelled fraud" in printed
    assert main(["rules", "diff", old, new, "--history", figures, "--json", "--examples", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == []


def test_lists_that_decide_by_themselves_stand_beside_the_rules(
    figures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = _file(tmp_path / "rules.yaml", rule("many", "payment_count_10m >= 100", 0.6))
    lists = tmp_path / "lists.yaml"
    lists.write_text("lists:\n  - name: currencies\n    kind: deny\n    field: currency\n    entries: [JPY]\n")
    assert main(["rules", "backtest", "--rules", rules, "--lists", str(lists), "--history", figures, "--json"]) == 0
    found = {one["rule_id"]: one for one in json.loads(capsys.readouterr().out)["rules"]}
    assert found["list.currencies"]["hits"] == {"events": 1, "fraud": 0, "legitimate": 1, "unlabelled": 0}
    assert (found["list.currencies"]["action"], found["many"]["hits"]["events"]) == ("block", 0)


def test_an_entry_of_a_list_counts_until_its_end(tmp_path: Path) -> None:
    rows = [scored(f"e{i}", ip="198.51.100.7", at_ms=NOON_MS + i * 100) for i in range(10)]
    rules = rules_of(rule("many", "payment_count_10m >= 100"), lists=LISTS)
    with open_history(results(tmp_path / "results.duckdb", rows)) as history:
        tally = backtest(history, rules)
    assert {outcome.fired: events for outcome, events in tally.events.items()} == {("list.bad",): 5}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--history", "nowhere.duckdb"], "'nowhere.duckdb' is not there"),
        (["--history", "{empty}"], "has no scored event"),
        (["--history", "{directory}"], "is a directory"),
        (["--history", "{text}"], "can't be opened as a DuckDB file"),
        (["--history", "{other}"], "has no column 'event_id'"),
        (["--history", "{figures}", "--labels", "{other}"], "has no column 'target_event_id'"),
        (["--history", "{figures}", "--from", "2026-01-02", "--to", "2026-01-01"], "--from isn't before --to"),
        (["--history", "{old}"], "no column 'is_new_ip', which rule 'new' needs"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], words: str, figures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("no database")
    with duckdb.connect(figures, read_only=True) as connection:
        connection.execute(f"COPY (SELECT 1 AS x) TO '{tmp_path}/other.parquet'")
        connection.execute(f"COPY (SELECT * EXCLUDE (is_new_ip) FROM scores) TO '{tmp_path}/old.parquet'")
    names = {
        "empty": results(tmp_path / "empty.duckdb", []),
        "directory": str(tmp_path),
        "text": str(tmp_path / "text"),
        "other": str(tmp_path / "other.parquet"),
        "old": str(tmp_path / "old.parquet"),
        "figures": figures,
    }
    rules = _file(tmp_path / "rules.yaml", rule("new", "is_new_ip", 0.95))
    given = [argument.format(**names) for argument in arguments]
    assert main(["rules", "backtest", "--rules", rules, *given]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["rules", "backtest", "--history", "x", "--from", "yesterday"])
    assert stopped.value.code == 2
    assert "'yesterday' is neither a date" in capsys.readouterr().err
