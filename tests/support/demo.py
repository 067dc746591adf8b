"""A fake gateway that records publishes, and a client of the demo's backend."""

import json
import queue
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.support.waiting import TIMEOUT_S


class Publish(NamedTuple):
    """A publish that the gateway received. `members`: the clients that were in the group then."""

    group: str
    members: tuple[str, ...]
    content_type: str
    body: bytes

    def message(self) -> dict[str, Any]:
        """Return the body, decoded as the chat encodes it."""
        message: dict[str, Any] = json.loads(self.body)
        return message


class FakeGateway(ThreadingHTTPServer):
    """Keeps groups, answers each request about one with `status`, and records publishes in `published`.

    `contexts`: by client, for each group. `lock`: held while the answer to a connect is on its way, as the gateway
    handles no request between that answer and the joins that it asks for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeGatewayHandler)
        self.contexts: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.lock = threading.Lock()
        self.published: queue.Queue[Publish] = queue.Queue()
        self.status = 200

    def ws_uri(self, client: str) -> str:
        """Return the `ws_uri` of a client, as WS_HOSTNAME without a scheme begins it."""
        return f"127.0.0.1:{self.server_port}/{client}"

    def next(self) -> Publish:
        """Wait for the next publish."""
        return self.published.get(timeout=TIMEOUT_S)

    def next_message(self, *members: str) -> dict[str, Any]:
        """Wait for the next publish, which has to reach `members`."""
        published = self.next()
        assert published.members == members
        return published.message()


class FakeGatewayHandler(BaseHTTPRequestHandler):
    """Publish to a group, and list its members."""

    server: FakeGateway

    def do_PUT(self) -> None:
        """Record a publish."""
        group = self.path.rpartition("/groups/")[2]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            members = tuple(self.server.contexts[group])
            if self.server.status == HTTPStatus.OK:
                self.server.published.put(Publish(group, members, self.headers["Content-Type"], body))
        self.answer(sent=len(members))

    def do_GET(self) -> None:
        """List the members."""
        group = self.path.rpartition("/groups/")[2].removesuffix("?limit=1000")
        with self.server.lock:
            contexts = list(self.server.contexts[group].values())
        self.answer(connections=[{"context": context} for context in contexts])

    def answer(self, **fields: object) -> None:
        """Send a response: `fields`, or an error where `status` is one."""
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(fields if self.server.status == HTTPStatus.OK else {"code": "ERROR"}).encode())

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
        self.messages = 0

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
        with self.gateway.lock:
            answer = self.request("POST", "/websocket", json.dumps(event).encode(), headers).json()
            for group in answer.get("groups", ()):
                self.gateway.contexts[group][client] = answer["context"]
        return answer

    def message(self, client: str, context: str, body: bytes, **headers: str) -> Answered:
        """Send the PUT of a message."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.messages += 1
        event = {"ce-id": f"{client}:{self.messages}"}
        headers = {"Ws-Uri": self.gateway.ws_uri(client), "Ws-Context": context, **event, **headers}
        return self.request("PUT", "/websocket", body, headers)

    def disconnect(self, client: str, context: str) -> Answered:
        """Send the DELETE of a client."""
        for members in self.gateway.contexts.values():
            members.pop(client, None)
        headers = {"Ws-Uri": self.gateway.ws_uri(client), "Ws-Context": context}
        return self.request("DELETE", "/websocket", b"{}", headers)


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
