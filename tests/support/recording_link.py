"""A way to a gateway over TCP that records the requests which pass, to compare what real clients send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from wsaas.http.request import Request, RequestParser

MAX_BODY = 1 << 20


class _End(asyncio.Protocol):
    """One end of a connection through the link. What it receives, it writes to the `other` end."""

    def __init__(self, link: "RecordingLink") -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None
        self._link = link
        self._parser = RequestParser(MAX_BODY)
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # That of uvloop is none for `isinstance`.
        self.transport = cast(asyncio.Transport, transport)
        self._link.ends.add(self)
        if self._waiting:
            self.transport.write(self._waiting)

    def write(self, data: bytes) -> None:
        if self.transport is None:
            self._waiting += data
        else:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        assert self.other is not None
        self.other.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._link.ends.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _ClientEnd(_End):
    """The end of a client: it opens the other end, and records requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = _End(self._link)
        self.other.other = self
        self._link.open(self.other)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._parser.receive(data)
        while (item := self._parser.next()) is not None:
            assert isinstance(item, Request), item
            self._link.requests.append(item)


class RecordingLink:
    """A port that leads to another one. `requests`: those that passed, with their bodies."""

    def __init__(self, port: int) -> None:
        self.ends: set[_End] = set()
        self.port = 0
        self.requests: list[Request] = []
        self._opening: set[asyncio.Task[object]] = set()
        self._listener: asyncio.Server | None = None
        self._to = port

    @property
    def log(self) -> list[tuple[str, str]]:
        """Method and target of each request."""
        return [(each.method.decode(), each.target.decode()) for each in self.requests]

    def take(self) -> list[Request]:
        """Return the requests since the last call."""
        taken, self.requests = self.requests, []
        return taken

    def lead_to(self, port: int) -> None:
        """Lead later connections to another port."""
        self._to = port

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _ClientEnd(self), "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    def open(self, end: _End) -> None:
        """Connect `end` to the gateway."""
        connecting = asyncio.get_running_loop().create_connection(lambda: end, "127.0.0.1", self._to)
        task = asyncio.ensure_future(connecting)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def close(self) -> None:
        """Close everything."""
        if self._listener is not None:
            self._listener.close()
        await asyncio.gather(*self._opening)
        for end in [*self.ends]:
            if end.transport is not None:
                end.transport.abort()
        if self._listener is not None:
            await self._listener.wait_closed()


@asynccontextmanager
async def recording_link(port: int) -> AsyncIterator[RecordingLink]:
    """Run a way to a port of this machine."""
    link = RecordingLink(port)
    try:
        await link.start()
        yield link
    finally:
        await link.close()
