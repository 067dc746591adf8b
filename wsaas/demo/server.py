"""The HTTP server of the demo: the webhook of the chat, the page with its WebSockets, and the live traffic for it."""

import json
import re
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Final, cast
from urllib.parse import parse_qs, urlsplit

from wsaas.demo import tunnel
from wsaas.demo.chat import Answer, Chat, Webhook, answer, call, full_url
from wsaas.demo.cluster import Cluster
from wsaas.demo.connections import Connections, is_of_other_machine
from wsaas.demo.hosts import Hosts, is_own_origin
from wsaas.demo.traffic import Request, Traffic
from wsaas.web.page import load

WEBHOOK: Final = "/websocket"
UNSPECIFIED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it only looks them up
"""Addresses that stand for all interfaces, each with the one at which this machine reaches itself."""
NODE_ACTION: Final = re.compile(r"/nodes/(?P<number>[1-9])/(?P<action>kill|start)")
NODE_PATH: Final = re.compile(r"/nodes/(?P<number>[1-9])(?P<path>/.*)")
REQUEST_TIMEOUT_S: Final = 10.0
"""Time for the first request of a connection, with its body."""
IDLE_TIMEOUT_S: Final = 90.0
"""Time for each further request. Gateways close idle connections earlier (KEEP_ALIVE_TIMEOUT)."""
MAX_HEAD: Final = 64 * 1024
MAX_BODY_OF_OTHERS: Final = 64 * 1024
"""The size of a body from another machine. The page sends none, and the gateways bound their own."""
BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"The demo has too many connections.\n"
)
POLICY: Final = "default-src 'none'; {sources}; connect-src 'self'; img-src 'self' data:; form-action 'none'"


class DemoServer(ThreadingHTTPServer):
    """Listens from its creation. `serve_forever` serves requests; `close` stops it from another thread."""

    daemon_threads = True
    request_queue_size = 128  # the gateway may open many connections at once

    def __init__(self, host: str, port: int, gateway: str, cluster: Cluster | None = None) -> None:
        """Listen on host and port (0 for a free one).

        `gateway`: host and port of the gateway; `cluster`: it has nodes instead.
        """
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.traffic = Traffic()
        self.gateway = urlsplit(full_url(gateway)).netloc
        self.upstream = self.gateway
        """Where the gateway listens for clients."""
        self.cluster = cluster
        self.connections = Connections()
        self.hosts = Hosts()
        send = self.traffic.observed(self.to_gateways(call))
        self.chat = Chat(cluster.through_any_node(send) if cluster else send)
        self.config = {"gateway": gateway, **(cluster.describe() if cluster else {})}
        self.page = load("wsaas.demo", "web")
        super().__init__((host, port), DemoHandler)

    def server_bind(self) -> None:
        """Bind without looking up the full name of the host, which may take seconds."""
        if self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # all interfaces, with IPv4 too
        TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        host = UNSPECIFIED.get(str(host), host)
        self.server_name, self.server_port = str(host), int(port)
        self.location = f"[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"{host!s}:{port}"

    def to_gateways(self, call: Callable[[str, str, bytes], Answer]) -> Callable[[str, str, bytes], Answer]:
        """Return a function that calls `call` for addresses of the gateway only, if other machines may use the demo.

        They may send it an event, too. It must not make the chat send requests elsewhere. On this machine, the sender
        may be `wsaas check`, which listens where it likes.
        """

        def checked(method: str, url: str, body: bytes) -> Answer:
            if self.hosts.has_others and urlsplit(full_url(url)).netloc not in self.gateways().values():
                raise ValueError("this is no address of the gateway")
            return call(method, url, body)

        return checked

    def gateways(self) -> dict[int, str]:
        """Return the addresses of the nodes by their number. A gateway without a cluster has the number 0."""
        nodes = self.cluster.nodes.items() if self.cluster else ()
        return {number: node.address for number, node in nodes} or {0: self.gateway}

    def upstream_of(self, path: str) -> tuple[str, str]:
        """Return where to connect a client of the page, and the path without the part that names a node.

        Raises `LookupError` if there is no such node.
        """
        if self.cluster is None:
            return self.upstream, path
        found = NODE_PATH.fullmatch(path)
        return (self.gateways()[int(found["number"])], found["path"]) if found else (self.gateways()[1], path)

    def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - as in the base class
        """Return whether there may be one more connection; answer it otherwise."""
        connection = cast(socket.socket, request)
        with suppress(OSError):
            tunnel.limit_writes(connection)
            if self.connections.add(connection):
                return True
            connection.sendall(BUSY)
        return False

    def shutdown_request(self, request: object) -> None:
        """Close a connection."""
        self.connections.remove(cast(socket.socket, request))
        super().shutdown_request(request)  # type: ignore[arg-type]  # a TCP server has no datagrams

    def service_actions(self) -> None:
        """End what takes too long. `serve_forever` calls this after each poll."""
        self.connections.end_overdue()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of connections, which browsers may close at any time."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stop serving."""
        self.traffic.close()
        self.shutdown()
        self.server_close()


