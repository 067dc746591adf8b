"""The parser of HTTP/1.1 requests (RFC 9112): bytes in, values out. It knows no socket and no clock."""

import re
from collections.abc import Callable
from enum import Enum
from typing import Final, cast

from wsaas.errors import (
    BadRequest,
    HeadTooLarge,
    HTTPError,
    LimitExceeded,
    Malformed,
    TooLarge,
    UnknownCoding,
    Unsupported,
)
from wsaas.http import headers as heads
from wsaas.http import usual_handshake
from wsaas.http.body import Body
from wsaas.http.headers import COMMON_SIZE, END, MAX_HEAD, Head, Headers
from wsaas.http.request_head import PUSH_LINE, check_part, common_head, handshake_path, read_head, read_line

CHUNKS: Final = 64
"""How many chunks of a body one call of `RequestParser.next` reads, so that other connections have their turn."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+(?:\r\Z)?|\r\Z|")


class Phase(Enum):
    """What the parser reads next.

    IDLE: the first byte of a request. HEAD, BODY: the rest of a head or body. DISCARD: the rest of the body of a
    request that was already returned. CLOSED: nothing.
    """

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    DISCARD = "discard"
    CLOSED = "closed"


IDLE: Final = Phase.IDLE
HEAD: Final = Phase.HEAD
BODY: Final = Phase.BODY
DISCARD: Final = Phase.DISCARD
CLOSED: Final = Phase.CLOSED


class Request:
    """A request. `target`: in origin form, or `*`. `upgrade`: the request asks for an upgrade to WebSocket."""

    __slots__ = ("body", "headers", "keep_alive", "method", "target", "upgrade", "version")

    def __init__(self, method: bytes, target: bytes, head: Head) -> None:
        """Start with an empty body."""
        self.method = method
        self.target = target
        self.version = head.version
        self.headers = head.headers
        self.body = b""
        self.keep_alive = head.keep_alive
        self.upgrade = head.upgrade

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the header `name` (lower case), or None."""
        return self.headers.get(name)

    def tokens(self, name: bytes) -> list[bytes]:
        """Return the members of the comma-separated list header `name` (lower case)."""
        return heads.members(self.headers, name)

    def text_headers(self) -> dict[str, str]:
        """Return the headers as text: values in UTF-8 or, where that is not valid, in Latin-1."""
        return heads.decoded(self.headers)


class UsualHandshake(Request):
    """A request that `usual_handshake.parse` recognized. Its headers are there as text already."""

    __slots__ = ("_text_headers",)

    def __init__(self, target: bytes, headers: Headers, text_headers: dict[str, str]) -> None:
        """Set what a parser of requests would set, without a `Head`."""
        self.method = b"GET"
        self.target = target
        self.version = "1.1"
        self.headers = headers
        self.body = b""
        self.keep_alive = self.upgrade = True
        self._text_headers = text_headers

    def text_headers(self) -> dict[str, str]:
        """Return the headers as text."""
        return self._text_headers


class RejectedRequest:
    """A request that was refused by its head, with `error`. Its body is not stored."""

    __slots__ = ("error", "request")

    def __init__(self, request: Request, error: HTTPError) -> None:
        """Refuse `request` with `error`."""
        self.error = error
        self.request = request


Item = Request | RejectedRequest | HTTPError | bytes

BodyLimit = Callable[[Request], int]
"""Called with a request of which only the head has arrived. Returns how many bytes of the body are needed to answer it,
at most; 0: none. Raises an `HTTPError` to refuse the request at once."""


