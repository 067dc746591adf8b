"""What a target is: a gateway that can be started on a core of its own, loaded, and stopped."""

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

from benchmarks import processes
from benchmarks.machine import pinned
from benchmarks.wire import HOST

START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 5
HANDSHAKE = (
    "GET /c/{n} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Authorization: Bearer 0123456789abcdef\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GROUP = "all"
"""The group or channel of all clients, in the cases that publish."""

PUSH = "PUT {id} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"


class TargetError(Exception):
    """A target did not start, or ended while it was measured. The text holds the end of its log."""


@dataclass(frozen=True)
class Placement:
    """Where a target runs: its ports, a folder for its files, and how many connections it may have to the backend."""

    backend: int
    """Port of the backend."""
    client: int
    """Port that clients connect to."""
    control: int
    """Port that a target uses if it takes requests of the backend apart from clients."""
    folder: Path
    connections: int

    @property
    def log(self) -> Path:
        """What the target wrote to stdout and stderr."""
        return self.folder / "log"


class Target(ABC):
    """A gateway that can be measured. A new one is a subclass in a file of its own, registered in `TARGETS`."""

    name = ""
    install = ""
    """The command that installs what `missing` finds missing."""
    largest = 16 << 20
    """Bytes of the largest message that it takes."""
    most = 65_000
    """Clients that it takes: no more are opened."""
    handshake = HANDSHAKE
    """Template of a client's handshake, see the README of the load generator."""
    push = PUSH
    """Template of the request that pushes a message."""
    publish = ""
    """Template of the request that sends one message to all clients; empty: it has none."""
    send = ""
    """Template of the request that names the clients to which it sends a message; empty: it has none."""
    member_handshake = ""
    """Template of the handshake of a client that is to get what is published to `GROUP`; empty: the usual one."""
    grip = False
    """Whether the backend speaks WebSocket-over-HTTP."""
    descriptors = 0
    """Hard limit of its open files; 0: that of this process."""

    def __repr__(self) -> str:
        """Return the name."""
        return self.name

    def missing(self) -> bool:
        """Return whether something that it needs is not installed."""
        return False

    def version(self) -> str:
        """Return which version is measured, in a few words."""
        return ""

    @abstractmethod
    def command(self, placement: Placement) -> Sequence[str]:
        """Return the command that starts it; write the files that it needs into the folder."""

    def environment(self, _placement: Placement) -> Mapping[str, str]:
        """Return environment variables to set."""
        return {}

    def control_port(self, placement: Placement) -> int:
        """Return the port that the backend sends its requests to."""
        return placement.client

    def control_address(self, placement: Placement) -> str:
        """Return where the backend sends its requests, see the README of the load generator."""
        return f"{HOST}:{self.control_port(placement)}"

    def is_ready(self, placement: Placement) -> bool:
        """Return whether it takes clients and requests."""
        return all(_accepts(port) for port in {placement.client, self.control_port(placement)})

    def load_settings(self, placement: Placement, *, grouped: bool = False) -> list[str]:
        """Return the arguments of the load generator. `grouped`: all clients join `GROUP`."""
        optional = {"publish": self.publish, "send": self.send, "group": GROUP if grouped else ""}
        handshake = (grouped and self.member_handshake) or self.handshake
        return [
            f"backend={placement.backend}",
            f"client={HOST}:{placement.client}",
            f"control={self.control_address(placement)}",
            f"handshake={handshake}",
            f"push={self.push}",
            f"grip={int(self.grip)}",
            *(f"{name}={value}" for name, value in optional.items() if value),
        ]


@contextmanager
def placement(connections: int, backend: int = 0) -> Iterator[Placement]:
    """Find free ports and make a temporary folder. `backend`: the port of a backend that listens already."""
    with TemporaryDirectory(prefix="wsaas-benchmarks-") as folder:
        with ExitStack() as sockets:
            listeners = [sockets.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
            free, client, control = (int(listener.getsockname()[1]) for listener in listeners)
        yield Placement(backend or free, client, control, Path(folder), connections)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def _wait_until_ready(process: "subprocess.Popen[bytes]", target: Target, where: Placement) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not target.is_ready(where):
        if process.poll() is not None or time.monotonic() > deadline:
            raise TargetError(f"it did not start:\n{where.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def _stop(process: "subprocess.Popen[bytes]", signals: Sequence[signal.Signals]) -> None:
    descendants = processes.tree(process.pid)[1:]
    for number in signals:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT_S)
    # Workers have process groups of their own, and would take CPU time of the next run until they had drained.
    for each in descendants:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


@contextmanager
def running(
    target: Target, where: Placement, core: int | None, *, kill: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `target` on `core` inside the block. `kill`: end it by SIGKILL, without a drain. Raises `TargetError`.

    Its output goes to a file, because an unread pipe would fill up and stop it.
    """
    command = target.command(where)
    if target.descriptors:
        command = ("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(target.descriptors), *command)
    with where.log.open("wb") as output, pinned(core):
        process = subprocess.Popen(
            command,
            env={**os.environ, **target.environment(where)},
            cwd=where.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, target, where)
        yield process
    finally:
        _stop(process, [signal.SIGKILL] if kill else [signal.SIGTERM, signal.SIGKILL])
