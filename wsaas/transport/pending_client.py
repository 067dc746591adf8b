"""A client on its way in: the protocol of its transport while its handshake waits for the backend."""

import asyncio

from wsaas import errors
from wsaas.http.serialize import dated, fault_answer
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.websocket import RateLimitedProtocol, WebSocketProtocol
from wsaas.websocket.handshake import Handshake, accept

MAX_EAGER = 64 * 1024
"""Bytes that a client may send before it has its 101; past it, it is not read until then."""


class PendingClientProtocol(asyncio.Protocol):
    """A client that waits for the backend's word. It has to wait for its 101 before it speaks; what it says is kept."""

    __slots__ = ("_common", "_deadline", "_eager", "_handshake", "_transport", "session")

    def __init__(self, common: ServerContext, transport: asyncio.Transport, handshake: Handshake, eager: bytes) -> None:
        """Take over `transport`, whose client sent `handshake` and, behind it, `eager`."""
        self._common = common
        self._deadline = 0.0
        self._eager = eager
        self._handshake = handshake
        self._transport = transport
        self.session: Session
        common.timeouts.add(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes too early."""
        self._eager += data
        if len(self._eager) > MAX_EAGER:
            self._transport.pause_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client did not wait, or was refused and is done."""
        self._common.timeouts.discard(self)
        self.session.lost()

    def check_deadline(self, now: float) -> None:
        """Drop a client that does not take its refusal."""
        if self._deadline and now >= self._deadline:
            self._transport.abort()

    def accept(self, subprotocol: str | None, early: bytes) -> "WebSocketProtocol":
        """Send the 101; the transport gets its WebSocket protocol."""
        self._common.timeouts.discard(self)
        transport = self._transport
        deflated = self._handshake.agreement is not None
        kind = RateLimitedProtocol if self._common.settings.max_message_rate else WebSocketProtocol
        edge = kind(self._common, transport, self.session, self._eager, deflated=deflated)
        transport.set_protocol(edge)
        transport.write(accept(self._handshake, subprotocol) + early)
        transport.resume_reading()
        return edge

    def refuse(self, fault: errors.HTTPError) -> None:
        """Send the refusal and close."""
        self._transport.write(dated(fault_answer(fault, keep_alive=False), self._common.clock.wall()))
        self.close_gracefully()

    def close_gracefully(self) -> None:
        """Send what is buffered, but not for ever, and close."""
        self._deadline = self._common.closing_deadline()
        self._transport.close()
