"""A gateway whose standard error is a pipe that is read late or not at all."""

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command import ThreadedBackend, connect_client, environment, join_demo_room
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S

pytestmark = pytest.mark.slow

PIPE = 4096
FEW_LINES = "from wsaas.log import output; output.MAX_QUEUED_LINES = 50; "
CONFIGURE = "from wsaas.log import logger, output; output.configure('INFO', 'text')\n"
RUN = "import sys; from wsaas.__main__ import main; sys.exit(main())"
CRASH = """
from wsaas.gateway import Gateway
async def crash(self):
    raise RuntimeError("on purpose")
Gateway.run = crash
"""


class Unread:
    """A process whose standard error is a small pipe. `said`: the bytes read from it."""

    def __init__(self, process: "subprocess.Popen[bytes]", pipe: int, port: int) -> None:
        self.process = process
        self.port = port
        self.said = b""
        self._pipe = pipe

    @property
    def waiting(self) -> int:
        """The number of bytes in the pipe."""
        return int.from_bytes(fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

    def read_until(self, mark: bytes) -> None:
        while mark not in self.said:
            piece = os.read(self._pipe, 1 << 16)
            assert piece, self.said
            self.said += piece

    def read_all(self) -> None:
        while piece := os.read(self._pipe, 1 << 16):
            self.said += piece

    def is_healthy(self) -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)

    def chatter(self, visit: Callable[[int], socket.socket] = connect_client) -> None:
        """Connect and disconnect clients, each of which is logged, until the pipe is full."""
        deadline = time.monotonic() + TIMEOUT_S
        before, unchanged = -1, 0
        while unchanged < 100:
            assert time.monotonic() < deadline
            visit(self.port).close()
            unchanged = unchanged + 1 if self.waiting == before > 0 else 0
            before = self.waiting

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM; return the exit status and the seconds until the exit."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S), time.monotonic() - start


@contextmanager
def unread(code: str, *arguments: str, **variables: str) -> Iterator[Unread]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment(WS_HOSTNAME=f"127.0.0.1:{port}", LOG_LEVEL="DEBUG", **variables),
        stdout=subprocess.DEVNULL,
        stderr=writer,
    ) as process:
        os.close(writer)
        try:
            yield Unread(process, reader, port)
        finally:
            if process.poll() is None:
                process.kill()
            os.close(reader)


def test_a_log_that_is_not_read_does_not_stop_the_gateway(backend: ThreadedBackend) -> None:
    with unread(RUN, API_URI=backend.uri) as gateway:
        gateway.read_until(b"listening")
        gateway.chatter()
        assert gateway.is_healthy()
        connect_client(gateway.port).close()
        status, seconds = gateway.stop()
    assert status == 0
    assert seconds < 10


def test_a_reader_that_comes_back_learns_how_many_lines_were_dropped(backend: ThreadedBackend) -> None:
    with unread(FEW_LINES + RUN, API_URI=backend.uri) as gateway:
        gateway.read_until(b"listening")
        gateway.chatter()
        assert gateway.is_healthy()
        gateway.read_until(b"dropped")
        reader = threading.Thread(target=gateway.read_all)
        reader.start()
        # Once all DELETEs are answered, the queue has room for every further line.
        deadline = time.monotonic() + TIMEOUT_S
        while backend.methods.count("DELETE") < backend.methods.count("POST"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        gateway.process.send_signal(signal.SIGTERM)
        status = gateway.process.wait(TIMEOUT_S)
        reader.join(TIMEOUT_S)
    assert status == 0
    lines = gateway.said.decode().splitlines()
    notice = r"\S+Z WARN \d+ log lines were dropped because standard error was not read"
    assert any(re.fullmatch(notice, line) for line in lines)
    assert lines[-1].endswith(" INFO stopped")
    assert all(re.match(r"\S+Z (DEBUG|INFO|WARN) ", line) for line in lines)


@pytest.mark.parametrize("is_read", [True, False])
def test_a_crash_is_logged_with_its_traceback_and_ends_the_process(backend: ThreadedBackend, is_read: bool) -> None:
    flood = "" if is_read else f"\n{CONFIGURE}logger.info('.' * 9000)\n"
    with unread(CRASH + flood + RUN, API_URI=backend.uri) as gateway:
        if is_read:
            gateway.read_all()
        assert gateway.process.wait(TIMEOUT_S) == 1
        if is_read:
            assert b" ERROR the gateway ended with an uncaught exception\nTraceback" in gateway.said
            assert gateway.said.endswith(b"RuntimeError: on purpose\n")


def test_the_last_log_lines_are_written_before_the_process_exits() -> None:
    last = CONFIGURE + "for n in range(3000): logger.info('%d', n)\n"
    with unread(last + "import sys; sys.exit(3)") as process:
        process.read_all()
        assert process.process.wait(TIMEOUT_S) == 3
    assert [int(line.rpartition(b" ")[2]) for line in process.said.splitlines()] == list(range(3000))


def test_a_demo_whose_output_is_not_read_keeps_running_and_stops(tmp_path: Path) -> None:
    with unread(
        RUN,
        "demo",
        "--log-level",
        "DEBUG",
        "--ws-hostname",
        f"localhost:{(port := free_port())}",
        XDG_STATE_HOME=str(tmp_path),
    ) as gateway:
        gateway.port = port
        gateway.read_until(b"listening")
        gateway.chatter(join_demo_room)
        assert gateway.is_healthy()
        status, seconds = gateway.stop()
    assert status == 0
    assert seconds < 10
