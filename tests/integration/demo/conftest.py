"""A gateway that only takes down what it is asked to push, and a backend to talk to."""

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

from wsaas.demo.server import DemoServer

PATIENCE = 5


class Push(NamedTuple):
    """What a client would have received."""

    client: str
    content_type: str
    body: bytes

    def message(self) -> dict[str, Any]:
        """Reads it as the chat wrote it."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class FakeGateway(ThreadingHTTPServer):
    """Answers every push, 200 unless `statuses` says otherwise, and keeps it in `pushed`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeGatewayHandler)
        self.pushed: queue.Queue[Push] = queue.Queue()
        self.statuses: dict[str, int] = {}

    def ws_uri(self, client: str) -> str:
        """Names a client as WS_HOSTNAME without a scheme does."""
        return f"127.0.0.1:{self.server_port}/{client}"

    def next(self) -> Push:
        """Waits for the next push."""
        return self.pushed.get(timeout=PATIENCE)

    def next_message(self, client: str) -> dict[str, Any]:
        """Waits for the next push, which must be to that client."""
        push = self.next()
        assert push.client == client
        return push.message()


class FakeGatewayHandler(BaseHTTPRequestHandler):
    """Takes a push."""

    server: FakeGateway

    def do_PUT(self) -> None:
        """Takes a push."""
        client = self.path.lstrip("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.pushed.put(Push(client, self.headers["Content-Type"], body))
        self.send_response(self.server.statuses.get(client, 200))
        self.end_headers()
        self.wfile.write(b'{"code": "OK"}')

    def log_message(self, *_: object) -> None:
        """Stays quiet."""


class Answered(NamedTuple):
    """An answer that a backend or a page server gave."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Reads the body."""
        return json.loads(self.body)


class Backend:
    """Speaks to a backend as the gateway does."""

    def __init__(self, port: int, gateway: FakeGateway) -> None:
        self.port = port
        self.gateway = gateway

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answered:
        """Makes any request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answered(response.status, response.headers, response.read())

    def connect(self, client: str, path: str, query: str = "") -> Any:
        """Tells that a client wants in."""
        event = {"ws_uri": self.gateway.ws_uri(client), "request": {"path": path, "query": query}}
        headers = {"Ws-Uri": self.gateway.ws_uri(client), "Content-Type": "application/json"}
        return self.request("POST", "/websocket", json.dumps(event).encode(), headers).json()

    def message(self, client: str, context: str, body: bytes, **headers: str) -> Answered:
        """Tells that a client sent a message."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Ws-Uri": self.gateway.ws_uri(client), "Ws-Context": context, **headers}
        return self.request("PUT", "/websocket", body, headers)

    def disconnect(self, client: str) -> Answered:
        """Tells that a client is gone."""
        return self.request("DELETE", "/websocket", b"{}", {"Ws-Uri": self.gateway.ws_uri(client)})


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serves in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    """A gateway that takes down what it is asked to push."""
    server = FakeGateway()
    with serving(server):
        yield server


@pytest.fixture
def server() -> Iterator[DemoServer]:
    """The demo's server on a free port."""
    server = DemoServer("127.0.0.1", 0, "localhost:8080")
    with serving(server):
        yield server
        server.traffic.close()


@pytest.fixture
def backend(server: DemoServer, gateway: FakeGateway) -> Backend:
    """Speaks to the demo's server as the gateway does."""
    return Backend(server.server_port, gateway)
