"""A real HTTP server that receives notifications and answers as it is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


@dataclass
class Receiver:
    """What came in, and the answers to give: each once in their order, the last one for ever."""

    url: str
    answers: list[Answer]
    requests: list[Received] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: Received) -> Answer:
        """Notes a request; gives how to answer it."""
        with self.lock:
            self.requests.append(request)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def status(code: int, **headers: str) -> Answer:
    """Answers with a status and headers, `_` in their names for `-`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def slow(seconds: float) -> Answer:
    """Answers with 200 after a while; by then the client may be gone."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        with contextlib.suppress(OSError):
            status(200)(handler)

    return answer


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """Sends a byte now and then, so that no read ever times out."""
    with contextlib.suppress(OSError):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _ in range(200):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.05)


def dropping(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection without an answer."""
    handler.connection.close()


@contextlib.contextmanager
def receiver(*answers: Answer) -> Iterator[Receiver]:
    """A receiver that runs while the block runs, on a free port of 127.0.0.1."""
    held: list[Receiver] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):
                return  # Cut off: who sent it is gone, and no receiver would act on it.
            held[0].take(Received(self.path, dict(self.headers), body, time.monotonic()))(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    held.append(Receiver(f"http://127.0.0.1:{server.server_address[1]}/alerts", list(answers) or [status(200)]))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield held[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
