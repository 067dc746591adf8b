"""A WSaaS gateway in a process of its own, with this process as its backend and its clients, in asyncio.

For cases that need TLS, settings of the gateway, or clients and backends that misbehave. To compare gateways under
full load, `benchmarks.load_generator` plays the clients and the backend instead.
"""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

from benchmarks import processes
from benchmarks.report import K, R, in_turn
from benchmarks.targets.base import Placement, placement, running
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import HANDSHAKE, HOST, OK, header, response

AT_ONCE = 100
"""Handshakes under way while many clients are opened."""

P = TypeVar("P", bound=asyncio.Protocol)


def ignore(_: object) -> None:
    """Do nothing with what arrives."""


@dataclass
class BackendState:
    """What the backend was asked so far and how it answers, for all of its connections."""

    answer: bytes = OK
    """The response to a PUT."""
    on_put: Callable[[], None] = lambda: None
    """Called behind the response to each PUT."""
    on_close: Callable[[str], None] = ignore
    """Called with the `ws_uri` of a client that the backend wants to disconnect."""
    ws_uris: list[str] = field(default_factory=list)
    """Of each POST, in order."""


class Backend(asyncio.Protocol):
    """A connection of the gateway to the backend, which accepts every client.

    One request is under way at a time, and its head arrives in one piece, because it is small.
    """

    def __init__(self, state: BackendState) -> None:
        """Share `state` with the other connections."""
        self.state = state
        self.head = b""
        self._missing = 0
        self._chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is complete."""
        if not self._missing:
            self.head, _, data = data.partition(b"\r\n\r\n")
            self._missing = int(self.head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            self._chunks = []
        self._chunks.append(data)
        self._missing -= len(data)
        if not self._missing:
            self.respond(self.head[: self.head.index(b" ")].decode())

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return b"".join(self._chunks)

    @property
    def ws_uri(self) -> str:
        """The `ws_uri` of the client that the request is about."""
        return header(self.head, "Ws-Uri")

    def respond(self, method: str) -> None:
        """Answer the request, whose `head` and `body` are complete."""
        if method == "PUT":
            self.transport.write(self.state.answer)
            self.state.on_put()
            return
        if method == "POST":
            self.state.ws_uris.append(self.ws_uri)
        self.transport.write(OK)


class EchoBackend(Backend):
    """Sends each message back to its client, in the response to the PUT."""

    def respond(self, method: str) -> None:
        """Answer a PUT with its own body as a message."""
        if method == "PUT":
            self.transport.write(response(200, "Ws-Reply: text\r\n", self.body))
        else:
            super().respond(method)


class Client(asyncio.Protocol):
    """A WebSocket client. `received` is called with all bytes that arrive after the handshake."""

    def __init__(self, received: Callable[[bytes], None], handshake: bytes = HANDSHAKE) -> None:
        """Be ready to connect."""
        self._received = received
        self._handshake = handshake
        self.opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether the gateway accepted the handshake."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        """Take the response to the handshake, then frames."""
        if self.opened.done():
            self._received(data)
        else:
            self.opened.set_result(data.startswith(b"HTTP/1.1 101"))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that the gateway closed the connection without a response."""
        if not self.opened.done():
            self.opened.set_result(False)


class Caller(asyncio.Protocol):
    """A connection of the backend to the REST API, with one request on it at a time."""

    def __init__(self) -> None:
        """Be ready for the first request."""
        self._response: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take a response, which arrives in one piece."""
        if self._response is not None and not self._response.done():
            self._response.set_result(data)

    async def call(self, data: bytes) -> bytes:
        """Send the request `data`; return the response."""
        self._response = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._response


class Rig:
    """A running gateway, its backend's `state`, and what opens connections to it."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        where: Placement,
        control_port: int,
        state: BackendState,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Take over what `gateway` made."""
        self.process = process
        self.port = where.client
        self.control_port = control_port
        self.state = state
        self.tls = tls
        self._log = where.log

    async def reach(self, make: Callable[[], P]) -> P:
        """Open a connection to the clients' port, over TLS if the gateway has it; return its protocol."""
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(make, HOST, self.port, ssl=self.tls)
        return protocol

    async def connect(self, received: Callable[[bytes], None] = ignore, handshake: bytes = HANDSHAKE) -> Client:
        """Open a WebSocket client. Raises `ConnectionError` if the gateway refuses it."""
        client = await self.reach(lambda: Client(received, handshake))
        if not await client.opened:
            raise ConnectionError("the gateway refused a client")
        return client

    async def connect_many(self, number: int, handshake: bytes = HANDSHAKE) -> list[Client]:
        """Open `number` clients, `AT_ONCE` at a time."""
        clients: list[Client] = []
        while len(clients) < number:
            some = min(AT_ONCE, number - len(clients))
            clients += await asyncio.gather(*(self.connect(handshake=handshake) for _ in range(some)))
        return clients

    def log(self) -> str:
        """Return what the gateway has logged so far."""
        return self._log.read_text(errors="replace")

    def memory(self) -> int:
        """Return the gateway's proportional set size in bytes."""
        return processes.memory([self.process.pid])

    def resident(self) -> int:
        """Return the gateway's resident memory in bytes, without stopping it meanwhile."""
        return processes.resident(self.process.pid)

    def cpu(self) -> float:
        """Return the CPU time of the gateway so far, in seconds."""
        return processes.cpu([self.process.pid])


def certificate(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """Make a self-signed certificate in `folder`; return the gateway's settings for it and its clients' context."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-days", "1", "-subj", "/CN=benchmark", "-addext", f"subjectAltName=IP:{HOST}")
    subprocess.run((*command, "-keyout", key, "-out", cert, *names), check=True, capture_output=True)
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}, ssl.create_default_context(cafile=str(cert))


@asynccontextmanager
async def gateway(
    target: Wsaas | None = None,
    backend: Callable[[BackendState], asyncio.Protocol] = Backend,
    *,
    tls: bool = False,
    core: int | None = None,
) -> AsyncIterator[Rig]:
    """Run `target` (by default this checkout with its defaults) in front of a `backend` in this process.

    Raises `TargetError` if it does not start.
    """
    target = target or Wsaas()
    state = BackendState()
    server = await asyncio.get_running_loop().create_server(lambda: backend(state), HOST, 0, backlog=4096)
    try:
        with placement(0, server.sockets[0].getsockname()[1]) as where:
            context = None
            if tls:
                files, context = certificate(where.folder)
                target.settings.update(files)
            with running(target, where, core, kill=True) as process:
                yield Rig(process, where, target.control_port(where), state, context)
    finally:
        server.close()


def loops_in_turn(runs: Mapping[K, Callable[[], Coroutine[Any, Any, R]]], repeats: int) -> dict[K, list[R]]:
    """Do `in_turn` with coroutines, each on an event loop of its own."""

    def run(make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        return uvloop.run(make())

    return in_turn({name: partial(run, make) for name, make in runs.items()}, repeats)
