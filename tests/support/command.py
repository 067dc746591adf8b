"""The command `wsaas` in another process, clients on plain sockets, and a backend in a thread."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support.frames import close_frame
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S


class ThreadedBackend(ThreadingHTTPServer):
    """A backend that answers every request with 200, and records their methods."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BackendHandler)
        self.methods: list[str] = []

    @property
    def uri(self) -> str:
        return f"127.0.0.1:{self.server_port}/hook"


class BackendHandler(BaseHTTPRequestHandler):
    """Answers each request with {"code": "OK"}."""

    server: ThreadedBackend

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.methods.append(self.command)
        body = b'{"code": "OK"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_DELETE = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a command, without settings of the caller."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "LANG"}}
    return {**kept, **more}


def run_wsaas(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command until it ends."""
    return subprocess.run(
        [sys.executable, "-m", "wsaas", *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def running_wsaas(**variables: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run the command; yield it and its port once it listens."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "wsaas"],
        env=environment(WS_HOSTNAME=f"127.0.0.1:{port}", **variables),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert f"listening on 127.0.0.1:{port}" in process.stderr.readline()
            yield process, port
        finally:
            if process.poll() is None:
                process.kill()


class RunningCommand:
    """A running command. `lines`: what it has printed to standard output so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.lines: list[str] = []

    def read_until(self, text: str) -> str:
        """Return the next line with `text`."""
        assert self.process.stdout is not None
        while text not in (line := self.process.stdout.readline()):
            assert line, self.lines
            self.lines.append(line)
        self.lines.append(line)
        return line

    def finish(self) -> tuple[int, str]:
        """Wait for its end; return the exit status, and the rest of its standard output."""
        out, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, out


@contextmanager
def running_command(*arguments: str, folder: Path | None = None, **variables: str) -> Iterator[RunningCommand]:
    """Run the command in a session of its own, as a terminal does. `folder`: the current one."""
    with subprocess.Popen(
        [sys.executable, "-m", "wsaas", *arguments],
        cwd=folder,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        # A test that waits for a line in vain gets the end of the output.
        timer = threading.Timer(TIMEOUT_S, process.terminate)
        timer.start()
        try:
            yield RunningCommand(process)
        finally:
            timer.cancel()
            process.terminate()
            process.wait(TIMEOUT_S)


def connect_client(port: int) -> socket.socket:
    """Connect a client."""
    client = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    client.sendall(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return client


def read_to_end(client: socket.socket) -> bytes:
    """Return what the gateway sends until it closes the connection. Its Close is answered if it goes away."""
    data = b""
    while piece := client.recv(4096):
        data += piece
        if b"going away" in piece:
            client.sendall(close_frame(1001))
    return data


def join_demo_room(port: int) -> socket.socket:
    """Join a room of the demo."""
    client = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    client.sendall(
        b"GET /rooms/lobby?nick=ada HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert client.recv(12) == b"HTTP/1.1 101"
    return client
