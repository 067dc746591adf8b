"""The life of a connection that speaks HTTP: its admission by the gate, its deadlines and its end."""

import asyncio
import math
from typing import Final

from wsaas.errors import HTTPError, RequestTimeout
from wsaas.http.request import BODY, HEAD, IDLE, Request, RequestParser
from wsaas.transport.admission import REFUSAL_S
from wsaas.transport.deferring import DeferrableProtocol
from wsaas.transport.site import Site
from wsaas.transport.socket_address import peer_address

AT_NEXT_CHECK: Final = 0.0
"""The deadline of a connection whose wait has just begun. The next check sets it, which saves reading the clock now."""

_UNCONNECTED: Final = asyncio.Transport()


class HttpConnection(DeferrableProtocol):
    """A connection from its accept to its close. `HttpProtocol` adds how requests are received and answered.

    `_is_write_paused`: the peer does not read its responses. `_is_authorized`: an authorized request arrived, so the
    backend owns this connection.
    """

    __slots__ = ("_deadline", "_is_authorized", "_is_write_paused", "_parser", "_site", "_transport")

    def __init__(self, site: Site) -> None:
        """Serve `site`."""
        self._deadline = AT_NEXT_CHECK
        self._is_authorized = False
        self._is_write_paused = False
        self._parser = RequestParser(site.context.settings.max_message_size, site.body_limit)
        self._site = site
        self._transport = _UNCONNECTED

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Wait for a request, for `HANDSHAKE_TIMEOUT` at most."""
        self._transport = transport
        context = self._site.context
        self._deadline = context.clock.now() + context.settings.handshake_timeout
        error = self._site.gate.admit(self)
        if error is not None:
            self._refuse(error)
        context.timeouts.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Stop parsing, and leave the gate and the time-outs."""
        self._parser.close()
        self._site.gate.discard(self)
        self._site.context.timeouts.discard(self)

    def check_deadline(self, now: float) -> None:
        """Close the connection if it was idle for too long, or its request was not complete in time."""
        if self._deadline == AT_NEXT_CHECK:
            settings = self._site.context.settings
            is_slow = self._parser.phase is HEAD and not self._is_write_paused
            self._deadline = now + (settings.handshake_timeout if is_slow else settings.keep_alive_timeout)
        elif now >= self._deadline:
            if self._is_write_paused or self._parser.phase not in (HEAD, BODY) or self._transport.is_closing():
                self._transport.abort()
            else:
                self._end(self._site.serialize_error(RequestTimeout("The request did not arrive completely in time.")))

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within `HANDSHAKE_TIMEOUT`."""
        self._deadline = self._site.context.closing_deadline()
        self._transport.close()

    def peer_address(self) -> str:
        """Return the IP address of the peer, empty for a Unix socket."""
        return peer_address(self._transport)

    def idle_since(self) -> float:
        """Return a time by which idle connections can be ordered; infinity while a request is being received."""
        if self._parser.phase is not IDLE:
            return math.inf
        context = self._site.context
        return self._deadline or context.clock.now() + context.settings.keep_alive_timeout

    def abort(self) -> None:
        """Close at once."""
        self._parser.close()
        self._transport.abort()

    def _refuse(self, error: HTTPError) -> None:
        """Close a connection that was just accepted. Send `error` first if the gate has room for that."""
        if self._site.gate.refuse(self):
            self._end(self._site.serialize_error(error))
            self._deadline = self._site.context.clock.now() + REFUSAL_S
        else:
            self.abort()

    def _note_authorized(self, request: Request) -> None:
        """Exempt the connection from the limits if `request` shows that the backend owns it."""
        if self._site.authorizes(request):
            self._is_authorized = True
            self._site.gate.mark_authorized(self)

    def _end(self, last_response: bytes) -> None:
        """Send the last response, and wait for the peer to close."""
        if self._parser.refused_handshake is not None:
            self._site.note_malformed(*self._parser.refused_handshake, self.peer_address())
        self._parser.close()
        if last_response:
            self._transport.write(last_response)
        self._deadline = self._site.context.half_close(self._transport)
