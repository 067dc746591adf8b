"""The server side of TLS: connections of clients and of callers of the REST API."""

import asyncio
import math
import ssl

from wsaas.errors import TLS_NEEDED, BadRequest
from wsaas.http.serialize import error_response, serialize
from wsaas.run_queue import SLICE_S
from wsaas.transport.admission import REFUSAL_S, Gate
from wsaas.transport.context import ServerContext
from wsaas.transport.pause_reason import TURN
from wsaas.transport.proxied import ProxiedPeer
from wsaas.transport.socket_address import peer_address
from wsaas.transport.tls import HANDSHAKE, NEW, TLSTransport


class ServerTLSTransport(TLSTransport):
    """A TLS connection to this node.

    It handles time-outs and admission until the TLS handshake is done; then the protocol does. While other connections
    wait for their turn, it is read in slices of time.
    """

    __slots__ = ("_context", "_deadline", "_gate", "_slice_end")

    def __init__(
        self, protocol: asyncio.Protocol, ssl_context: ssl.SSLContext, context: ServerContext, gate: Gate
    ) -> None:
        """Use the certificate of `ssl_context`. `gate`: admits the connection."""
        super().__init__(protocol, ssl_context, None)
        self._context = context
        self._deadline = math.inf
        self._gate = gate
        self._slice_end = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait `HANDSHAKE_TIMEOUT` for the handshake, or `REFUSAL_S` if the gate refuses the connection."""
        super().connection_made(transport)
        self._deadline = self._context.closing_deadline()
        if self._gate.admit(self) is not None:
            if not self._gate.refuse(self):
                self._raw.abort()
            self._deadline = self._context.clock.now() + REFUSAL_S
        self._context.timeouts.add(self)

    def data_received(self, data: bytes) -> None:
        """Decrypt `data`: at least one record, and more for a slice of time."""
        self._slice_end = 0.0
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Call the protocol's `connection_lost` if its `connection_made` was called."""
        self._gate.discard(self)
        self._context.timeouts.discard(self)
        super().connection_lost(exc)

    def check_deadline(self, now: float) -> None:
        """Abort the connection if the peer has not completed the handshake, or has not closed after a failed one."""
        if now >= self._deadline:
            self._raw.abort()

    def close_gracefully(self) -> None:
        """Close at once: before the end of the handshake, there is nothing to send."""
        self._raw.abort()

    def peer_address(self) -> str:
        """Return the IP address of the peer, empty for a Unix socket."""
        return peer_address(self._raw)

    def idle_since(self) -> float:
        """Return infinity: the connection is not idle while the handshake is under way."""
        return math.inf

    def _begin(self, data: bytes) -> None:
        if self._state is NEW:
            self._move(HANDSHAKE)
            if data[:1].isalpha():
                error = BadRequest(TLS_NEEDED)
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
        self._deadline = math.inf
        self._gate.discard(self)
        self._context.timeouts.discard(self)
        super()._open()

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        if not self._raw.is_closing():
            # Half-close, so that the peer still receives the TLS alert.
            self._deadline = self._context.half_close(self._raw)


class ProxiedTLSTransport(ServerTLSTransport):
    """A TLS connection through a proxy, after the header of the PROXY protocol."""

    __slots__ = ("_peer",)

    def __init__(
        self,
        protocol: asyncio.Protocol,
        ssl_context: ssl.SSLContext,
        context: ServerContext,
        gate: Gate,
        peer: ProxiedPeer,
    ) -> None:
        """Use the certificate of `ssl_context` (see `ServerTLSTransport`)."""
        super().__init__(protocol, ssl_context, context, gate)
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the TLS handshake, until `HANDSHAKE_TIMEOUT` after the accept at most."""
        super().connection_made(transport)
        self._deadline = min(self._deadline, self._peer.deadline)

    def peer_address(self) -> str:
        """Return the IP address of the client, empty for a Unix socket."""
        return self._peer.address
