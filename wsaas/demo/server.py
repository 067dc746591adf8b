"""The demo's one HTTP server: the chat's webhook, the page, and the live traffic for it."""

import base64
import hashlib
import ipaddress
import json
import socket
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from importlib import resources
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

from wsaas.demo.chat import Answer, Chat, Webhook, answer, push
from wsaas.demo.traffic import Request, Traffic

WEBHOOK = "/websocket"


class DemoServer(ThreadingHTTPServer):
    """Listens from the moment it is made; `serve_forever` answers, `close` ends it from another thread."""

    daemon_threads = True
    request_queue_size = 128  # the gateway may open many connections at once

    def __init__(self, host: str, port: int, gateway: str) -> None:
        """Listens on host and port (0 picks a free one); browsers find the WebSockets at `gateway`."""
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.traffic = Traffic()
        self.chat = Chat(self.traffic.watched(push))
        self.gateway = gateway
        self.page = resources.files("wsaas.demo").joinpath("page.html").read_bytes()
        super().__init__((host, port), DemoHandler)

    def server_bind(self) -> None:
        """Binds without looking up the host's full name, which can take seconds and serves nothing here."""
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.location = f"[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"{host!s}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing when a peer has gone away, which browsers do all the time."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stops serving."""
        self.traffic.close()
        self.shutdown()
        self.server_close()


class DemoHandler(Webhook):
    """Answers the gateway like the chat does, and the browser."""

    server: DemoServer
    write_timeout = 30.0

    def decide(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Lets the chat answer, and watches."""
        path = urlsplit(self.path).path
        if path != WEBHOOK:
            return answer("NOT_FOUND", HTTPStatus.NOT_FOUND, message=f"The backend is at {WEBHOOK}.")
        if "origin" in headers:
            # Only browsers send this: some web page tries to have the chat push to addresses of its choice.
            return answer("FORBIDDEN", HTTPStatus.FORBIDDEN, message="Only the gateway may call this.")
        url = f"http://{headers.get('host', 'localhost')}{self.path}"
        shown = dict(self.headers.items())
        request = Request("backend", self.command, url, shown, body, headers.get("ws-uri", ""))
        chat = self.server.chat
        return self.server.traffic.observe(request, lambda: chat.handle(self.command, headers, body))

    def do_GET(self) -> None:  # noqa: N802 - http.server wants this name
        """Serves the page and what it asks for."""
        if not is_loopback(self.headers.get("Host", "")):
            # Else any web site could have its own name resolve to this machine and read along.
            advice = f"Open http://localhost:{self.server.server_port}/ instead.\n"
            self.send("text/plain", advice.encode(), HTTPStatus.FORBIDDEN)
            return
        url = urlsplit(self.path)
        match url.path:
            case "/":
                self.send("text/html; charset=utf-8", self.server.page)
            case "/config":
                self.send("application/json", json.dumps({"gateway": self.server.gateway}).encode())
            case "/traffic":
                after = parse_qs(url.query).get("after", [""])[0]
                self.stream(self.headers.get("Last-Event-ID", after))
            case _:
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

    def send(self, content_type: str, body: bytes, status: int = HTTPStatus.OK) -> None:
        """Answers a browser."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", content_security_policy(body))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, after: str) -> None:
        """Sends the traffic as it happens, until the browser leaves or the server stops."""
        self.close_connection = True  # the stream has no length: its end is that of the connection
        self.connection.settimeout(self.write_timeout)  # a browser that sleeps must not hold us for ever
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        for events in self.server.traffic.stream(after):
            self.wfile.write(events.encode())
            self.wfile.flush()


def is_loopback(host: str) -> bool:
    """Tells whether a Host header names this machine."""
    name, _, port = host.lower().rpartition(":")
    if not port.isdecimal():
        name = host.lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def content_security_policy(page: bytes) -> str:
    """Allows a page its own script and style, by their hashes, its server and WebSockets; no more."""
    allowed = ["default-src 'none'", "connect-src 'self' ws: wss:", "img-src 'self'", "form-action 'none'"]
    for tag in ("script", "style"):
        inside = page.partition(f"<{tag}>".encode())[2].partition(f"</{tag}>".encode())[0]
        digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
        allowed.append(f"{tag}-src 'sha256-{digest}'")
    return "; ".join(allowed)
