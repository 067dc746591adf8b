"""The parser of a backend's HTTP/1.1 responses (RFC 9112).

Responses are parsed less strictly than requests: `lenient` lists the repairs of heads, and `body.LenientChunked` says
what is accepted in a chunked body. A response is still refused if its end is uncertain. If it is uncertain what follows
a response, its connection is not reused.
"""

import re
from functools import lru_cache
from typing import Final

import httptools

from wsaas.errors import LimitExceeded, Malformed
from wsaas.http import headers as heads
from wsaas.http import lenient
from wsaas.http.body import Body
from wsaas.http.headers import ACTION_HEADERS, COMMON_HEADS, COMMON_SIZE, END, MAX_HEAD, Head, Headers

_LINE: Final = re.compile(rb"HTTP/(1\.[01])[ \t]+([1-9][0-9]{2})(?:[ \t][^\r\n]*)?\r?\n")
_BEGINNING: Final = b"HTTP/1."
_SWITCHING: Final = 101
REQUEST_TIMEOUT: Final = 408
_FIRST_FINAL: Final = 200
"""Responses with a lower status are interim (RFC 9110 section 15.2)."""
_BODILESS: Final = {204, 304}


class BadResponse(Exception):
    """The backend sent something other than one unambiguous HTTP response. The text says why; log lines quote it."""


class Response:
    """A complete response of a backend.

    `has_actions`: some of its headers are `headers.ACTION_HEADERS`. `is_too_large`: its body exceeded the limit and was
    dropped.
    """

    __slots__ = ("body", "has_actions", "headers", "is_too_large", "keep_alive", "status")

    def __init__(self, status: int, headers: Headers, has_actions: bool | None = None) -> None:
        """Start with an empty body, on a connection that is kept alive.

        `has_actions`: None to look it up in `headers`.
        """
        self.status = status
        self.has_actions = not ACTION_HEADERS.isdisjoint(headers) if has_actions is None else has_actions
        self.headers = headers
        self.body = b""
        self.is_too_large = False
        self.keep_alive = True


class ResponseParser:
    """Parses the response to the request in flight on a connection to the backend."""

    __slots__ = ("_body", "_data", "_interim_size", "_is_doubtful", "_limit", "_response")

    def __init__(self, max_body: int) -> None:
        """Accept bodies of at most `max_body` bytes."""
        self._limit = max_body
        self._data = b""
        self._body: Body | None = None
        self._response: Response | None = None
        # The size of all interim responses before the final one, and whether one of them closes the connection.
        self._interim_size = 0
        self._is_doubtful = False

    def feed(self, data: bytes) -> Response | None:
        """Parse `data`; return the response once it is complete. Raises `BadResponse`."""
        is_start = self._response is None and not self._data and not self._interim_size
        if is_start and (response := self._parse_common(data)) is not None:
            return response
        data, self._data = self._data + data, b""
        at = 0
        try:
            if self._response is None:
                at = self._read_heads(data)
            if self._body is not None:
                at = self._body.feed(data, at)
        except Malformed as error:
            raise BadResponse(str(error)) from None
        return self._take_response(is_last=at < len(data))

    def eof(self) -> Response | None:
        """Return the response that ends with the connection (RFC 9112 section 6.3), or None."""
        if type(self._body) is Body:
            self._body.complete = True
        return self._take_response(is_last=True)

    @property
    def is_request_timeout(self) -> bool:
        """Whether the response in progress is a 408 that closes the connection."""
        response = self._response
        return response is not None and response.status == REQUEST_TIMEOUT and not response.keep_alive

    def close(self) -> None:
        """Stop parsing and drop all data."""
        self._data = b""
        self._body = self._response = None

    def _parse_common(self, data: bytes) -> Response | None:
        """Return the response if `data` is exactly one with a short head and a known size, otherwise None.

        This is a shortcut (`python -m benchmarks micro`); the rest of `feed` would return an equal response.
        """
        if data.endswith(END) and len(data) <= COMMON_SIZE and (usual := _common_response(data)) is not None:
            return usual
        found = data.find(END, 0, COMMON_SIZE)
        if found < 0:
            return None
        end = found + 4
        try:
            status, head = _common_head(data[:end])
        except Malformed:
            return None
        size = len(data) - end
        if status < _FIRST_FINAL or size > self._limit or size != (0 if status in _BODILESS else head.size):
            return None
        response = Response(status, head.headers, head.has_actions)
        response.body = data[end:]
        response.keep_alive = head.keep_alive
        return response

    def _read_heads(self, data: bytes) -> int:
        """Read heads up to that of the final response; return the index of its body, or `len(data)` if incomplete."""
        at = 0
        while self._response is None:
            end = lenient.find_end(data, at)
            if not end:
                _check_part(data, at)
                self._data = data[at:]
                return len(data)
            self._read_head(data[at:end])
            at = end
        return at

    def _read_head(self, head: bytes) -> None:
        """Read one head, and skip it if it belongs to an interim response."""
        status, read = (_common_head if len(head) <= COMMON_SIZE else _read_head)(head)
        if status < _FIRST_FINAL:
            self._interim_size += len(head)
            self._is_doubtful = self._is_doubtful or not read.keep_alive
            if self._interim_size > MAX_HEAD:
                raise LimitExceeded(f"its interim responses have more than {MAX_HEAD} bytes")
            return
        self._response = Response(status, read.headers, read.has_actions)
        self._response.keep_alive = read.keep_alive and not self._is_doubtful
        if status not in _BODILESS:
            self._body = read.body(self._limit, lenient=True)

    def _take_response(self, *, is_last: bool) -> Response | None:
        """Return the response if it is complete. `is_last`: the connection cannot be reused."""
        response, body = self._response, self._body
        if response is None:
            return None
        if body is not None:
            if not (body.complete or body.is_too_large):
                return None
            response.body = body.take()
            response.is_too_large = body.is_too_large
            is_last = is_last or not body.complete
        if is_last:
            response.keep_alive = False
        self._response = self._body = None
        self._interim_size = 0
        self._is_doubtful = False
        return response


