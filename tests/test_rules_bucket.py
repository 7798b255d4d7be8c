"""Rules and lists in a bucket (`gs://`): read by Beam over HTTP, from a server that speaks as Cloud Storage does."""

# mypy: allow-untyped-calls

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from apache_beam.internal.gcp import auth
from scored import login, record, rule

from fraud_pipeline.rules.files import RuleFiles
from transforms.reload import Loader

RULES = "rules:\n" + rule("first", "event_type == 'login' && on_list_exits", 0.4)
LISTS = "lists:\n  - {name: exits, kind: reference, field: ip, file: sub/exits.txt}\n"


class Bucket(ThreadingHTTPServer):
    """Objects of one bucket, by name, over the JSON API: an object's metadata, and its bytes from the start."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.objects: dict[str, bytes] = {}


class _Answer(BaseHTTPRequestHandler):
    server: Bucket

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        name = unquote(url.path.rpartition("/o/")[2])
        content = self.server.objects.get(name)
        if content is None:
            self._send(404, json.dumps({"error": {"code": 404, "message": f"no object {name}"}}).encode())
        elif "alt=media" in url.query:
            self._send(200, content)
        else:
            about = {"bucket": "fraud", "name": name, "size": str(len(content)), "generation": "1"}
            self._send(200, json.dumps(about).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with Bucket() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        # Beam looks for credentials for half a minute before it connects without, and this machine's aren't for a test.
        monkeypatch.setattr(auth._Credentials, "_credentials_init", True)
        monkeypatch.setattr(auth._Credentials, "_credentials", None)
        yield server
        server.shutdown()


def test_rules_with_their_lists_are_read_from_a_bucket(bucket: Bucket) -> None:
    bucket.objects |= {"a/rules.yaml": RULES.encode(), "a/lists.yaml": LISTS.encode(), "a/sub/exits.txt": b"192.0.2.1"}
    files = RuleFiles("gs://fraud/a/rules.yaml", "gs://fraud/a/lists.yaml")
    rules = files.build(files.fetch())
    assert [fired.rule_id for fired in rules.evaluate(record(login(ip="192.0.2.1")))] == ["first"]
    assert rules.evaluate(record(login(ip="192.0.2.2"))) == ()


def test_a_change_in_a_bucket_is_taken_and_what_is_gone_changes_nothing(bucket: Bucket) -> None:
    path, text = "gs://fraud/rules.yaml", "rules:\n" + rule("first", "event_type == 'login'", 0.4)
    bucket.objects["rules.yaml"] = text.encode()
    loader = Loader(RuleFiles(path, refresh_seconds=3_600), None)
    try:
        bucket.objects["rules.yaml"] = text.replace("first", "second").encode()
        loader.refresh()
        assert [one.id for one in loader.rules.rules] == ["second"]
        del bucket.objects["rules.yaml"]
        loader.refresh()
        assert [one.id for one in loader.rules.rules] == ["second"]
        assert loader.take_counts() == {"reload.swapped": 1, "reload.unreadable": 1}
    finally:
        loader.stop()


def test_what_is_not_in_the_bucket_is_named(bucket: Bucket) -> None:
    with pytest.raises(OSError, match=r"^gs://fraud/none\.yaml: can't be read \(.*give a path to a file"):
        RuleFiles("gs://fraud/none.yaml").fetch()
    assert bucket.objects == {}
