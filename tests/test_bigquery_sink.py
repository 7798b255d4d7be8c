"""The BigQuery sink against the emulator: rows arrive whole, rejected ones in dead letters, none twice in the views."""

from __future__ import annotations

import base64
import json
import logging
import threading
import urllib.request
from collections import namedtuple
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import HTTPError

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud import bigquery as google_bigquery
from sample import sample

from fraud_pipeline import local_runner
from fraud_pipeline.emulators.bigquery import Emulator
from fraud_pipeline.errors import UsageError
from fraud_pipeline.sinks import sink_for
from fraud_pipeline.sinks.bigquery import BigquerySink, CountLost, bigquery_reason, sink_rejected
from fraud_pipeline.tables.bigquery import create_or_update
from fraud_pipeline.tables.rows import dead_letter_row, timestamp, validate
from fraud_pipeline.tables.schema import SCORES, TABLES, Column, Table

emulator = pytest.mark.emulator
PROJECT = "sink-test"
Rows = Mapping[str, list[dict[str, Any]]]


@pytest.fixture
def client(bigquery: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[google_bigquery.Client]:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery.host)
    client = bigquery.client(PROJECT)
    yield client
    client.close()


def _write(dataset: str, rows: Rows) -> None:
    """Writes rows through the sink, as if they were outputs of the graph."""
    local_runner.install()
    sink = BigquerySink(PROJECT, dataset, row_builders=dict.fromkeys(TABLES, json.loads))
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner"]))
    sink.write(_outputs(pipeline, rows))
    pipeline.run().wait_until_finish()


def _outputs(pipeline: beam.Pipeline, rows: Rows) -> Any:
    outputs = {}
    for table in rows:
        outputs[table] = pipeline | f"Create {table}" >> beam.Create(
            [json.dumps(row) for row in rows[table]], reshuffle=False
        )
        if table == "session_rollups":
            outputs[table] |= "Window" >> beam.WindowInto(beam.window.Sessions(300))
    return namedtuple("Outputs", rows)(**outputs)


def _read(client: google_bigquery.Client, dataset: str, table: str) -> list[dict[str, Any]]:
    return [_json(row) for row in client.query_and_wait(f"SELECT * FROM `{PROJECT}.{dataset}.{table}`")]


def _json(row: Any) -> dict[str, Any]:
    """A row as it was written: times as RFC 3339 with milliseconds, bytes as base64."""
    values = {}
    for name, value in row.items():
        if hasattr(value, "timestamp"):
            value = timestamp(round(value.timestamp() * 1000))
        elif isinstance(value, bytes):
            value = base64.b64encode(value).decode()
        values[name] = value
    return values