class DemoHandler(Webhook):
    """Serves the requests of the gateway, like the chat, and the requests of the browser."""

    server: DemoServer
    is_first = True

    def handle_one_request(self) -> None:
        """Serve one request, which has to arrive in time."""
        seconds = REQUEST_TIMEOUT_S if self.is_first else IDLE_TIMEOUT_S
        self.server.connections.expect_request(self.connection, seconds)
        self.is_first = False
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the head of a request; return whether there is one that is not too large."""
        if not super().parse_request():
            return False
        if sum(len(name) + len(value) for name, value in self.headers.items()) > MAX_HEAD:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        return True

    def do_POST(self) -> None:  # noqa: N802 - http.server wants this name
        """Serve a request with a body, unless that is too large for where it comes from."""
        size = self.headers.get("Content-Length", "0")
        if not size.isdecimal():
            self.refuse(HTTPStatus.BAD_REQUEST)
        elif int(size) > MAX_BODY_OF_OTHERS and is_of_other_machine(self.connection):
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            super().do_POST()

    do_PUT = do_DELETE = do_POST  # noqa: N815 - http.server wants these names

    def decide(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Let the chat handle the request, and record both."""
        self.server.connections.request_arrived(self.connection)
        if len(body) < int(headers.get("content-length", 0)):
            self.close_connection = True
            return answer("BAD_REQUEST", HTTPStatus.BAD_REQUEST, message="The body is not complete.")
        path = urlsplit(self.path).path
        if (found := NODE_ACTION.fullmatch(path)) and self.command == "POST":
            return self.act_on_node(int(found["number"]), found["action"], headers)
        if path != WEBHOOK:
            return answer("NOT_FOUND", HTTPStatus.NOT_FOUND, message=f"The backend is at {WEBHOOK}.")
        if "origin" in headers:
            # Only browsers send `Origin`. A web page must not make the chat push to addresses of its choice.
            return answer("FORBIDDEN", HTTPStatus.FORBIDDEN, message="Only the gateway may call this.")
        url = f"http://{headers.get('host', 'localhost')}{self.path}"
        shown = dict(self.headers.items())
        request = Request("backend", self.command, url, shown, body, headers.get("ws-uri", ""))
        chat = self.server.chat
        return self.server.traffic.observe(request, lambda: chat.handle(self.command, headers, body))

    def act_on_node(self, number: int, action: str, headers: Mapping[str, str]) -> Answer:
        """Kill or start a node, for the page."""
        if not self.is_own_page(headers.get("host", ""), headers.get("origin")):
            # No other web page may do this.
            return answer("FORBIDDEN", HTTPStatus.FORBIDDEN, message="Only the page of the demo may do this.")
        cluster = self.server.cluster
        if cluster is None or number not in cluster.nodes:
            return answer("NOT_FOUND", HTTPStatus.NOT_FOUND, message="There is no such node.")
        done = cluster.kill_node(number) if action == "kill" else cluster.start_node(number)
        return answer("OK") if done else answer("CONFLICT", HTTPStatus.CONFLICT, message="It is done already.")

    def do_GET(self) -> None:  # noqa: N802 - http.server wants this name
        """Serve the page and its requests."""
        self.server.connections.request_arrived(self.connection)
        if not self.server.hosts.allow(self.headers.get("Host", "")):
            here = f"Open http://localhost:{self.server.server_port}/ instead."
            advice = f"{here} For another name of this machine, start the demo with --host NAME.\n"
            self.send("text/plain", advice.encode(), HTTPStatus.FORBIDDEN)
            return
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.connect_client()
            return
        url = urlsplit(self.path)
        match url.path:
            case "/":
                self.send("text/html; charset=utf-8", self.server.page.html)
            case "/config":
                self.send("application/json", json.dumps(self.server.config).encode())
            case "/nodes" if self.server.cluster:
                self.send("application/json", json.dumps(self.server.cluster.describe()).encode())
            case "/traffic":
                after = parse_qs(url.query).get("after", [""])[0]
                self.stream(self.headers.get("Last-Event-ID", after))
            case _:
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

    def is_own_page(self, host: str, origin: str | None) -> bool:
        """Return whether a request is from the page of the demo, or from no page at all."""
        return self.server.hosts.allow(host) and is_own_origin(origin, host)

    def connect_client(self) -> None:
        """Pass a WebSocket on to the gateway, or to the node that its path names. No other web page may open one."""
        if not self.is_own_page(self.headers.get("Host", ""), self.headers.get("Origin")):
            self.send("text/plain", b"Only the page of the demo may do this.\n", HTTPStatus.FORBIDDEN)
            return
        self.close_connection = True
        try:
            address, path = self.server.upstream_of(self.path)
            gateway = tunnel.connect(address)
        except (OSError, LookupError):
            self.send("text/plain", b"The gateway does not answer.\n", HTTPStatus.BAD_GATEWAY)
            return
        with closing(gateway):
            gateway.sendall(tunnel.request_head(path, self.headers.items()))
            tunnel.relay(self.connection, self.rfile, gateway)

    def refuse(self, status: HTTPStatus) -> None:
        """Answer with an error, and read nothing more."""
        self.close_connection = True
        self.send_error(status)

    def send(self, content_type: str, body: bytes, status: int = HTTPStatus.OK) -> None:
        """Send a response to a browser."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY.format(sources=self.server.page.sources))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def stream(self, after: str) -> None:
        """Send the traffic as Server-Sent Events, until the browser closes or the server stops."""
        self.close_connection = True  # the body has no length, so it ends with the connection
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        for events in self.server.traffic.stream(after):
            self.wfile.write(events.encode())
            self.wfile.flush()
