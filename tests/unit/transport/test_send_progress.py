"""Whether a slow peer reads buffered bytes, as shown by the kernel or by the send buffer."""

import fcntl
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from struct import pack

import pytest

from tests.support.fakes import FakeTransport
from wsaas.transport import send_progress as progress
from wsaas.transport.send_progress import SendProgress

SIZE = 128


class FakeSocket:
    """A socket whose counters in the kernel are set by the test."""

    def __init__(self, family: socket.AddressFamily = socket.AF_INET, size: int = SIZE) -> None:
        self.family = family
        self.size = size
        self.acknowledged = self.queued = 0

    def fileno(self) -> "FakeSocket":
        return self

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (socket.IPPROTO_TCP, socket.TCP_INFO, SIZE)
        return (bytes(120) + self.acknowledged.to_bytes(8, "little"))[: self.size]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fake sockets answer for the kernel."""

    def ioctl(sock: FakeSocket, request: int, _argument: bytes) -> bytes:
        assert request == termios.TIOCOUTQ
        return pack("=i", sock.queued)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)


class Transport(FakeTransport):
    def __init__(self, sock: FakeSocket | socket.socket | None) -> None:
        super().__init__()
        self.sock = sock

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.sock if name == "socket" else super().get_extra_info(name, default)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.usefixtures("kernel")
def test_acknowledged_bytes_are_progress(family):
    sock = FakeSocket(family)
    transport = Transport(sock)
    sock.acknowledged, sock.queued, transport.backlog = 1000, 20, 30
    sent = SendProgress(transport)
    assert sent.remaining == 50
    assert not sent.has_advanced()
    sock.acknowledged += 5
    assert sent.has_advanced()
    assert sent.remaining == 45
    assert not sent.has_advanced()


@pytest.mark.usefixtures("kernel")
def test_only_bytes_that_were_buffered_at_first_count():
    sock = FakeSocket()
    sock.queued = 10
    sent = SendProgress(Transport(sock))
    sock.acknowledged = 4
    assert sent.has_advanced()
    sock.acknowledged = 15
    assert sent.has_advanced()
    # The peer has acknowledged all these bytes. Later bytes do not count.
    sock.acknowledged = 1000
    assert not sent.has_advanced()
    sock.acknowledged = 2000
    assert not sent.has_advanced()


@pytest.mark.usefixtures("kernel")
def test_without_buffered_bytes_there_is_no_progress():
    sock = FakeSocket()
    sent = SendProgress(Transport(sock))
    assert sent.remaining == 0
    sock.acknowledged = 6
    assert not sent.has_advanced()


SILENT = {
    "a Unix socket": lambda: FakeSocket(socket.AF_UNIX),
    "no socket any more": lambda: None,
    "an older kernel": lambda: FakeSocket(size=104),
}


@pytest.mark.parametrize("make", SILENT.values(), ids=SILENT)
@pytest.mark.usefixtures("kernel")
def test_without_a_count_of_the_kernel_a_smaller_buffer_is_progress(make):
    transport = Transport(make())
    transport.backlog = 10
    sent = SendProgress(transport)
    assert sent.remaining == 10
    assert not sent.has_advanced()
    transport.backlog = 20
    assert not sent.has_advanced()
    transport.backlog = 12
    assert sent.has_advanced()
    transport.backlog = 5
    assert sent.has_advanced()
    transport.backlog = 0
    assert not sent.has_advanced()


@pytest.mark.usefixtures("kernel")
def test_systems_other_than_linux_have_no_tcp_info(monkeypatch):
    monkeypatch.setattr(progress, "TCP_INFO", None)
    sock = FakeSocket()
    sock.queued = 10
    sent = SendProgress(Transport(sock))
    sock.acknowledged = 5
    assert not sent.has_advanced()


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        with here, there:
            yield here, there


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what the peer acknowledged")
def test_a_real_kernel_counts_acknowledged_bytes():
    with connected() as (here, there):
        transport = Transport(here)
        assert SendProgress(transport).remaining == 0
        here.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                here.send(b"x" * 100_000)
        sent = SendProgress(transport)
        assert sent.remaining > 0
        assert not sent.has_advanced()
        while not sent.has_advanced():
            assert there.recv(100_000)