class RequestParser:
    """Parses the bytes of one connection into requests, in order.

    `receive` takes bytes. `next` returns complete requests, `CONTINUE` if a client waits for it before it sends a body
    (RFC 9110 section 10.1.1), and an `HTTPError` if the bytes cannot be parsed; then the phase is `CLOSED`. It is also
    `CLOSED` after the last request of a connection; bytes after an upgrade request are in `trailing_data`.

    If the body of a request is chunked or has not arrived, `body_limit` is called as soon as the head is complete. If
    it refuses the request, `next` returns a `RejectedRequest`; if the request needs no body, `next` returns it with an
    empty one. The body is then read and discarded, so that the connection can be reused (RFC 9112 section 9.3). It is
    not read if the client waits for `CONTINUE`, or if it is larger than `max_body`: then `keep_alive` of the request is
    false, and the phase is `CLOSED`. If a discarded body turns out to be malformed or too large, the phase becomes
    `CLOSED` without an `HTTPError`, because its request was already returned.

    `refused_handshake`: the `HTTPError` and the path if the head that cannot be parsed is meant as a handshake.
    """

    __slots__ = (
        "_at",
        "_body",
        "_body_limit",
        "_data",
        "_limit",
        "_request",
        "phase",
        "refused_handshake",
        "trailing_data",
    )

    def __init__(self, max_body: int, body_limit: BodyLimit | None = None) -> None:
        """Accept bodies of at most `max_body` bytes, or fewer if `body_limit` says so."""
        self._body_limit = body_limit
        self._limit = max_body
        self._data = b""
        self._at = 0
        self._request: Request | RejectedRequest | None = None
        self._body: Body | None = None
        self.phase = IDLE
        self.refused_handshake: tuple[HTTPError, bytes] | None = None
        self.trailing_data = b""

    def receive(self, data: bytes) -> None:
        """Buffer bytes for `next`."""
        if self.phase is not CLOSED:
            self._data = self._data[self._at :] + data
            self._at = 0

    def parse_push(self, data: bytes) -> Request | None:
        """Return the request if `data` is exactly one usual push and nothing is buffered; otherwise None.

        After None, pass `data` to `receive`. This is a shortcut (`python -m benchmarks micro`, case `push`); `receive`
        and `next` would return an equal request.
        """
        line = PUSH_LINE.match(data)
        if line is None or self._data or self.phase is not IDLE:
            return None
        found = data.find(END, 0, COMMON_SIZE)
        if found < 0:
            return None
        end = found + 4
        try:
            head = common_head(data[line.end() : end])
        except (Malformed, HTTPError):
            return None
        size = len(data) - end
        if (head.size or 0) != size or size > self._limit or not head.keep_alive or b"upgrade" in head.headers:
            return None
        request = Request(b"PUT", line[1], head)
        request.body = data[end:]
        return request

    def parse_handshake(self, data: bytes) -> Request | None:
        """Return the request if `data` is exactly one usual handshake and nothing is buffered; otherwise None.

        After None, pass `data` to `receive`. This is a shortcut, as `parse_push` is.
        """
        if self._data or self.phase is not IDLE:
            return None
        found = usual_handshake.parse(data)
        if found is None:
            return None
        self.close()
        return UsualHandshake(*found)

    def next(self) -> Item | None:
        """Return the next item, or None if it is incomplete."""
        if not self._data and self._body is None:
            return None
        try:
            item = self._read_request() if self._body is None else self._read_body(self._body)
        except LimitExceeded as error:
            refusal: HTTPError = HeadTooLarge(f"The request is too large: {error}.")
        except UnknownCoding as error:
            refusal = Unsupported(f"The request cannot be read: {error}.")
        except Malformed as error:
            refusal = BadRequest(f"The request is not valid HTTP: {error}.")
        except HTTPError as error:
            refusal = error.with_traceback(None)
        else:
            if item is None and self._at and not self.is_busy:
                # Free the memory of what was parsed.
                self._data = self._data[self._at :]
                self._at = 0
            return item
        answered = self.phase is DISCARD
        if self._body is None and not isinstance(refusal, TooLarge):
            path = handshake_path(self._data, self._at)
            self.refused_handshake = None if path is None else (refusal, path)
        self.close()
        return None if answered else refusal

    @property
    def is_idle(self) -> bool:
        """Whether all bytes were read, and another request may follow."""
        return self.phase is IDLE and not self._data

    @property
    def pending(self) -> bool:
        """Whether there are bytes after the item that `next` returned last."""
        return self._at < len(self._data)

    @property
    def is_busy(self) -> bool:
        """Whether `next` returned None although there are bytes to read, because the body has many tiny chunks."""
        return self._body is not None and self._at < len(self._data)

    def close(self) -> None:
        """Read no more."""
        self.phase = CLOSED
        self._request = self._body = None
        self._data = b""
        self._at = 0

    def _read_request(self) -> Item | None:
        """Read a head, and its body if that has arrived."""
        data, start = self._data, self._at
        if data.startswith(b"\r", start):
            start = self._skip_empty_lines()
        if start == len(data):
            return None
        end = heads.find_end(data, start)
        if not end:
            self.phase = HEAD
            check_part(data, start)
            return None
        method, target, version_at = read_line(data, start)
        is_common = method == b"PUT" and end - version_at <= COMMON_SIZE
        head = (common_head if is_common else read_head)(data[version_at:end])
        request = Request(method, target, head)
        size = head.size or 0
        self._at = end
        if 0 <= size <= min(self._limit, len(data) - end):
            self._at += size
            request.body = data[end : self._at]
            if self._at == len(data):
                self._data = b""
                self._at = 0
            return self._release(request)
        return self._begin_body(request, head)

    def _begin_body(self, request: Request, head: Head) -> Item | None:
        """Decide by its head whether to serve a request, and begin to read its body."""
        limit = self._limit
        if self._body_limit is not None:
            try:
                limit = self._body_limit(request)
            except HTTPError as error:
                return self._release_early(request, head, RejectedRequest(request, error.with_traceback(None)))
            if not limit:
                return self._release_early(request, head, request)
        body = head.body(limit)
        if body.is_too_large and limit < self._limit:
            return self._release_early(request, head, RejectedRequest(request, too_large(limit)))
        if body.is_too_large:
            raise too_large(limit)
        self._request, self._body = request, body
        self.phase = BODY
        if self._at == len(self._data) and b"expect" in head.headers and head.version == "1.1":
            return CONTINUE
        return self._read_body(body)

    def _release_early(self, request: Request, head: Head, item: Request | RejectedRequest) -> Item | None:
        """Return `item` without waiting for the body of its `request`, which is discarded."""
        body = head.body(self._limit)
        if body.is_too_large or b"expect" in head.headers:
            request.keep_alive = False
        if not request.keep_alive:
            self.close()
            return item
        body.discard()
        self._request, self._body = item, body
        self.phase = BODY
        return self._read_body(body)

    def _read_body(self, body: Body) -> Item | None:
        """Read more of a body; return its request if that is due."""
        self._at = body.feed(self._data, self._at, CHUNKS)
        if body.is_too_large:
            raise too_large(body.limit)
        item = self._request
        if not body.complete:
            if not body.discarded or item is None or self.is_busy:
                return None
            # The part that has arrived is well-formed. The response does not wait for the rest.
            self._request = None
            self.phase = DISCARD
            return item
        self._request = self._body = None
        self.phase = IDLE
        if item is None:
            return self._read_request()
        if type(item) is Request and not body.discarded:
            item.body = body.take()
            return self._release(item)
        return item

    def _release(self, request: Request) -> Request:
        """Return a complete request, and expect the next one unless this is the last."""
        if request.upgrade:
            self.trailing_data = self._data[self._at :]
        if request.upgrade or not request.keep_alive:
            self.close()
        else:
            self._request = self._body = None
            self.phase = IDLE
        return request

    def _skip_empty_lines(self) -> int:
        """Return the index after empty lines, which may precede a request (RFC 9112 section 2.2)."""
        start = cast("re.Match[bytes]", _EMPTY_LINES.match(self._data, self._at)).end()
        if start - self._at > MAX_HEAD:
            raise LimitExceeded(f"more than {MAX_HEAD} bytes of empty lines are before it")
        return start


def too_large(limit: int) -> TooLarge:
    """Return the error that refuses a body over `limit` bytes."""
    return TooLarge(f"The body may have at most {limit} bytes.")
