"""A fake gateway that records pushes, and a client of the demo's backend."""

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.support.waiting import TIMEOUT_S


class Push(NamedTuple):
    """A push that the gateway received."""

    client: str
    content_type: str
    body: bytes

    def message(self) -> dict[str, Any]:
        """Return the body, decoded as the chat encodes it."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class FakeGateway(ThreadingHTTPServer):
    """Answers each push with the status of its client in `statuses`, or 200, and records it in `pushed`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeGatewayHandler)
        self.pushed: queue.Queue[Push] = queue.Queue()
        self.statuses: dict[str, int] = {}

    def ws_uri(self, client: str) -> str:
        """Return the `ws_uri` of a client, as WS_HOSTNAME without a scheme begins it."""
        return f"127.0.0.1:{self.server_port}/{client}"

    def next(self) -> Push:
        """Wait for the next push."""
        return self.pushed.get(timeout=TIMEOUT_S)

    def next_message(self, client: str) -> dict[str, Any]:
        """Wait for the next push, which has to go to `client`."""
        push = self.next()
        assert push.client == client
        return push.message()


class FakeGatewayHandler(BaseHTTPRequestHandler):
    """Record a push."""

    server: FakeGateway

    def do_PUT(self) -> None:
        """Record a push."""
        client = self.path.lstrip("/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.pushed.put(Push(client, self.headers["Content-Type"], body))
        self.send_response(self.server.statuses.get(client, 200))
        self.end_headers()
        self.wfile.write(b'{"code": "OK"}')

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Answered(NamedTuple):
    """A response of the backend or of the server of the page."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class DemoBackend:
    """Sends requests to a backend as the gateway does."""

    def __init__(self, port: int, gateway: FakeGateway) -> None:
        self.port = port
        self.gateway = gateway

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answered:
        """Send any request."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answered(response.status, response.headers, response.read())

    def connect(self, client: str, path: str, query: str = "") -> Any:
        """Send the POST of a client that connects."""
        event = {"ws_uri": self.gateway.ws_uri(client), "request": {"path": path, "query": query}}
        headers = {"Ws-Uri": self.gateway.ws_uri(client), "Content-Type": "application/json"}
        return self.request("POST", "/websocket", json.dumps(event).encode(), headers).json()

    def message(self, client: str, context: str, body: bytes, **headers: str) -> Answered:
        """Send the PUT of a message."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Ws-Uri": self.gateway.ws_uri(client), "Ws-Context": context, **headers}
        return self.request("PUT", "/websocket", body, headers)

    def disconnect(self, client: str) -> Answered:
        """Send the DELETE of a client."""
        return self.request("DELETE", "/websocket", b"{}", {"Ws-Uri": self.gateway.ws_uri(client)})


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Serve in a thread."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
