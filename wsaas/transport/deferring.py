"""The protocol of an HTTP connection while one of its responses is deferred."""

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from wsaas.errors import GatewayTimeout
from wsaas.http.deferred import PENDING, DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.transport.context import ServerContext
from wsaas.transport.socket_protocol import SocketProtocol, set_protocol

MAX_BUFFERED_BYTES: Final = 64 * 1024
"""Bytes of further requests that are buffered while a response is deferred. The connection is read up to this size,
as only reading shows that the caller went away."""


class DeferrableProtocol(SocketProtocol, ABC):
    """A protocol that lends its transport to a `DeferringProtocol`."""

    __slots__ = ()

    @abstractmethod
    def continue_with(
        self, request: Request, response: OutgoingResponse, data: bytes, *, is_write_paused: bool, is_last: bool
    ) -> None:
        """Send the `response` to `request`, then handle `data`, which was buffered meanwhile.

        `is_write_paused`: whether writing is paused because the caller does not read its responses. `is_last`: whether
        the caller has closed its side, so nothing follows `data`.
        """

    @abstractmethod
    def go_on(self, request: Request, serialized: bytes, data: bytes, *, is_write_paused: bool, is_last: bool) -> None:
        """Send `serialized`, the rest of the response to `request`, then handle `data` (see `continue_with`)."""

    @abstractmethod
    def check_deadline(self, now: float) -> None:
        """See `HasDeadline`."""

    @abstractmethod
    def close_gracefully(self) -> None:
        """See `HasDeadline`."""


class DeferringProtocol(SocketProtocol):
    """Buffers what the caller sends until the response is ready, so that responses keep the order of their requests.

    At most one response of a connection is deferred at a time. It is cancelled if the caller goes away. At its
    deadline, or when the node stops, the request is answered with 504.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_data",
        "_deferred",
        "_is_half_closed",
        "_is_write_paused",
        "_request",
        "_transport",
    )

    def __init__(
        self,
        context: ServerContext,
        transport: asyncio.Transport,
        connection: DeferrableProtocol,
        request: Request,
        deferred: DeferredResponse,
    ) -> None:
        """Wait for `deferred`, the response to `request`, on behalf of `connection`."""
        self._connection = connection
        self._context = context
        self._data = b""
        self._deferred = deferred
        self._is_half_closed = False
        self._is_write_paused = False
        self._request = request
        self._transport = transport

    def start(self) -> None:
        """Take over the transport of the connection."""
        set_protocol(self._transport, self)
        self._context.timeouts.replace(self._connection, self)
        self._deferred.on_response(self._resolved)

    def data_received(self, data: bytes) -> None:
        """Buffer `data`, and stop reading when too much is buffered."""
        self._data += data
        if len(self._data) > MAX_BUFFERED_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the connection open: a caller may close its side after its last request."""
        self._is_half_closed = True
        return True

    def pause_writing(self) -> None:
        """Stop reading: the caller does not read its responses."""
        self._is_write_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, unless too much is buffered."""
        self._is_write_paused = False
        if len(self._data) <= MAX_BUFFERED_BYTES:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the response: the caller went away."""
        self._context.timeouts.discard(self)
        if self._deferred.state is PENDING:
            self._deferred.cancel()
        self._forget()
        self._connection.connection_lost(exc)

    def check_deadline(self, now: float) -> None:
        """Answer with 504 if the response is not there in time."""
        if now >= self._deferred.deadline:
            error = GatewayTimeout(
                "The answer was not ready in time. The request may have been carried out, or still be."
            )
            self._deferred.give_up(error_response(error))

    def close_gracefully(self) -> None:
        """Answer with 504 and close, within `HANDSHAKE_TIMEOUT`."""
        self._request.keep_alive = False
        error = GatewayTimeout("This node is stopping. The request may have been carried out, in whole or in part.")
        self._deferred.give_up(error_response(error))
        self._connection.close_gracefully()

    def _resolved(self, response: OutgoingResponse) -> None:
        """Return the transport to the connection, which sends `response`."""
        self._forget()
        if self._transport.is_closing():
            return
        self._context.timeouts.replace(self, self._connection)
        set_protocol(self._transport, self._connection)
        self._connection.continue_with(
            self._request,
            response,
            self._data,
            is_write_paused=self._is_write_paused,
            is_last=self._is_half_closed,
        )

    def _forget(self) -> None:
        """Let the response not refer to this object any more: both would stay until the next garbage collection."""
        self._deferred.on_response(_ignore)


def _ignore(_response: OutgoingResponse) -> None:
    """Do nothing."""
