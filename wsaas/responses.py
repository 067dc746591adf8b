"""HTTP/1.1: the bytes of a backend to its responses (RFC 9112, parsed by llhttp through httptools)."""

from typing import Any

import httptools

from wsaas.http1 import MAX_HEAD, MAX_HEADERS, Body, Phase

_FIRST_FINAL = 200
"""Statuses below are interim (RFC 9110 section 15.2)."""


class BadResponse(Exception):
    """The backend sent what is not an HTTP response to the request."""


class Response:
    """A whole response. Header names are lower case; `overflown`: its body passed the limit and was not kept."""

    __slots__ = ("body", "headers", "keep_alive", "overflown", "status")

    def __init__(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Start with an empty body, kept alive."""
        self.status = status
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.overflown = False


class ResponseReader:
    """Bytes of one connection to the backend in, the response to the one request that is under way out."""

    __slots__ = ("_body", "_done", "_headers", "_parser", "_window", "phase")

    def __init__(self, max_body: int) -> None:
        """Keep bodies of at most `max_body` bytes."""
        self._body = Body(max_body)
        self._done: Response | None = None
        self._headers: dict[bytes, bytes] = {}
        self._parser: Any = httptools.HttpResponseParser(self)
        self._window = 0
        self.phase = Phase.IDLE

    def feed(self, data: bytes) -> Response | None:
        """Take `data`; return the response once it is whole. Raises `BadResponse`."""
        if self.phase is not Phase.BODY:
            self._window += len(data)
        fault = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            fault = "it switches to another protocol, which nobody asked for"
        except httptools.HttpParserError as error:
            fault = str(error)
        if self._done is None and self._body.overflown:
            self._complete()
        response, self._done = self._done, None
        if response is not None:
            self._window = 0
            if fault or self.phase is not Phase.IDLE:
                response.keep_alive = False
        elif fault:
            raise BadResponse(fault)
        elif self.phase is Phase.HEAD and self._window > MAX_HEAD + len(data):
            raise BadResponse("its head is too large")
        return response

    def eof(self) -> Response | None:
        """Return the response that the connection's end makes whole (RFC 9112 section 6.3), None where none is."""
        chunked = b"chunked" in self._headers.get(b"transfer-encoding", b"").lower()
        if self.phase is not Phase.BODY or chunked or b"content-length" in self._headers:
            return None
        self._complete()
        return self._done

    def close(self) -> None:
        """Read no more. Breaks the circle of references between this object and its parser."""
        self._parser = None

    def _complete(self) -> None:
        response = Response(self._parser.get_status_code(), self._headers)
        response.keep_alive = self._parser.should_keep_alive()
        response.overflown = self._body.overflown
        response.body = self._body.take()
        self._done = response

    # What llhttp calls: these record and never raise.

    def on_message_begin(self) -> None:
        """Start a response."""
        self.phase = Phase.HEAD
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record a header, the last of its name, but not a trailer."""
        if self.phase is Phase.HEAD and len(self._headers) < MAX_HEADERS:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Go on to the body."""
        self.phase = Phase.BODY

    def on_body(self, piece: bytes) -> None:
        """Record a piece of the body."""
        self._body.add(piece)

    def on_message_complete(self) -> None:
        """Keep the response, unless it is an interim one (RFC 9110 section 15.2)."""
        self.phase = Phase.IDLE
        if self._done is not None:
            # Nobody asked for a second one: the connection cannot be trusted any more.
            self._done.keep_alive = False
        elif self._parser.get_status_code() >= _FIRST_FINAL:
            self._complete()
