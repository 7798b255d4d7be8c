"""What BigQuery is sent again carries the insert id it had, by which BigQuery drops doubles; nothing else is sent."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_stream import TestStream
from written import Outputs, dead_letter, label

from fraud_pipeline.emulators.bigquery import Emulator
from fraud_pipeline.sinks.bigquery import BigquerySink
from fraud_pipeline.tables.bigquery import create_or_update
from fraud_pipeline.tables.schema import DEAD_LETTERS, LABELS
from transforms.events import DeadLetter

PROJECT = "insert-ids"
Insert = dict[str, Any]
pytestmark = pytest.mark.emulator


class Proxy(ThreadingHTTPServer):
    """A server before the emulator that keeps the inserts it is sent and may answer them itself."""

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target
        self.inserts: list[Insert] = []
        self.answer: Callable[[int, Insert], tuple[int, Insert] | None] = lambda number, insert: None
        self.host = f"http://127.0.0.1:{self.server_port}"

    def insert_ids(self) -> list[list[str]]:
        """Of the rows of each request, in order."""
        return [[row["insertId"] for row in insert["rows"]] for insert in self.inserts]


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = None
        if "/tables/labels/insertAll" in self.path:
            insert = json.loads(body)
            self.server.inserts.append(insert)
            answer = self.server.answer(len(self.server.inserts), insert)
        status, content = answer or self._forward(body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _forward(self, body: bytes) -> tuple[int, Insert]:
        request = urllib.request.Request(
            self.server.target + self.path, body or None, {"Content-Type": "application/json"}, method=self.command
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as response:
            return response.status, json.load(response)

    do_GET = do_POST = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def proxy(bigquery: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with Proxy(bigquery.host) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", proxy.host)
        yield proxy
        proxy.shutdown()


def write(bigquery: Emulator, dataset: str, bundles: list[list[int]]) -> list[str]:
    """Writes labels bundle by bundle, as a stream; gives the ids that are in the table."""
    client = bigquery.client(PROJECT)
    create_or_update(client, dataset, tables=[LABELS, DEAD_LETTERS], views=[])
    stream = TestStream()
    for bundle in bundles:
        stream.add_elements([label(n) for n in bundle])
    stream.advance_watermark_to_infinity()
    with beam.Pipeline(options=PipelineOptions(["--runner=BundleBasedDirectRunner", "--streaming"])) as pipeline:
        dead = pipeline | beam.Create([dead_letter(1)]).with_output_types(DeadLetter)
        BigquerySink(PROJECT, dataset).write(Outputs(pipeline | stream, dead))
    assert len(list(client.query_and_wait(f"SELECT 1 AS x FROM {dataset}.dead_letters"))) == 1
    return [row.event_id for row in client.query_and_wait(f"SELECT event_id FROM {dataset}.labels ORDER BY event_id")]


def test_every_row_has_an_insert_id_of_its_own(bigquery: Emulator, proxy: Proxy) -> None:
    assert write(bigquery, "own", [[0, 1], [2]]) == ["l0", "l1", "l2"]

    ids = list(chain.from_iterable(proxy.insert_ids()))
    assert all(ids)
    assert len(set(ids)) == len(ids) == 3


def test_a_request_that_fails_is_repeated_as_it_was_and_what_follows_is_not_held_up(
    bigquery: Emulator, proxy: Proxy
) -> None:
    away = {"error": {"code": 503, "message": "away", "errors": [{"reason": "backendError"}]}}
    proxy.answer = lambda number, insert: (503, away) if number <= 2 else None

    assert write(bigquery, "away", [[0, 1], [2]]) == ["l0", "l1", "l2"]

    assert proxy.inserts[0] == proxy.inserts[1] == proxy.inserts[2]
    assert len(set(chain.from_iterable(proxy.insert_ids()[2:]))) == 3


def test_of_a_request_only_the_rows_that_failed_in_passing_are_sent_again(bigquery: Emulator, proxy: Proxy) -> None:
    def all_but_the_last(number: int, insert: Insert) -> tuple[int, Insert] | None:
        if number > 1:
            return None
        rows = [row["json"] for row in insert["rows"]]
        assert bigquery.client(PROJECT).insert_rows_json(f"{PROJECT}.passing.labels", rows[:-1]) == []
        errors = [{"reason": "backendError", "message": "try again", "location": ""}]
        return 200, {"insertErrors": [{"index": len(rows) - 1, "errors": errors}]}

    proxy.answer = all_but_the_last

    assert write(bigquery, "passing", [[0, 1, 2]]) == ["l0", "l1", "l2"]

    first, second, *others = proxy.insert_ids()
    assert second == first[-1:]
    assert set(chain.from_iterable(others)).isdisjoint(first)
