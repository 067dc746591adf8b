"""A client whose handshake waits for the backend's decision."""

import asyncio
from dataclasses import replace
from typing import Final, cast

from wsaas.errors import HTTPError, RefusedWithClose
from wsaas.http.serialize import error_response, serialize
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.refused_client import RefusedClientProtocol
from wsaas.transport.socket_protocol import SocketProtocol, set_protocol
from wsaas.transport.timeouts import NOT_CLOSING, HasDeadline
from wsaas.transport.websocket import RateLimitedProtocol, WebSocketProtocol
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import encode_close
from wsaas.websocket.handshake import Handshake, accept, select_subprotocol

MAX_EARLY_DATA: Final = 64 * 1024
"""Bytes that a client may send before its 101. Beyond it, the gateway stops reading from the client until the 101."""


class PendingClientProtocol(SocketProtocol):
    """Answers the handshake. Until then, buffers what the client sends, although it should wait for the 101.

    It takes over the transport only if something happens before the handshake is answered: each change of the protocol
    costs two system calls, as uvloop stops to read and starts again.
    """

    __slots__ = ("_context", "_deadline", "_early_data", "_handshake", "_session", "_transport")

    def __init__(
        self,
        context: ServerContext,
        transport: asyncio.Transport,
        session: Session,
        handshake: Handshake,
        early_data: bytes,
    ) -> None:
        """Answer `handshake` on `transport` as `session` decides. `early_data`: bytes received after the handshake."""
        self._context = context
        self._deadline = NOT_CLOSING
        self._early_data = early_data
        self._handshake = handshake
        self._session = session
        self._transport = transport

    def start(self) -> None:
        """Take over the transport, unless that was done."""
        current: object = self._transport.get_protocol()
        if current is not self:
            self._succeed(self)

    def data_received(self, data: bytes) -> None:
        """Buffer `data` until the WebSocket is open."""
        self._early_data += data
        if len(self._early_data) > MAX_EARLY_DATA:
            self._transport.pause_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End the session: the client went away, or was refused."""
        self._context.timeouts.discard(self)
        self._session.lost()

    def check_deadline(self, now: float) -> None:
        """Abort the connection of a refused client that does not read the response."""
        if self._deadline != NOT_CLOSING and now >= self._deadline:
            self._transport.abort()

    def accept(self, subprotocol: str | None, first_frames: bytes) -> WebSocketProtocol:
        """Send the 101 followed by `first_frames`; return the protocol that takes over."""
        transport = self._transport
        settings = self._context.settings
        decoder = FrameDecoder(settings.max_message_size, deflated=self._handshake.agreement is not None)
        decoder.receive(self._early_data)
        kind = RateLimitedProtocol if settings.max_message_rate else WebSocketProtocol
        connection = kind(self._context, transport, self._session, decoder)
        self._succeed(connection)
        transport.write(accept(self._handshake, subprotocol) + first_frames)
        transport.resume_reading()
        return connection

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error`, and close."""
        if isinstance(error, RefusedWithClose):
            self._refuse_with_close(error)
            return
        self._transport.write(serialize(error_response(error), self._context.clock.wall()))
        self.close_gracefully()

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within `HANDSHAKE_TIMEOUT`."""
        self.start()
        self._deadline = self._context.closing_deadline()
        self._transport.close()

    def _refuse_with_close(self, error: RefusedWithClose) -> None:
        """Send the 101 and a Close.

        Compression is declined: nothing more is sent, and what the client sends is dropped. A browser that offered
        subprotocols fails the connection, without the code, unless one of them is chosen (WebSockets Standard,
        "establish a WebSocket connection").
        """
        context, handshake, transport = self._context, self._handshake, self._transport
        offered = handshake.subprotocols
        subprotocol = select_subprotocol(error.subprotocol, offered, context.settings.subprotocols)
        if subprotocol is None and offered:
            subprotocol = offered[0]
        answer = accept(replace(handshake, agreement=None), subprotocol)
        refused = RefusedClientProtocol(context, transport, self._session.info.remote_address)
        self._succeed(refused)
        transport.write(answer + encode_close(error.close_code, error.close_reason))
        transport.resume_reading()
        refused.data_received(self._early_data)

    def _succeed(self, protocol: "PendingClientProtocol | WebSocketProtocol | RefusedClientProtocol") -> None:
        """Let `protocol` take the place of the current one, at the transport and in the time-outs."""
        self._context.timeouts.replace(cast(HasDeadline, self._transport.get_protocol()), protocol)
        set_protocol(self._transport, protocol)
