"""What the cases share: a gateway in a process of its own, with this process as its backend and its clients."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar, cast

OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"code":"OK"}'
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HOST = "127.0.0.1"
HERE = Path(__file__).parents[1]
AT_ONCE = 100
START_TIMEOUT = 20.0
"""Seconds that a gateway may take to start."""
P = TypeVar("P", bound=asyncio.Protocol)


class Seen:
    """What the backend was told, and says.

    The `ws_uris` in the order of their POSTs; `on_put` is called for each message, behind its `answer`; `on_close` with
    the `ws_uri` of a client that is to be closed.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.answer = OK
        self.on_put: Callable[[], None] = lambda: None
        self.on_close: Callable[[str], None] = lambda _: None
        self.ws_uris: list[str] = []


class Backend(asyncio.Protocol):
    """Takes every client. One request is under way on a connection, and its head arrives whole: it is small."""

    def __init__(self, seen: Seen) -> None:
        """Tell `seen`."""
        self.seen = seen
        self.head = b""
        self.left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        if not self.left:
            self.head, _, data = data.partition(b"\r\n\r\n")
            self.left = int(self.head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        self.left -= len(data)
        if self.left:
            return
        if self.head.startswith(b"PUT"):
            self.transport.write(self.seen.answer)
            self.seen.on_put()
            return
        self.transport.write(OK)
        if self.head.startswith(b"POST"):
            self.seen.ws_uris.append(self.head.partition(b"Ws-Uri: ")[2].partition(b"\r\n")[0].decode())


class Client(asyncio.Protocol):
    """A WebSocket client that counts what it gets: `arrived(bytes)` is called with each piece."""

    handshake = HANDSHAKE

    def __init__(self, arrived: Callable[[bytes], None]) -> None:
        """Call `arrived` once the handshake is done."""
        self.arrived = arrived
        self.opened = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.handshake)

    def data_received(self, data: bytes) -> None:
        """Take what comes."""
        if self.opened.done():
            self.arrived(data)
        else:
            self.opened.set_result(data.startswith(b"HTTP/1.1 101"))


class Rig:
    """A running gateway: its `process` and `port`, what its backend has `seen`, and how to speak `tls` with it.

    `control` is the port of the REST surface: `port`, unless the two listen apart. `log` is what it wrote to stderr.
    """

    def __init__(
        self, process: Process, ports: tuple[int, int], log: Path, seen: Seen, tls: ssl.SSLContext | None
    ) -> None:
        """Hold what `gateway` made."""
        self.process = process
        self.port, self.control = ports
        self.log = log
        self.seen = seen
        self.tls = tls

    async def reach(self, make: Callable[[], P]) -> P:
        """Open a connection of what `make` makes."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(make, HOST, self.port, ssl=self.tls)
        return protocol

    async def connect(self, arrived: Callable[[bytes], None]) -> Client:
        """Open one client."""
        client = await self.reach(lambda: Client(arrived))
        if not await client.opened:
            raise ConnectionError("refused")
        return client

    async def connect_many(self, number: int, arrived: Callable[[bytes], None]) -> list[Client]:
        """Open `number` clients, some at a time."""
        clients: list[Client] = []
        while len(clients) < number:
            some = min(AT_ONCE, number - len(clients))
            clients += await asyncio.gather(*(self.connect(arrived) for _ in range(some)))
        return clients

    def memory(self) -> int:
        """Return the gateway's proportional set size in bytes."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise LookupError("no Pss")

    def resident(self) -> int:
        """Return the gateway's resident memory in bytes. Unlike `memory` this does not hold the gateway up."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu(self) -> float:
        """Return the gateway's user and system time so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def certificate(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """Return the settings of a gateway with a certificate of its own, made in `folder`, and what its clients speak."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    making = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-days", "1", "-subj", "/CN=benchmark", "-addext", f"subjectAltName=IP:{HOST}")
    subprocess.run((*making, "-keyout", key, "-out", cert, *names), check=True, capture_output=True)
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}, ssl.create_default_context(cafile=str(cert))


@dataclass(frozen=True)
class Launch:
    """How a gateway is started.

    `checkout`: the folder that the package is taken from. `core`: the only core that it runs on. `descriptors`: its
    hard limit of open files. `apart`: the REST surface listens on a port of its own.
    """

    checkout: Path = HERE
    core: int | None = None
    descriptors: int = 0
    apart: bool = False


def free_ports(number: int) -> list[int]:
    """Return so many different ports on which nobody listens."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [int(listener.getsockname()[1]) for listener in listeners]


async def start(command: Sequence[str], launch: Launch, environment: Mapping[str, str], log: Path) -> Process:
    """Start a gateway whose stderr goes to the file `log`; return once it listens.

    Raises `ConnectionError` if it ends before, `TimeoutError` if it takes too long. The log is a file because a pipe
    that nobody reads would fill up and stop the gateway.
    """
    if launch.descriptors:
        command = ("sh", "-c", 'ulimit -n "$0" && exec "$@"', str(launch.descriptors), *command)
    cores = os.sched_getaffinity(0) if launch.core is not None else set()
    with log.open("wb") as output:
        if launch.core is not None:
            os.sched_setaffinity(0, {launch.core})  # a child inherits it
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env=environment, cwd=log.parent, stdin=asyncio.subprocess.DEVNULL, stderr=output
            )
        finally:
            if cores:
                os.sched_setaffinity(0, cores)
    await listening(process, log, 1 + launch.apart)
    return process


async def listening(process: Process, log: Path, listeners: int) -> None:
    """Return once `log` says that `process` has so many listeners."""

    def said() -> str:
        return log.read_text(errors="replace")

    deadline = time.monotonic() + START_TIMEOUT
    while said().count("listening") < listeners:
        if process.returncode is not None:
            raise ConnectionError(f"the gateway did not start: {said()[-2000:]}")
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError("the gateway does not listen")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def gateway(
    launch: Launch = Launch(),
    backend: Callable[[Seen], asyncio.Protocol] = Backend,
    /,
    *,
    tls: bool = False,
    **settings: str,
) -> AsyncIterator[Rig]:
    """Run a gateway with `settings` (variables) in front of a `backend` in this process."""
    seen = Seen()
    server = await asyncio.get_running_loop().create_server(lambda: backend(seen), HOST, 0, backlog=4096)
    port, other = free_ports(2)
    control = other if launch.apart else port
    with TemporaryDirectory() as folder:
        files, context = certificate(Path(folder)) if tls else ({}, None)
        apart = {"LISTEN": f"{HOST}:{port}", "CONTROL_LISTEN": f"{HOST}:{control}"} if launch.apart else {}
        environment = {
            **os.environ,
            "PYTHONPATH": str(launch.checkout),
            "API_URI": f"{HOST}:{server.sockets[0].getsockname()[1]}/",
            "WS_HOSTNAME": f"{HOST}:{control}",
            **apart,
            **files,
            **settings,
        }
        log = Path(folder) / "log"
        try:
            process = await start((sys.executable, "-m", "wsaas"), launch, environment, log)
            try:
                yield Rig(process, (port, control), log, seen, context)
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()
        finally:
            server.close()
