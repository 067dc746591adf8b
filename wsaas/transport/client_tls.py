"""The client side of TLS: connections to the backend."""

import asyncio
import ssl

from wsaas.transport.tls import State, TLSTransport


class ClientTLSTransport(TLSTransport):
    """A connection that this node made: `shaken` tells what became of its handshake, or is cancelled to give it up."""

    __slots__ = ("_shaken",)

    def __init__(
        self, protocol: asyncio.Protocol, context: ssl.SSLContext, name: str, shaken: "asyncio.Future[None]"
    ) -> None:
        """Take only the server `name` (a host or an address) for an answer."""
        super().__init__(protocol, context, name)
        self._shaken = shaken

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._shaken.add_done_callback(self._settled)
        self._state = State.SHAKING
        self._shake_hands()

    def _settled(self, shaken: "asyncio.Future[None]") -> None:
        if shaken.cancelled():
            self._raw.abort()

    def _open(self) -> None:
        super()._open()
        if not self._shaken.done():
            self._shaken.set_result(None)

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._raw.abort()
        if not self._shaken.done():
            # Without its traceback, whose frames refer to this transport: that would be a reference cycle.
            self._shaken.set_exception(error.with_traceback(None))