def _whole(table: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with what was left out of them, as a table gives them back."""
    return [{column.name: None for column in TABLES[table].columns} | row for row in rows]


def _sorted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True, default=str))


@emulator
def test_rows_read_back_equal_and_repeated_ones_are_counted_once_by_the_views(
    client: google_bigquery.Client,
) -> None:
    rows = sample()
    assert all(rows[table] for table in TABLES)
    for dataset, times in (("once", 1), ("twice", 2)):
        create_or_update(client, dataset)
        _write(dataset, {table: times * rows[table] for table in TABLES})
        for table in TABLES:
            assert _sorted(_read(client, dataset, table)) == _sorted(times * _whole(table, rows[table])), table
    for view in ("latest_scores", "ledger", "current_sessions", "current_alerts", "current_labels"):
        once = _sorted(_read(client, "once", view))
        assert once == _sorted(_read(client, "twice", view)), view
        assert once, view
    assert [day["balance"] for day in _read(client, "twice", "ledger")] == [0, 0]


def _outdated(table: Table, name: str, type: Any) -> Table:
    """The table as someone else once made it: one column of another type."""
    columns = tuple(
        Column(column.name, type, column.description) if column.name == name else column for column in table.columns
    )
    return Table(
        name=table.name,
        description=table.description,
        columns=columns,
        partition=table.partition,
        cluster=table.cluster,
        key=table.key,
    )


@emulator
def test_a_refused_row_is_a_dead_letter_with_the_reason_and_the_others_arrive(
    client: google_bigquery.Client,
) -> None:
    tables = {**TABLES, "scores": _outdated(SCORES, "ip", "INT64")}
    create_or_update(client, "refused", tables=tables.values(), views=[])
    scores = sample()["scores"][:6]
    good = [{**row, "event_id": f"good{i}", "ip": str(i)} for i, row in enumerate(scores)]
    bad = {**scores[0], "event_id": "bad", "ip": "198.51.100.7"}
    _write("refused", {"scores": [*good[:3], bad, *good[3:]]})
    assert sorted(row["event_id"] for row in _read(client, "refused", "scores")) == [f"good{i}" for i in range(6)]
    (letter,) = _read(client, "refused", "dead_letters")
    assert letter["reason"] == "SINK_REJECTED"
    assert letter["message"].startswith("BigQuery has no place for a row of scores: invalid at ip (")
    assert "198.51.100.7" in letter["message"]
    assert json.loads(base64.b64decode(letter["payload"])) == bad
    assert (letter["source"], letter["field"]) == ("table scores", "ip")
    for column in ("event_id", "user_id", "event_time", "received_time"):
        assert letter[column] == bad[column]


@emulator
def test_a_row_that_does_not_fit_is_a_dead_letter_before_it_is_sent(client: google_bigquery.Client) -> None:
    create_or_update(client, "misfits", views=[])
    rows = sample()
    score, session, count = rows["scores"][0], rows["sessions"][0], rows["intake"][0]
    misfits = {
        "scores": [
            {**score, "event_id": "e\ud800"},
            score,
            {**score, "event_id": None},
            {**score, "score": float("nan")},
        ],
        "sessions": [{**session, "event_count": "seven"}, session],
        "intake": [{**count, "message_count": 2**70}, {**count, "received_time": "yesterday"}, count],
    }
    _write("misfits", misfits)
    for table in misfits:
        assert len(_read(client, "misfits", table)) == 1
    letters = _read(client, "misfits", "dead_letters")
    assert sorted(letter["message"].split(": ", 1)[1].split(";")[0] for letter in letters) == [
        "event_count is a str, not an integer",
        "event_id holds a lone surrogate, which is no character",
        "event_id is null",
        "message_count is an integer of 71 bits, not 64",
        "received_time is a str, not a time like 2026-03-01T12:34:56.789Z",
        "score is nan, not a finite number",
    ]


@emulator
def test_a_dead_letter_too_large_for_a_row_arrives_in_parts(client: google_bigquery.Client) -> None:
    create_or_update(client, "parts", views=[])
    letter = {**sample()["dead_letters"][0], "payload": base64.b64encode(bytes(7 << 20)).decode()}
    _write("parts", {"dead_letters": [letter]})
    parts = sorted(_read(client, "parts", "dead_letters"), key=lambda row: row["part"])
    assert [(row["part"], row["part_count"]) for row in parts] == [(0, 2), (1, 2)]
    assert b"".join(base64.b64decode(row["payload"]) for row in parts) == bytes(7 << 20)


@emulator
def test_a_dead_letter_that_is_refused_itself_is_told_without_its_content(
    client: google_bigquery.Client, caplog: pytest.LogCaptureFixture
) -> None:
    dead_letters = _outdated(TABLES["dead_letters"], "source", "INT64")
    create_or_update(client, "lost", tables={**TABLES, "dead_letters": dead_letters}.values(), views=[])
    rows = sample()
    secret = {**rows["dead_letters"][0], "payload": base64.b64encode(b"card 4111").decode()}
    with caplog.at_level(logging.ERROR, "fraud_pipeline"):
        _write("lost", {"dead_letters": [secret], "intake": rows["intake"]})
    assert _read(client, "lost", "dead_letters") == []
    assert _sorted(_read(client, "lost", "intake")) == _sorted(rows["intake"])
    (told,) = [record.getMessage() for record in caplog.records if record.name.startswith("fraud_pipeline")]
    assert "refused a dead letter" in told
    assert "for its column source; it is lost" in told


class _Unreliable(ThreadingHTTPServer):
    """A proxy in front of the emulator that answers the first inserts into each table with an error of the service."""

    def __init__(self, target: str, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.target, self.status, self.body = target, status, body
        self.inserts: dict[str, list[int]] = {}
        self.lock = threading.Lock()


class _Proxy(BaseHTTPRequestHandler):
    server: _Unreliable
    protocol_version = "HTTP/1.1"

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_insert = self.path.split("?")[0].endswith("/insertAll")
        status, answer = 200, b""
        if is_insert:
            with self.server.lock:
                answers = self.server.inserts.setdefault(self.path, [])
                status = self.server.status if len(answers) < 2 else 200
                answers.append(status)
                answer = self.server.body
        if status == 200:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "accept-encoding")}
            request = urllib.request.Request(self.server.target + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request) as response:
                    status, answer = response.status, response.read()
            except HTTPError as error:
                status, answer = error.code, error.read()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = _forward  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


_UNAVAILABLE = b'{"error": {"code": 503, "message": "try again", "errors": [{"reason": "backendError"}]}}'


@pytest.mark.parametrize(("status", "body"), [(503, _UNAVAILABLE), (504, b"{}")], ids=["unavailable", "timeout"])
@emulator
def test_what_fails_for_the_time_being_is_tried_again_and_nothing_is_lost(
    client: google_bigquery.Client,
    bigquery: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
) -> None:
    dataset = f"transient{status}"
    create_or_update(client, dataset, views=[])
    rows = sample()
    with _Unreliable(bigquery.host, status, body) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{proxy.server_port}")
        _write(dataset, {table: rows[table] for table in ("scores", "intake")})
        proxy.shutdown()
    assert len(proxy.inserts) == 2
    assert all(answers[:3] == [status, status, 200] for answers in proxy.inserts.values()), proxy.inserts
    for table in ("scores", "intake"):
        assert _sorted(_read(client, dataset, table)) == _sorted(_whole(table, rows[table]))
    assert _read(client, dataset, "dead_letters") == []


@emulator
def test_missing_tables_are_one_clear_error_before_the_run(client: google_bigquery.Client) -> None:
    fix = r"; run: fraud-pipeline tables create --project sink-test --dataset "
    with pytest.raises(UsageError, match=rf"dataset sink-test\.nowhere does not exist{fix}nowhere"):
        BigquerySink(PROJECT, "nowhere").check()
    there = [table for name, table in TABLES.items() if name not in ("labels", "alerts")]
    create_or_update(client, "partly", tables=there, views=[])
    with pytest.raises(UsageError, match=rf"sink-test\.partly lacks the tables alerts, labels{fix}partly"):
        BigquerySink(PROJECT, "partly").check()
    create_or_update(client, "partly", views=[])
    BigquerySink(PROJECT, "partly").check()


def test_building_a_job_asks_no_service_and_its_steps_have_the_names_of_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nothing listens there: a request would fail.
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    pipeline = beam.Pipeline(options=PipelineOptions(streaming=True))
    BigquerySink(PROJECT, "fraud").write(_outputs(pipeline, {table: [] for table in TABLES}))
    labels = [label for label in pipeline.applied_labels if label.endswith("/Insert")]
    tables = ["Scores", "Sessions", "SessionRollups", "Alerts", "Labels", "DeadLetters", "Intake"]
    assert sorted(labels) == sorted(f"Write{table}/Insert" for table in [*tables, "SinkRejected"])


def test_the_output_names_the_dataset() -> None:
    sink = sink_for("bigquery:my-project.fraud")
    assert isinstance(sink, BigquerySink)
    assert (sink.project, sink.dataset) == ("my-project", "fraud")


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"event_id": 7, "user_id": None, "received_time": 3, "event_time": "soon"},
        {"event_id": "\ud800", "x": float("nan"), "y": b"\xff", "received_time": ["2026"]},
        {"session_id": "u@1", "emitted_time": "2026-03-01T00:00:00.000Z"},
    ],
)
def test_any_row_makes_a_dead_letter_that_fits(row: dict[str, Any]) -> None:
    letter = sink_rejected("sessions", row, "no reason")
    assert validate("dead_letters", dead_letter_row(letter)) is None
    if "emitted_time" in row:
        assert timestamp(letter.received_ms) == row["emitted_time"]


def test_lost_dead_letters_are_counted() -> None:
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner"]))
    _ = pipeline | beam.Create([sink_rejected("scores", {}, "no reason")] * 3) | beam.ParDo(CountLost())
    result = pipeline.run()
    result.wait_until_finish()
    wanted = MetricsFilter().with_namespace("sink_bigquery").with_name("lost_dead_letters")
    assert [counter.committed for counter in result.metrics().query(wanted)["counters"]] == [3]


def test_reasons_in_one_line() -> None:
    errors = [
        {"reason": "invalid", "location": "ip", "message": "bad value"},
        {"reason": "stopped", "location": ""},
    ]
    assert bigquery_reason(errors) == "invalid at ip (bad value), stopped (no message)"
    assert bigquery_reason("Received row with size 10MB") == "Received row with size 10MB"
