"""Opens connections to the private Unix sockets of other processes."""

import asyncio
from collections.abc import Callable

ProtocolFactory = Callable[[], asyncio.Protocol]
OnError = Callable[[Exception], None]


class UnixConnector:
    """Connects to Unix sockets, each time in a task that ends with the attempt."""

    __slots__ = ("_loop", "_tasks")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use `loop`."""
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, path: str, factory: ProtocolFactory, on_error: OnError) -> None:
        """Start to connect to the socket at `path`, and return at once.

        Later, `factory` is called for the protocol of the connection, or `on_error` with the `OSError`.
        """
        task = self._loop.create_task(self._connect(path, factory, on_error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel all attempts. Neither `factory` nor `on_error` is called any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connect(self, path: str, factory: ProtocolFactory, on_error: OnError) -> None:
        try:
            await self._loop.create_unix_connection(factory, path)
        except OSError as error:
            on_error(error)
