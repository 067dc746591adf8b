"""The client side of TLS."""

import asyncio
import ssl

from wsaas.transport.tls import HANDSHAKE, TLSTransport


class ClientTLSTransport(TLSTransport):
    """A TLS connection that this node opened.

    The result of `handshake_done` is None, or the error of the handshake. Cancelling it aborts the connection.
    """

    __slots__ = ("_handshake_done",)

    def __init__(
        self,
        protocol: asyncio.Protocol,
        ssl_context: ssl.SSLContext,
        server_name: str,
        handshake_done: "asyncio.Future[None]",
    ) -> None:
        """Accept only a certificate for `server_name` (a host name or an IP address)."""
        super().__init__(protocol, ssl_context, server_name)
        self._handshake_done = handshake_done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        super().connection_made(transport)
        self._handshake_done.add_done_callback(self._abort_if_cancelled)
        self._move(HANDSHAKE)
        self._do_handshake()

    def _abort_if_cancelled(self, handshake_done: "asyncio.Future[None]") -> None:
        if handshake_done.cancelled():
            self._raw.abort()

    def _open(self) -> None:
        super()._open()
        if not self._handshake_done.done():
            self._handshake_done.set_result(None)

    def _fail(self, error: Exception) -> None:
        super()._fail(error)
        self._raw.abort()
        if not self._handshake_done.done():
            # The frames of the traceback refer to this transport, which would be a reference cycle.
            self._handshake_done.set_exception(error.with_traceback(None))
