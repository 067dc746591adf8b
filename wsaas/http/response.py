"""HTTP/1.1: the bytes of a backend to its responses (RFC 9112).

Requests are read strictly, responses not quite: `lenient` lists what is repaired in a head. Of a chunked body any
extension is taken, and spaces behind the size of a chunk (`bodies.LenientChunked`). A response whose end would be
a guess is still refused, and a connection on which it was one is not used again.
"""

import re
from functools import lru_cache

import httptools

from wsaas.errors import LimitExceeded, Malformed
from wsaas.http import headers as heads
from wsaas.http import lenient
from wsaas.http.body import Body
from wsaas.http.headers import COMMON_HEADS, COMMON_SIZE, MAX_HEAD, Head, Headers

_LINE = re.compile(rb"HTTP/(1\.[01])[ \t]+([1-9][0-9]{2})(?:[ \t][^\r\n]*)?\r?\n")
_BEGINNING = b"HTTP/1."
_SWITCHING = 101
REQUEST_TIMEOUT = 408
_FIRST_FINAL = 200
"""Statuses below are interim (RFC 9110 section 15.2)."""
_BODILESS = {204, 304}


class BadResponse(Exception):
    """The backend sent what is not an HTTP response to the request, or could be read as two different ones."""


class Response:
    """A whole response. Header names are lower case; `overflown`: its body passed the limit and was not kept."""

    __slots__ = ("body", "headers", "keep_alive", "overflown", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        """Start with an empty body, kept alive."""
        self.status = status
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.overflown = False


class ResponseParser:
    """Bytes of one connection to the backend in, the response to the one request that is under way out."""

    __slots__ = ("_body", "_data", "_is_doubtful", "_limit", "_response", "_spent")

    def __init__(self, max_body: int) -> None:
        """Keep bodies of at most `max_body` bytes."""
        self._limit = max_body
        self._data = b""
        self._body: Body | None = None
        self._response: Response | None = None
        # Bytes of interim responses so far, and whether one of them had to be repaired.
        self._spent = 0
        self._is_doubtful = False

    def feed(self, data: bytes) -> Response | None:
        """Take `data`; return the response once it is whole. Raises `BadResponse`."""
        is_start = self._response is None and not self._data and not self._spent
        if is_start and (response := self._whole(data)) is not None:
            return response
        data, self._data = self._data + data, b""
        at = 0
        try:
            if self._response is None:
                at = self._begin(data)
            if self._body is not None:
                at = self._body.feed(data, at)
        except Malformed as error:
            raise BadResponse(str(error)) from None
        return self._complete(spoilt=at < len(data))

    def eof(self) -> Response | None:
        """Return the response that the connection's end makes whole (RFC 9112 section 6.3), None where none is."""
        if type(self._body) is Body:
            self._body.whole = True
        return self._complete(spoilt=True)

    @property
    def is_request_timeout(self) -> bool:
        """Whether the head of the response under way is a 408 that closes the connection."""
        response = self._response
        return response is not None and response.status == REQUEST_TIMEOUT and not response.keep_alive

    def close(self) -> None:
        """Read no more."""
        self._data = b""
        self._body = self._response = None

    def _whole(self, data: bytes) -> Response | None:
        """Return the response that `data` is, if it is whole and like most others: the shorter way."""
        found = data.find(b"\r\n\r\n", 0, COMMON_SIZE)
        if found < 0:
            return None
        end = found + 4
        try:
            status, said = _common_head(data[:end])
        except Malformed:
            return None
        size = len(data) - end
        if status < _FIRST_FINAL or size > self._limit or size != (0 if status in _BODILESS else said.size):
            return None
        response = Response(status, said.headers)
        response.body = data[end:]
        response.keep_alive = said.keep_alive
        return response

    def _begin(self, data: bytes) -> int:
        """Read heads, until one is not that of an interim response; return where the body begins."""
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
        """Read one head. That of an interim response is passed over."""
        status, said = (_common_head if len(head) <= COMMON_SIZE else _read_head)(head)
        if status < _FIRST_FINAL:
            self._spent += len(head)
            self._is_doubtful = self._is_doubtful or not said.keep_alive
            if self._spent > MAX_HEAD:
                raise LimitExceeded(f"its interim responses have more than {MAX_HEAD} bytes")
            return
        self._response = Response(status, said.headers)
        self._response.keep_alive = said.keep_alive and not self._is_doubtful
        if status not in _BODILESS:
            self._body = said.body(self._limit, lenient=True)

    def _complete(self, *, spoilt: bool) -> Response | None:
        """Return the response if it is whole. `spoilt`: the connection is of no use any more."""
        response, body = self._response, self._body
        if response is None:
            return None
        if body is not None:
            if not (body.whole or body.overflown):
                return None
            response.body = body.take()
            response.overflown = body.overflown
            spoilt = spoilt or not body.whole
        if spoilt:
            response.keep_alive = False
        self._response = self._body = None
        self._spent = 0
        self._is_doubtful = False
        return response


def _check_part(data: bytes, start: int) -> None:
    """Refuse, without waiting for the rest, what will never be the beginning of a response."""
    if data.find(b"\n", start) >= 0:
        _read_line(data, start)
    elif not _BEGINNING.startswith(data[start : start + len(_BEGINNING)]):
        raise _not_a_line()


def _read_line(data: bytes, start: int) -> tuple[int, str]:
    """Return status and version of the status line at `start` (RFC 9112 section 4)."""
    line = _LINE.match(data, start)
    if line is None:
        raise _not_a_line()
    status = int(line[2])
    if status == _SWITCHING:
        raise Malformed("it switches to another protocol, which nobody asked for")
    return status, heads.VERSIONS[line[1]]


def _read_head(head: bytes) -> tuple[int, Head]:
    """Return the status of a whole head, which may have to be repaired, and what else it says."""
    try:
        return _read_strictly(head)
    except Malformed:
        repair = lenient.Repair(head)
    status, said = _read_strictly(repair.head)
    said.keep_alive = said.keep_alive and not repair.is_doubtful
    return status, said


def _read_strictly(head: bytes) -> tuple[int, Head]:
    status, version = _read_line(head, 0)
    said = heads.read(httptools.HttpResponseParser, version, head)
    if status < _FIRST_FINAL:
        if said.size:
            raise Malformed("an interim response has a body")
    # Nothing but its end ends a body of unknown size. Whoever announces one where there can be none may send it.
    elif said.size if status in _BODILESS else said.size is None:
        said.keep_alive = False
    return status, said


_common_head = lru_cache(COMMON_HEADS)(_read_head)


def _not_a_line() -> Malformed:
    return Malformed("its first line is not a version of HTTP/1 and a status")
