"""Whether a slow peer takes what waits for it, as the kernel or the send buffer shows."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack_into

import pytest
from fakes import FakeTransport

from wsaas import progress
from wsaas.progress import SendProgress

SIZE = 148


class FakeSocket:
    """A socket whose kernel says what a test tells it to."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET, size: int = SIZE) -> None:
        self.family = family
        self.size = size
        self.segments = self.acknowledged = self.unsent = 0

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.IPPROTO_TCP, socket.TCP_INFO, SIZE)
        info = bytearray(SIZE)
        pack_into("=I", info, 24, self.segments)
        pack_into("=Q", info, 120, self.acknowledged)
        pack_into("=I", info, 144, self.unsent)
        return bytes(info[: self.size])


class Transport(FakeTransport):
    def __init__(self, sock: FakeSocket | None) -> None:
        super().__init__()
        self.sock = sock

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.sock if name == "socket" else super().get_extra_info(name, default)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_bytes_that_the_peer_acknowledged_are_progress(family):
    sock = FakeSocket(family)
    sent = SendProgress(Transport(sock))
    assert not sent.made()
    sock.acknowledged = 5
    assert sent.made()
    assert not sent.made()


@pytest.mark.parametrize(("segments", "unsent", "backlog"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_bytes_wait_in_flight_in_the_kernel_or_in_the_process(segments, unsent, backlog):
    sock = FakeSocket()
    transport = Transport(sock)
    assert not SendProgress(transport).waiting
    sock.segments, sock.unsent, transport.backlog = segments, unsent, backlog
    assert SendProgress(transport).waiting


SILENT = {
    "a Unix socket": lambda: FakeSocket(socket.AF_UNIX),
    "no socket any more": lambda: None,
    "an older kernel": lambda: FakeSocket(size=104),
}


@pytest.mark.parametrize("make", SILENT.values(), ids=SILENT)
def test_where_the_kernel_tells_nothing_a_shorter_buffer_is_progress(make):
    transport = Transport(make())
    transport.backlog = 10
    sent = SendProgress(transport)
    assert sent.waiting
    assert not sent.made()
    transport.backlog = 20
    assert not sent.made()
    transport.backlog = 19
    assert sent.made()


def test_another_system_has_no_such_option(monkeypatch):
    monkeypatch.setattr(progress, "TCP_INFO", None)
    sock = FakeSocket()
    sent = SendProgress(Transport(sock))
    sock.acknowledged = 5
    assert not sent.made()


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        with here, there:
            yield here, there


def test_a_real_kernel_counts():
    with connected() as (here, there):
        transport = Transport(here)
        sent = SendProgress(transport)
        assert not sent.waiting
        here.sendall(b"x" * 1000)
        assert there.recv(1000)
        # Another exchange, so that the acknowledgement is here for sure.
        there.sendall(b"y")
        assert here.recv(1) == b"y"
        assert sent.made()
