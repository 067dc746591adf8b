"""The server side of TLS."""

import asyncio
import math
import ssl

from wsaas.errors import BadRequest
from wsaas.http.serialize import error_response, serialize
from wsaas.transport.admission import REFUSAL_S, Gate
from wsaas.transport.context import ServerContext
from wsaas.transport.pause_reason import TURN
from wsaas.transport.run_queue import SLICE_S
from wsaas.transport.socket_address import peer_address
from wsaas.transport.tls import HANDSHAKE, NEW, TLSTransport


class ServerTLSTransport(TLSTransport):
    """A connection to this node. Its time-outs and its gate are those of the handshake; then they are the protocol's.

    It is read a slice of time at a time while other connections wait for their turn.
    """

    __slots__ = ("_context", "_deadline", "_gate", "_slice_end")

    def __init__(
        self, protocol: asyncio.Protocol, ssl_context: ssl.SSLContext, context: ServerContext, gate: Gate
    ) -> None:
        """Prepare the side of the server with the certificates of `ssl_context`."""
        super().__init__(protocol, ssl_context, None)
        self._context = context
        self._deadline = math.inf
        self._gate = gate
        self._slice_end = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a handshake within `HANDSHAKE_TIMEOUT`, or for a second where the gate refuses the connection."""
        super().connection_made(transport)
        self._deadline = self._context.closing_deadline()
        if self._gate.admit(self) is not None:
            if not self._gate.refuse(self):
                self._raw.abort()
            self._deadline = self._context.clock.now() + REFUSAL_S
        self._context.timeouts.add(self)

    def data_received(self, data: bytes) -> None:
        """Decrypt `data`: one record at once, and others for a slice of time."""
        self._slice_end = 0.0
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end to the protocol, if it learned of the connection."""
        self._gate.discard(self)
        self._context.timeouts.discard(self)
        super().connection_lost(exc)

    def check_deadline(self, now: float) -> None:
        """Drop a peer that does not complete the handshake, or does not take its refusal."""
        if now >= self._deadline:
            self._raw.abort()

    def close_gracefully(self) -> None:
        """Close at once: no handshake, so nothing to send."""
        self._raw.abort()

    def peer_address(self) -> str:
        """Return the IP address of the peer, empty for a Unix socket."""
        return peer_address(self._raw)

    def idle_since(self) -> float:
        """Return infinity: it is within a handshake."""
        return math.inf

    def _begin(self, data: bytes) -> None:
        if self._state is NEW:
            self._move(HANDSHAKE)
            if data[:1].isalpha():
                error = BadRequest("This port speaks TLS: use https:// or wss://.")
                self._raw.write(serialize(error_response(error), self._context.clock.wall()))
                self._fail(error)
                return
        self._feed(data)

    def _check_slice(self) -> None:
        queue = self._context.run_queue
        now = queue.timer()
        if not self._slice_end and not queue.waiting:
            self._slice_end = now + SLICE_S
        elif now >= self._slice_end:
            self._raw.pause_reading()
            self._paused_by |= {TURN}
            queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._paused_by -= {TURN}
        self._slice_end = self._context.run_queue.timer() + SLICE_S
        self._read_on()

    def _open(self) -> None:
        self._gate.discard(self)
        self._context.timeouts.discard(self)
        super()._open()

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        if not self._raw.is_closing():
            # So that the peer gets the alert.
            self._deadline = self._context.half_close(self._raw)
