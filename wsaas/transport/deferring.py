"""A connection while one of its responses is deferred: the place of that response is held."""

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from wsaas.errors import GatewayTimeout
from wsaas.http.deferred import PENDING, DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.transport.context import ServerContext

MAX_BUFFERED_BYTES: Final = 64 * 1024
"""Bytes that may come while a response is deferred. Up to them the connection is read, as only a read shows that the
caller went away."""


class DeferrableProtocol(asyncio.Protocol, ABC):
    """The protocol from which a transport is taken for a while, and to which it is given back."""

    __slots__ = ()

    @abstractmethod
    def continue_with(self, request: Request, response: OutgoingResponse, data: bytes, *, is_paused: bool) -> None:
        """Send the `response` to `request`, then handle `data`. `is_paused`: the caller does not take its responses."""

    @abstractmethod
    def check_deadline(self, now: float) -> None:
        """See `HasDeadline`."""

    @abstractmethod
    def close_gracefully(self) -> None:
        """See `HasDeadline`."""


class DeferringProtocol(asyncio.Protocol):
    """Keeps what the caller sends until the response comes, so that responses leave in the order of their requests.

    At most one response of a connection is deferred at a time. It is cancelled when the caller goes away, and answered
    with 504 at its deadline or when the node stops.
    """

    __slots__ = ("_connection", "_context", "_data", "_deferred", "_is_paused", "_request", "_transport")

    def __init__(
        self,
        context: ServerContext,
        transport: asyncio.Transport,
        connection: DeferrableProtocol,
        request: Request,
        deferred: DeferredResponse,
    ) -> None:
        """PauseReason the place of `deferred`, which answers `request`."""
        self._connection = connection
        self._context = context
        self._data = b""
        self._deferred = deferred
        self._is_paused = False
        self._request = request
        self._transport = transport

    def start(self) -> None:
        """Take the transport over from the connection."""
        self._transport.set_protocol(self)
        self._context.timeouts.discard(self._connection)
        self._context.timeouts.add(self)
        self._deferred.on_response(self._resolved)

    def data_received(self, data: bytes) -> None:
        """Keep `data`, and stop reading when that is too much."""
        self._data += data
        if len(self._data) > MAX_BUFFERED_BYTES:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """Read no more: the caller does not take its responses."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read again, up to the bound."""
        self._is_paused = False
        if len(self._data) <= MAX_BUFFERED_BYTES:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the response, as its caller went away."""
        self._context.timeouts.discard(self)
        if self._deferred.state is PENDING:
            self._deferred.cancel()
        self._connection.connection_lost(exc)

    def check_deadline(self, now: float) -> None:
        """Answer 504 when the response does not come in time."""
        if now >= self._deferred.deadline:
            error = GatewayTimeout("The process that holds this connection did not answer in time.")
            self._deferred.give_up(error_response(error))

    def close_gracefully(self) -> None:
        """Answer 504 and close, within `HANDSHAKE_TIMEOUT`."""
        self._request.keep_alive = False
        error = GatewayTimeout("This node stops before another one answered: what was asked for may be done.")
        self._deferred.give_up(error_response(error))
        self._connection.close_gracefully()

    def _resolved(self, response: OutgoingResponse) -> None:
        """Give the connection back."""
        if self._transport.is_closing():
            return
        self._context.timeouts.discard(self)
        self._context.timeouts.add(self._connection)
        self._transport.set_protocol(self._connection)
        self._connection.continue_with(self._request, response, self._data, is_paused=self._is_paused)
