"""A whole gateway in this process whose connections are not sockets.

The only part that is replaced is the event loop, at two of its methods: `create_server` notes the protocol factory
that it is given, and `create_connection` to the backend makes a `MemoryTransport`. Everything else is the gateway
itself, made by `wsaas.gateway.Gateway` and `wsaas.settings.load`. So this works with every checkout that has these two
names, whatever the modules inside are called.
"""

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest import mock

import uvloop

from benchmarks.wire import HANDSHAKE, HOST, NO_CONTENT, OK, header, path_of

BACKEND = f"{HOST}:9"
"""The address of the backend, which is never connected to."""

ENDLESS_SLICE: Callable[[], float] = repeat(0.0).__next__
"""A timer that has stopped, so that a slice of time never ends. It costs less than a function in Python."""

Factory = Callable[[], asyncio.Protocol]


class MemoryTransport(asyncio.Transport):
    """A transport that keeps what its protocol writes. A benchmark plays the peer."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        """Connect `protocol`."""
        super().__init__()
        self.protocol = protocol
        self.written: list[bytes] = []
        self._closing = False
        protocol.connection_made(self)

    def receive(self, data: bytes) -> None:
        """Let `data` arrive from the peer."""
        self.protocol.data_received(data)

    def lose(self) -> None:
        """End the connection, as the loop does some time after `close` or when the peer ends it."""
        self._closing = True
        self.protocol.connection_lost(None)
        # The protocol may not keep a closed connection alive.
        self.protocol = asyncio.Protocol()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep `data`."""
        if not self._closing:
            self.written.append(bytes(data))

    def write_eof(self) -> None:
        """Do nothing: the peer does not look for the end."""

    def can_write_eof(self) -> bool:
        """Return whether there is an end to write."""
        return True

    def close(self) -> None:
        """Write no more."""
        self._closing = True

    def abort(self) -> None:
        """Write no more."""
        self._closing = True

    def is_closing(self) -> bool:
        """Return whether it is closed."""
        return self._closing

    def pause_reading(self) -> None:
        """Do nothing: the benchmark decides what arrives."""

    def resume_reading(self) -> None:
        """Do nothing: the benchmark decides what arrives."""

    def is_reading(self) -> bool:
        """Return whether data may arrive."""
        return True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        self.protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return self.protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the address of the peer, and nothing else."""
        return ("192.0.2.7", 50000) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        """Return 0: the peer takes everything at once."""
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the usual limits."""
        return 16 * 1024, 64 * 1024

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Do nothing: there is no buffer."""


class Loop(uvloop.Loop):
    """An event loop without connections: see the module. `backend`: the gateway's connections to its backend."""

    def __init__(self) -> None:
        """Start without connections."""
        super().__init__()
        self.factories: list[Factory] = []
        self.private_factories: list[Factory] = []
        self.backend: list[MemoryTransport] = []

    async def create_server(  # type: ignore[override]  # the factories of `asyncio.Protocol` are all there are
        self, protocol_factory: Factory, *args: Any, **options: Any
    ) -> Any:
        """Record the factory. No client ever connects."""
        self.factories.append(protocol_factory)
        return await super().create_server(protocol_factory, *args, **options)

    async def create_unix_server(  # type: ignore[override]  # as above
        self, protocol_factory: Factory, *args: Any, **options: Any
    ) -> Any:
        """Record the factory. No peer ever connects."""
        self.private_factories.append(protocol_factory)
        return await super().create_unix_server(protocol_factory, *args, **options)

    async def create_connection(  # type: ignore[override]  # as above
        self, protocol_factory: Factory, *_args: Any, **_options: Any
    ) -> Any:
        """Return a connection to a backend that answers when the benchmark says so."""
        protocol = protocol_factory()
        transport = MemoryTransport(protocol)
        self.backend.append(transport)
        return transport, protocol


class InProcessGateway:
    """A running gateway, and the peers of its connections. It runs until the process ends."""

    def __init__(self, loop: Loop, folder: "TemporaryDirectory[str]") -> None:
        """Take over the gateway that listens on `loop`. `folder`: of its private socket, removed at the end."""
        self._folder = folder
        self._loop = loop
        self.backend = loop.backend

    def accept(self) -> MemoryTransport:
        """Open a connection to the gateway."""
        return MemoryTransport(self._loop.factories[0]())

    def accept_peer(self) -> MemoryTransport | None:
        """Open a connection to the private socket; return None if the checkout has none."""
        return MemoryTransport(self._loop.private_factories[0]()) if self._loop.private_factories else None

    def answer(self, response: bytes) -> None:
        """Let the backend answer the request on each of its connections that has one."""
        for connection in self.backend:
            while connection.written:
                connection.written.clear()
                connection.receive(response)

    async def connect(self, handshake: bytes = HANDSHAKE, accept: bytes = OK) -> tuple[MemoryTransport, str]:
        """Connect a WebSocket client; return its connection and the path of its `ws_uri`.

        `accept`: how the backend answers.
        """
        client = self.accept()
        client.receive(handshake)
        # The gateway connects to its backend in a task.
        while not (requests := [each for each in self.backend if each.written]):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        path = path_of(header(b"".join(requests[0].written), "Ws-Uri"))
        self.answer(accept)
        if not client.written or not client.written[0].startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"a handshake was answered {client.written}")
        client.written.clear()
        return client, path

    def disconnect(self, client: MemoryTransport, close: bytes) -> None:
        """Let `client` send the frame `close`, and go."""
        client.receive(close)
        client.lose()
        self.answer(NO_CONTENT)


@contextmanager
def descriptors(number: int) -> Iterator[None]:
    """Pretend that this process may open `number` files, as its connections do not take any."""
    limits = (number, number)
    with mock.patch.object(resource, "getrlimit", return_value=limits), mock.patch.object(resource, "setrlimit"):
        yield


async def start(loop: Loop, timer: Callable[[], float] = ENDLESS_SLICE, /, **settings: str) -> InProcessGateway:
    """Start a gateway on `loop`, which is running. `settings`: environment variables.

    `timer` measures the slices of time in which long work is done. By default all of it is done in one step of the
    benchmark, in which the loop does not run.
    """
    with mock.patch.object(time, "perf_counter", timer):
        from wsaas.gateway import Gateway  # noqa: PLC0415 - of the checkout that the caller put on the path
    from wsaas.settings import load  # noqa: PLC0415 - as above

    with socket.create_server((HOST, 0)) as listener:
        hostname = f"{HOST}:{listener.getsockname()[1]}"
    gateway = Gateway(load({}, {"API_URI": f"{BACKEND}/", "WS_HOSTNAME": hostname, **settings}), loop)
    folder = TemporaryDirectory(prefix="wsaas-benchmarks-")
    if hasattr(gateway, "start_private"):
        await gateway.start_private(Path(folder.name))
    await gateway.start()
    return InProcessGateway(loop, folder)
