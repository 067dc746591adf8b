"""The server side of TLS."""

import asyncio
import math
import ssl

from wsaas.errors import BadRequest
from wsaas.http.serialize import fault_answer
from wsaas.transport.admission import REFUSAL_S, Gate
from wsaas.transport.context import ServerContext
from wsaas.transport.run_queue import SLICE_S
from wsaas.transport.socket_address import peer_address
from wsaas.transport.tls import State, TLSTransport


class ServerTLSTransport(TLSTransport):
    """A connection that somebody made to this node, watched until its handshake is done."""

    __slots__ = ("_common", "_deadline", "_gate", "_turn_end")

    def __init__(self, protocol: asyncio.Protocol, context: ssl.SSLContext, common: ServerContext, gate: Gate) -> None:
        """Show what `context` has. `gate`: decides from accept on; then `protocol` asks it anew."""
        super().__init__(protocol, context, None)
        self._gate = gate
        self._common = common
        self._deadline = 0.0
        self._turn_end = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a handshake, but not for ever."""
        super().connection_made(transport)
        self._deadline = self._common.closing_deadline()
        if self._gate.enter(self) is not None:
            if not self._gate.turn_away(self):
                self._raw.abort()
            self._deadline = self._common.clock.now() + REFUSAL_S
        self._common.timeouts.add(self)

    def data_received(self, data: bytes) -> None:
        """Decrypt what came: one record at once, and others for a slice of time."""
        self._turn_end = 0.0
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything."""
        self._gate.leave(self)
        self._common.timeouts.discard(self)
        super().connection_lost(exc)

    def check_deadline(self, now: float) -> None:
        """Drop who does not get on with the handshake, or does not take its refusal."""
        if now >= self._deadline:
            self._raw.abort()

    def close_gracefully(self) -> None:
        """Close: nothing was said yet."""
        self._raw.abort()

    def peer_address(self) -> str:
        """Return the address of the other end, empty for a Unix socket."""
        return peer_address(self._raw)

    def idle_since(self) -> float:
        """Return infinity: it is within a handshake."""
        return math.inf

    def evict(self) -> None:
        """Close at once, for want of descriptors."""
        self._raw.abort()

    def _begin(self, data: bytes) -> None:
        if self._state is State.SILENT:
            self._state = State.SHAKING
            if data[:1].isalpha():
                fault = BadRequest("This port speaks TLS: use https:// or wss://.")
                self._raw.write(fault_answer(fault, keep_alive=False))
                self._fail(fault)
                return
        self._feed(data)

    def _check_time(self) -> None:
        queue = self._common.run_queue
        now = queue.timer()
        if not self._turn_end and not queue:
            self._turn_end = now + SLICE_S
        elif now >= self._turn_end:
            self._raw.pause_reading()
            self._queued = True
            queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._queued = False
        self._turn_end = self._common.run_queue.timer() + SLICE_S
        self._go_on()

    def _open(self) -> None:
        self._gate.leave(self)
        self._common.timeouts.discard(self)
        super()._open()

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        if not self._raw.is_closing():
            # Reading goes on for a while: a reset for unread bytes would take the alert.
            self._deadline = self._common.closing_deadline()
            self._raw.write_eof()
