"""The base class of the protocols that are created for each client."""

import asyncio
from typing import cast


class SocketProtocol:
    """Has the methods of `asyncio.Protocol`, which do nothing unless overridden, but is not derived from it.

    No event loop demands that. A compiled class would inherit a dictionary for attributes: 24 bytes more.
    """

    __slots__ = ()

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Learn that the connection was opened."""

    def data_received(self, data: bytes) -> None:
        """Receive data."""

    def eof_received(self) -> bool | None:
        """Learn that the peer has ended its side. Unless it returns True, the connection is closed."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the connection is closed."""

    def pause_writing(self) -> None:
        """Learn that too much is buffered."""

    def resume_writing(self) -> None:
        """Learn that little is buffered."""


def set_protocol(transport: asyncio.Transport, protocol: SocketProtocol) -> None:
    """Let `protocol` take over `transport`."""
    transport.set_protocol(cast(asyncio.BaseProtocol, protocol))