def _check_part(data: bytes, start: int) -> None:
    """Raise `Malformed` if `data[start:]` cannot be the beginning of a response, whatever follows."""
    if data.find(b"\n", start) >= 0:
        _read_line(data, start)
    elif not _BEGINNING.startswith(data[start : start + len(_BEGINNING)]):
        raise _not_a_line()


def _read_line(data: bytes, start: int) -> tuple[int, str]:
    """Parse the status line at `start` (RFC 9112 section 4) into status and version."""
    line = _LINE.match(data, start)
    if line is None:
        raise _not_a_line()
    status = int(line[2])
    if status == _SWITCHING:
        raise Malformed("it is an unexpected 101 (Switching Protocols)")
    return status, heads.VERSIONS[line[1]]


def _read_head(head: bytes) -> tuple[int, Head]:
    """Parse a complete head, after a repair if necessary; return its status and the head."""
    try:
        return _read_strictly(head)
    except Malformed:
        repair = lenient.Repair(head)
    status, read = _read_strictly(repair.head)
    read.keep_alive = read.keep_alive and not repair.is_doubtful
    return status, read


def _read_strictly(head: bytes) -> tuple[int, Head]:
    status, version = _read_line(head, 0)
    read = heads.read(httptools.HttpResponseParser, version, head)
    if status < _FIRST_FINAL:
        if read.size:
            raise Malformed("an interim response has a body")
    # A body of unknown size ends with the connection. If a 204 or 304 declares a body, one may follow nevertheless.
    elif read.size if status in _BODILESS else read.size is None:
        read.keep_alive = False
    return status, read


_common_head = lru_cache(COMMON_HEADS)(_read_head)


@lru_cache(COMMON_HEADS)
def _common_response(data: bytes) -> Response | None:
    """Return the response if `data` is exactly one without a body, otherwise None. It is never changed."""
    if data.find(END) != len(data) - len(END):
        return None
    try:
        status, head = _read_head(data)
    except Malformed:
        return None
    if status < _FIRST_FINAL or not (head.size == 0 or status in _BODILESS):
        return None
    response = Response(status, head.headers, head.has_actions)
    response.keep_alive = head.keep_alive
    return response


def _not_a_line() -> Malformed:
    return Malformed("its first line is not an HTTP/1 status line")
