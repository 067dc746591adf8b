"""What a target is: a gateway that can be started, pinned to a core, and stopped."""

import os
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

HOST = "127.0.0.1"
PATIENCE = 20
HANDSHAKE = (
    "GET /c/{n} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Authorization: Bearer 0123456789abcdef\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PUSH = "PUT {id} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"


class TargetError(Exception):
    """A target did not start."""


@dataclass(frozen=True)
class Place:
    """Where a target runs: its ports, a folder for its files, and how many connections it may have to the backend."""

    backend: int
    client: int
    control: int
    folder: Path
    connections: int


class Target(ABC):
    """One gateway. `install` is the command that installs what `missing` finds missing."""

    name = ""
    install = ""
    largest = 16 << 20
    """Bytes of the largest message that it takes."""
    most = 65_000
    """Clients that it takes: no more are opened."""
    handshake = HANDSHAKE
    push = PUSH
    grip = False

    def missing(self) -> bool:
        """Return whether something that it needs is not installed."""
        return False

    def version(self) -> str:
        """Return which version is measured, in a few words."""
        return ""

    @abstractmethod
    def command(self, place: Place) -> Sequence[str]:
        """Return what starts it; write what it needs into the folder."""

    def environment(self, _place: Place) -> Mapping[str, str]:
        """Return variables to set."""
        return {}

    def pushes_to(self, place: Place) -> int:
        """Return the port that the backend pushes to."""
        return place.client

    def load_settings(self, place: Place) -> list[str]:
        """Return the settings of the load generator."""
        return [
            f"backend={place.backend}",
            f"client={HOST}:{place.client}",
            f"pusher={HOST}:{self.pushes_to(place)}",
            f"handshake={self.handshake}",
            f"push={self.push}",
            f"grip={int(self.grip)}",
        ]


@contextmanager
def place(connections: int) -> Iterator[Place]:
    """Find free ports and make a folder."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="wsaas-benchmarks-"))
        with ExitStack() as sockets:
            listeners = [sockets.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
            backend, client, control = (int(listener.getsockname()[1]) for listener in listeners)
        yield Place(backend, client, control, Path(folder), connections)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def _wait_until_ready(process: "subprocess.Popen[bytes]", ports: set[int], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not all(_answers(port) for port in ports):
        if process.poll() is not None or time.monotonic() > end:
            raise TargetError(f"it did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(5)


@contextmanager
def running(target: Target, where: Place, core: int) -> Iterator[int]:
    """Run `target` on `core`; the value is its process id."""
    log = where.folder / "log"
    environment = {**os.environ, **target.environment(where)}
    command = target.command(where)
    mine = os.sched_getaffinity(0)
    with log.open("wb") as output:
        os.sched_setaffinity(0, {core})  # what is started inherits it
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=where.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.sched_setaffinity(0, mine)
        try:
            _wait_until_ready(process, {where.client, target.pushes_to(where)}, log)
            yield process.pid
        finally:
            _stop(process)
