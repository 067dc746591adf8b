"""The protocol of an HTTP connection while the body of a response is streamed on it."""

import asyncio
import math
from typing import Final

from wsaas.http.request import Request
from wsaas.http.serialize import serialize_streamed
from wsaas.http.streamed import Sink, StreamedResponse
from wsaas.transport.context import ServerContext
from wsaas.transport.deferring import MAX_BUFFERED_BYTES, DeferrableProtocol
from wsaas.transport.socket_protocol import set_protocol

MAX_UNSENT: Final = 256 * 1024
"""Bytes of a stream that may wait for the caller to read them. Beyond it, the stream is told to wait."""

LAST_CHUNK: Final = b"0\r\n\r\n"


class StreamingProtocol(asyncio.Protocol, Sink):
    """Sends the body of a response, in chunks (RFC 9112 section 7.1), or up to the end of an HTTP/1.0 connection.

    Further requests wait until the stream ends. A caller that closes its side has left. One that reads nothing for
    `KEEP_ALIVE_TIMEOUT` while it has much to read is cut off.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_data",
        "_deadline",
        "_is_chunked",
        "_is_over",
        "_is_write_paused",
        "_request",
        "_response",
        "_transport",
    )

    def __init__(
        self,
        context: ServerContext,
        transport: asyncio.Transport,
        connection: DeferrableProtocol,
        request: Request,
        response: StreamedResponse,
    ) -> None:
        """Send `response`, that to `request`, on behalf of `connection`."""
        self._connection = connection
        self._context = context
        self._data = b""
        self._deadline = math.inf
        self._is_chunked = request.version == "1.1"
        self._is_over = False
        self._is_write_paused = False
        self._request = request
        self._response = response
        self._transport = transport

    def start(self) -> None:
        """Take over the transport of the connection, and send the head."""
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(MAX_UNSENT)
        self._context.timeouts.replace(self._connection, self)
        if not self._is_chunked:
            self._request.keep_alive = False
        self._transport.write(serialize_streamed(self._response, self._context.clock.wall(), self._request))
        self._response.start(self)

    # Called by the response.

    @property
    def is_full(self) -> bool:
        """Whether too much waits for the caller."""
        return self._transport.get_write_buffer_size() > MAX_UNSENT

    def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if not self._is_over and not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self) -> None:
        """End the body, and return the transport to the connection."""
        if not self._is_over:
            self._finish()

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """Buffer `data`, and stop reading when too much is buffered."""
        self._data += data
        if len(self._data) > MAX_BUFFERED_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """Close: the caller has left."""

    def pause_writing(self) -> None:
        """Give the caller `KEEP_ALIVE_TIMEOUT` to read."""
        self._is_write_paused = True
        self._deadline = self._context.clock.now() + self._context.settings.keep_alive_timeout

    def resume_writing(self) -> None:
        """Let the stream continue, and read again, unless too much is buffered.

        Reading was paused if the caller did not read earlier responses, before the stream began.
        """
        self._is_write_paused = False
        self._deadline = math.inf
        if len(self._data) <= MAX_BUFFERED_BYTES:
            self._transport.resume_reading()
        if not self._is_over:
            self._response.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the stream: the caller went away."""
        self._context.timeouts.discard(self)
        if not self._is_over:
            self._is_over = True
            self._response.cancel()
        self._connection.connection_lost(exc)

    # Called by the time-outs.

    def check_deadline(self, now: float) -> None:
        """Abort the connection of a caller that does not read."""
        if now >= self._deadline:
            self._transport.abort()

    def close_gracefully(self) -> None:
        """End the stream, and close."""
        if not self._is_over:
            self._request.keep_alive = False
            self._response.cancel()
            self._finish()
        self._connection.close_gracefully()

    def _finish(self) -> None:
        """Send the end of the body, and return the transport to the connection."""
        self._is_over = True
        if self._transport.is_closing():
            return
        self._context.timeouts.replace(self, self._connection)
        # Before the change of the protocol: this one may be paused by it.
        self._transport.set_write_buffer_limits()
        set_protocol(self._transport, self._connection)
        self._connection.go_on(
            self._request,
            LAST_CHUNK if self._is_chunked else b"",
            self._data,
            is_write_paused=self._is_write_paused,
            is_last=False,
        )
