"""An HTTP server that records the requests that it gets, byte for byte."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from tests.support.demo import serving


class Received(NamedTuple):
    """A request. Header values are decoded as Latin-1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class EchoServer(ThreadingHTTPServer):
    """Records requests in `received`, and answers 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []


class _Handler(BaseHTTPRequestHandler):
    server: EchoServer

    def _record(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append(Received(self.command, self.path, dict(self.headers.items()), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = do_DELETE = _record  # noqa: N815 - http.server wants these names

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def echo_server() -> Iterator[EchoServer]:
    """Serve on a thread."""
    server = EchoServer()
    with serving(server):
        yield server
