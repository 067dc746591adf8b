"""How many connections the server of the demo takes, and what they may send, in which time."""

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from unittest.mock import Mock

import pytest

from tests.support.demo import DemoBackend
from tests.support.restartable import wait_until
from tests.support.waiting import TIMEOUT_S
from wsaas.demo import connections
from wsaas.demo import server as demo_server
from wsaas.demo.connections import Connections, machine_of, possible_connections
from wsaas.demo.server import DemoServer

OTHER = "127.0.0.2"
"""Another address than that of the server, as other machines have."""


@contextmanager
def connected(port: int, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Connect from an address."""
    with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_S, (source, 0))) as sock:
        yield sock


def status(sock: socket.socket, request: bytes = b"GET /config HTTP/1.1\r\nHost: localhost\r\n\r\n") -> int:
    """Send a request, and return the status of the answer."""
    sock.sendall(request)
    return int(sock.recv(65536).split()[1])


def test_other_machines_have_a_limit_of_their_own(server: DemoServer) -> None:
    server.connections = Connections(limit=3, of_others=1)
    port = server.server_port
    with connected(port, OTHER) as first, connected(port, OTHER) as second, connected(port) as own:
        assert second.recv(65536).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert second.recv(65536) == b""
        assert [status(first), status(own), status(first)] == [200, 200, 200]
        with connected(port) as another, connected(port) as refused:
            assert (status(another), status(refused)) == (200, 503)

    def there_is_room() -> bool:
        with connected(port, OTHER) as sock:
            return status(sock) == 200

    wait_until(there_is_room, "the end of the first connection")


def test_one_other_machine_leaves_room_for_the_next_one(server: DemoServer) -> None:
    server.connections = Connections(limit=4, of_others=3, of_one=1)
    port = server.server_port
    with connected(port, OTHER) as first, connected(port, OTHER) as second, connected(port, "127.0.0.3") as third:
        assert (status(first), status(second), status(third)) == (200, 503, 200)
        with connected(port) as own:
            assert status(own) == 200


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2:0:0:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_a_network_of_ipv6_counts_as_one_machine(one: str, other: str, *, is_same: bool) -> None:
    first, second = (Mock(**{"getpeername.return_value": (address, 1)}) for address in (one, other))
    assert (machine_of(first) == machine_of(second)) == is_same


def test_the_limit_follows_that_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = list[tuple[int, int]]()
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: limits.append(both))
    for hard, expected in ((1024, 320), (1 << 20, connections.MAX_CONNECTIONS)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (256, hard))
        assert possible_connections() == expected
    assert limits == [(1024, 1024), (1 << 20, 1 << 20)]


def test_a_request_has_to_arrive_in_time_and_a_stream_may_take_longer(
    server: DemoServer, backend: DemoBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_server, "REQUEST_TIMEOUT_S", 0.2)
    monkeypatch.setattr(demo_server, "IDLE_TIMEOUT_S", 0.3)
    with (
        closing(HTTPConnection("127.0.0.1", server.server_port, timeout=TIMEOUT_S)) as page,
        connected(server.server_port) as silent,
        connected(server.server_port) as slow,
        connected(server.server_port) as idle,
    ):
        page.request("GET", "/traffic")
        stream = page.getresponse()
        slow.sendall(b"PUT /websocket HTTP/1.1\r\nContent-Length: 5\r\nWs-Context: echo\r\n\r\nhe")
        assert status(idle) == 200
        for sock in (silent, slow, idle):
            while sock.recv(65536):
                pass
        backend.message("1", "echo", b"hello")
        stream.readline()
        (exchange,) = json.loads(stream.readline().removeprefix(b"data: "))
        assert exchange["body"] == "hello", "half of a message is none"
        stream.close()


@pytest.mark.parametrize(
    ("source", "size", "expected"), [(OTHER, "65537", 413), (OTHER, "0", 404), ("127.0.0.1", "-1", 400)]
)
def test_a_body_has_a_size_that_fits_where_it_comes_from(
    server: DemoServer, source: str, size: str, expected: int
) -> None:
    with connected(server.server_port, source) as sock:
        assert status(sock, f"POST /x HTTP/1.1\r\nContent-Length: {size}\r\n\r\n".encode()) == expected


def test_a_head_is_limited(server: DemoServer) -> None:
    with connected(server.server_port) as sock:
        many = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 60_000) for number in range(2))
        assert status(sock, b"GET /config HTTP/1.1\r\n" + many + b"\r\n") == 431
    with connected(server.server_port) as sock:
        sock.sendall(b"GET /config HTTP/3.0\r\n\r\n")
        assert b"505" in sock.recv(65536)
