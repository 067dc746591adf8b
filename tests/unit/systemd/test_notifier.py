"""Reports to systemd, and who gets them."""

import logging
import socket
from contextlib import closing

import pytest

from wsaas.systemd.notifier import Notifier


@pytest.fixture(params=["a file", "abstract"])
def manager(request, tmp_path):
    """A socket as systemd has it, and its path in `NOTIFY_SOCKET`."""
    path = str(tmp_path / "notify")
    shown = path if request.param == "a file" else f"@{path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path if request.param == "a file" else f"\0{path}")
        sock.setblocking(False)
        yield sock, shown


def test_a_report_is_a_datagram_of_lines(manager):
    sock, path = manager
    with closing(Notifier(path)) as notifier:
        assert notifier.is_on
        notifier.send(READY=1, STATUS="3 clients, é")
        notifier.send(WATCHDOG=1)
        assert sock.recv(1000) == "READY=1\nSTATUS=3 clients, é".encode()
        assert sock.recv(1000) == b"WATCHDOG=1"
    notifier.send(READY=1)
    with pytest.raises(BlockingIOError):
        sock.recv(1000)


def test_without_a_socket_nothing_is_reported():
    notifier = Notifier()
    assert not notifier.is_on
    notifier.send(READY=1)
    notifier.close()


def test_a_report_that_cannot_be_sent_is_logged_and_the_last_one(tmp_path, caplog):
    notifier = Notifier(str(tmp_path / "nobody"))
    with caplog.at_level(logging.WARNING):
        notifier.send(READY=1, STATUS="x")
        assert not notifier.is_on
        notifier.send(STOPPING=1)
    (message,) = caplog.messages
    assert message.endswith("could not be told READY, STATUS: No such file or directory")


def test_a_path_that_is_too_long_is_explained(caplog):
    with caplog.at_level(logging.WARNING):
        Notifier("/" + "x" * 200).send(READY=1)
    assert caplog.messages[0].endswith("could not be told READY: AF_UNIX path too long")


def test_a_report_never_blocks(manager, caplog):
    sock, path = manager
    with closing(Notifier(path)) as notifier, caplog.at_level(logging.WARNING):
        while notifier.send(WATCHDOG=1):
            assert not caplog.messages
        assert "Resource temporarily unavailable" in caplog.messages[0]
        assert sock.recv(1000) == b"WATCHDOG=1"
        # There is room again.
        assert notifier.send(STOPPING=1)
        assert len(caplog.messages) == 1
