"""Clients that stay connected, so that generated requests have connections to be about."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect


class Backend(BaseHTTPRequestHandler):
    """Accepts each client, and puts it into the group `lobby`. `accepted`: the ids, in order."""

    protocol_version = "HTTP/1.1"
    accepted: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Accept a client."""
        self.accepted.append(json.loads(self._read())["id"])
        self._answer({"code": "OK", "groups": ["lobby"], "context": "user-7"})

    def do_DELETE(self) -> None:
        """Acknowledge."""
        self._read()
        self._answer({})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Log nothing."""

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running_backend() -> Iterator[int]:
    """Run a backend; yield its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


class Clients:
    """Clients that read all messages."""

    def __init__(self, url: str, count: int) -> None:
        """Connect `count` clients to `url`."""
        self._url = url
        self._clients = [self._connect() for _ in range(count)]

    def reconnect(self) -> None:
        """Replace clients that were closed."""
        self._clients = [each if each[0].protocol.state is State.OPEN else self._connect() for each in self._clients]

    def id(self, number: int) -> str:
        """Return the id of one of the clients."""
        return self._clients[number % len(self._clients)][1]

    def _connect(self) -> tuple[ClientConnection, str]:
        client = connect(self._url, ping_interval=None)
        threading.Thread(target=read, args=(client,), daemon=True).start()
        return client, Backend.accepted[-1]


def read(client: ClientConnection) -> None:
    """Read until the end of the connection."""
    with suppress(ConnectionClosed):
        while True:
            client.recv()
