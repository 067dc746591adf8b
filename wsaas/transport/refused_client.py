"""A client that was refused with a Close, until it has answered."""

import asyncio
from typing import Final

from wsaas.transport.context import ServerContext
from wsaas.transport.socket_protocol import SocketProtocol
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Close, Violation

MAX_READ: Final = 16 * 1024
"""Bytes in which the client's Close is looked for. A client that sends more before it is closed without waiting."""


class RefusedClientProtocol(SocketProtocol):
    """Waits for the client's Close, for `HANDSHAKE_TIMEOUT`. All else that the client sends is dropped.

    Its session has ended. So the connection is counted for its address until the socket is closed.
    """

    __slots__ = ("_context", "_counted_block", "_deadline", "_frames", "_transport", "_unread")

    def __init__(self, context: ServerContext, transport: asyncio.Transport, remote_address: str) -> None:
        """Prepare for `transport`, on which the client was sent a Close."""
        self._context = context
        self._counted_block = context.addresses.count_closing(remote_address)
        self._deadline = context.closing_deadline()
        self._frames = FrameDecoder(MAX_READ)
        self._transport = transport
        self._unread = MAX_READ

    def data_received(self, data: bytes) -> None:
        """Look for the client's Close."""
        if not self._unread:
            return
        frames, searched = self._frames, data[: self._unread]
        self._unread -= len(searched)
        frames.receive(searched)
        while frames.pending:
            received = frames.next()
            if isinstance(received, Close):
                self._unread = 0
                self._transport.close()
                return
            if isinstance(received, Violation):
                self._unread = 0
        if not self._unread:
            self._context.half_close(self._transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Stop the time-outs."""
        self._context.timeouts.discard(self)
        self._context.addresses.end(self._counted_block)

    def check_deadline(self, now: float) -> None:
        """Abort the connection of a client that does not close in time."""
        if now >= self._deadline:
            self._transport.abort()

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within the same time."""
        self._transport.close()
