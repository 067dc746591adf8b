"""The channel between the supervisor and one worker: JSON objects, one per line, over a socket pair.

A worker sends `{"worker": prefix}` when the other workers can reach it, `{"knows": version}` when it has a table of
workers, and `{"listening": [address, ...]}` when it listens. The supervisor sends `{"peers": {prefix: index, ...},
"version": version}`, `{"listen": true}`, `{"reload": number}`, which the worker answers with `{"reloaded": number,
"ok": bool}`, `{"stop": true}`, `{"hurry": true}` and `{"ping": true}`, which it answers with `{"pong": true}`. A worker
whose channel ends has lost its supervisor.
"""

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any, Final, cast

Message = dict[str, Any]

MAX_LINE: Final = 1 << 16
"""Maximum size (bytes) of a message. A table of 128 workers has a tenth of it."""


class Channel(asyncio.Protocol):
    """One end of a channel. `on_message` is called with each message, `on_end` when the other end is closed."""

    def __init__(self, on_message: Callable[[Message], object], on_end: Callable[[], object]) -> None:
        """Make an end that is not open yet."""
        self._buffer = b""
        self._on_end = on_end
        self._on_message = on_message
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._transport is not None

    async def open(self, sock: socket.socket) -> None:
        """Use `sock`."""
        await asyncio.get_running_loop().create_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Messages can be sent from now on."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Handle the messages in `data`."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._on_message(json.loads(line))
        if len(self._buffer) > MAX_LINE:
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """Report the end."""
        self._transport = None
        self._on_end()

    def send(self, message: Message) -> None:
        """Send a message, unless the channel is closed."""
        if self._transport is not None:
            self._transport.write(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Close the channel."""
        if self._transport is not None:
            self._transport.abort()
