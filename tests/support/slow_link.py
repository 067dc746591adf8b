"""A way to NATS over TCP that delays what passes, or holds it back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.nats import NatsServer


class SlowLink:
    """A port that leads to `server`. `delay`: seconds that bytes need in each direction."""

    def __init__(self, server: NatsServer) -> None:
        self.delay = 0.0
        self.port = 0
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._listener: asyncio.Server | None = None
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The value of `CLUSTER` for this way."""
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen."""
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    def stall(self) -> None:
        """Let nothing pass until `go_on`. All connections stay open."""
        self._is_open.clear()

    def go_on(self) -> None:
        """Let everything pass again, that which was held back, too."""
        self._is_open.set()

    async def close(self) -> None:
        """Close everything."""
        if self._listener is not None:
            self._listener.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*[*self._tasks], return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: streams complain when the task of such a callback is cancelled.
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(self._server.host, self._server.port)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        ways = [asyncio.ensure_future(self._pass(*way)) for way in ((reader, back), (there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.transport.abort()
            back.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass everything on, each piece `delay` after it came."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def read() -> None:
            while piece := await reader.read(1 << 16):
                pieces.put_nowait((loop.time() + self.delay, piece))
            pieces.put_nowait((loop.time() + self.delay, b""))

        reading = asyncio.ensure_future(read())
        try:
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._is_open.wait()
                if not piece:
                    return
                writer.write(piece)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@asynccontextmanager
async def slow_link(server: NatsServer) -> AsyncIterator[SlowLink]:
    """Run a way to `server`."""
    link = SlowLink(server)
    try:
        await link.start()
        yield link
    finally:
        await link.close()
