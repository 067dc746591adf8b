"""The WebSockets of the page, which its server passes on to the gateway. The client is that of wsproto."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage

from tests.support.demo import serving
from tests.support.demo_cluster import options
from tests.support.waiting import TIMEOUT_S
from wsaas.demo import tunnel
from wsaas.demo.cluster import Cluster
from wsaas.demo.server import DemoServer


class FakeNode:
    """A gateway that accepts one WebSocket, answers with its path, echoes one message and closes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.headers: dict[bytes, bytes] = {}

    def serve(self) -> None:
        """Serve one client."""
        browser, _ = self.listener.accept()
        ws, said = WSConnection(ConnectionType.SERVER), ""
        with browser:
            while data := browser.recv(65536):
                ws.receive_data(data)
                for event in ws.events():
                    if isinstance(event, Request):
                        self.headers = dict(event.extra_headers)
                        accepted = ws.send(AcceptConnection()) + ws.send(TextMessage(event.target))
                        browser.sendall(accepted)
                    elif isinstance(event, TextMessage):
                        said += event.data
                        if event.message_finished:
                            browser.sendall(ws.send(TextMessage(said)) + ws.send(CloseConnection(1000)))


@contextmanager
def served(node: FakeNode) -> Iterator[None]:
    """Serve one client in a thread."""
    thread = Thread(target=node.serve)
    thread.start()
    yield
    thread.join(TIMEOUT_S)
    assert not thread.is_alive(), "the end of the browser ends the connection to the gateway"
    node.listener.close()


def visit(port: int, path: str, **headers: str) -> list[object]:
    """Connect as a browser does, say hello once connected, and return the events until the end."""
    ws = WSConnection(ConnectionType.CLIENT)
    extra = [(name.encode(), text.encode()) for name, text in headers.items()]
    seen = list[object]()
    with closing(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)) as sock:
        sock.sendall(ws.send(Request(host=f"localhost:{port}", target=path, extra_headers=extra)))
        while data := sock.recv(65536):
            ws.receive_data(data)
            for event in ws.events():
                seen.append(event)
                if isinstance(event, AcceptConnection):
                    sock.sendall(ws.send(TextMessage("hello" * 50_000)))
                elif isinstance(event, CloseConnection):
                    sock.sendall(ws.send(event.response()))
                    return seen
                elif isinstance(event, RejectConnection):
                    return seen
    raise AssertionError("the server has hung up")


def texts(seen: list[object]) -> str:
    """Return the text of all messages."""
    return "".join(event.data for event in seen if isinstance(event, TextMessage))


@pytest.fixture
def node() -> FakeNode:
    """A gateway for one client."""
    return FakeNode()


def test_a_websocket_reaches_the_gateway_with_its_path_and_all_headers(node: FakeNode) -> None:
    server = DemoServer("127.0.0.1", 0, node.address)
    with serving(server), served(node):
        origin = f"http://localhost:{server.server_port}"
        seen = visit(server.server_port, "/rooms/lobby?nick=a%20b", Origin=origin, Cookie="a=b")
    assert texts(seen) == "/rooms/lobby?nick=a%20b" + "hello" * 50_000
    assert isinstance(seen[-1], CloseConnection)
    assert seen[-1].code == 1000
    assert (node.headers[b"origin"], node.headers[b"cookie"]) == (origin.encode(), b"a=b")


def test_the_gateway_may_listen_elsewhere_than_its_name_says(node: FakeNode) -> None:
    server = DemoServer("127.0.0.1", 0, "http://gateway.example")
    server.upstream = node.address
    with serving(server), served(node):
        assert texts(visit(server.server_port, "/echo")).startswith("/echohello")


@pytest.mark.parametrize(("path", "reached"), [("/nodes/2/echo", 2), ("/echo", 1)])
def test_a_path_names_the_node(tmp_path: Path, node: FakeNode, path: str, reached: int) -> None:
    cluster = Cluster(options(tmp_path))
    cluster.nodes[reached].address = node.address
    server = DemoServer("127.0.0.1", 0, "localhost:1", cluster)
    with serving(server), served(node):
        assert texts(visit(server.server_port, path)).startswith("/echohello")


def refused(seen: list[object]) -> int:
    """Return the status of the response that refuses the handshake."""
    assert isinstance(seen[0], RejectConnection)
    return seen[0].status_code


def test_no_other_page_may_connect(node: FakeNode) -> None:
    with serving(server := DemoServer("127.0.0.1", 0, node.address)):
        assert refused(visit(server.server_port, "/echo", Origin="http://evil.example")) == 403
    node.listener.close()


def test_a_gateway_that_does_not_answer_is_502(tmp_path: Path, node: FakeNode) -> None:
    node.listener.close()
    with serving(server := DemoServer("127.0.0.1", 0, node.address)):
        assert refused(visit(server.server_port, "/echo")) == 502
    with serving(server := DemoServer("127.0.0.1", 0, "localhost:1", Cluster(options(tmp_path)))):
        assert refused(visit(server.server_port, "/nodes/9/echo")) == 502


def test_a_browser_that_is_gone_ends_the_connection_to_the_gateway(node: FakeNode) -> None:
    server = DemoServer("127.0.0.1", 0, node.address)
    ws = WSConnection(ConnectionType.CLIENT)
    with (
        serving(server),
        served(node),
        closing(socket.create_connection(("127.0.0.1", server.server_port), timeout=TIMEOUT_S)) as sock,
    ):
        sock.sendall(ws.send(Request(host="localhost", target="/echo")))
        assert sock.recv(12) == b"HTTP/1.1 101"


def test_a_browser_that_does_not_read_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "WRITE_TIMEOUT_S", 1)
    monkeypatch.setattr(tunnel, "LINGER_S", 0.1)
    (browser, server), (near, gateway) = socket.socketpair(), socket.socketpair()
    with closing(browser), closing(server), closing(near), closing(gateway), server.makefile("rb") as received:
        tunnel.limit_writes(server)
        passing = Thread(target=tunnel.relay, args=(server, received, near), daemon=True)
        passing.start()
        sending = Thread(target=send_without_end, args=(gateway,), daemon=True)
        sending.start()
        passing.join(TIMEOUT_S)
        assert not passing.is_alive()
        near.close()
        sending.join(TIMEOUT_S)


def send_without_end(sock: socket.socket) -> None:
    """Send until the other end is closed."""
    with suppress(OSError):
        while True:
            sock.sendall(bytes(65536))
