"""HTTP/1.1: bytes to requests (RFC 9112).

`RequestParser` takes bytes as they arrive and gives values; it knows no socket and no time.
"""

import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import cast

import httptools

from wsaas.errors import (
    BadRequest,
    ExpectationFailed,
    HeadTooLarge,
    HTTPError,
    LimitExceeded,
    Malformed,
    TooLarge,
    UnknownCoding,
    Unsupported,
    UriTooLong,
    VersionNotSupported,
)
from wsaas.grammar import TOKEN_CHARACTER
from wsaas.http import headers as heads
from wsaas.http.body import Body
from wsaas.http.headers import COMMON_HEADS, COMMON_SIZE, MAX_HEAD, Head

MAX_TARGET = 8 * 1024

CHUNKS = 64
"""Chunks of a body that are read before `RequestParser.next` returns, for others to have their turn."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

METHODS = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"PATCH", b"OPTIONS", b"TRACE"})
"""What a resource here does, or refuses with an `Allow`. Others, `CONNECT` among them, are unknown to all of them."""

_METHOD = rb"%b{1,32}" % TOKEN_CHARACTER.encode()
_LINE = re.compile(rb"(%b) ([!-~]+) (?=HTTP/([0-9]\.[0-9])\r\n)" % _METHOD)
_PART_OF_LINE = re.compile(rb"%b(?: ([!-~]*)(?: [!-~]{0,8}\r?)?)?" % _METHOD)
_EMPTY_LINES = re.compile(rb"(?:\r\n)+(?:\r\Z)?|\r\Z|")
_HOST = rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
"""RFC 3986 section 3.2.2, without the IP addresses of the future."""
_AUTHORITY = re.compile(_HOST)
_ABSOLUTE = re.compile(rb"(?i:https?)://(?![:/?])%b([/?][!\"$-~]*)?" % _HOST)
_ONCE = {b"authorization", b"content-type", b"host", b"origin"}
"""Headers of which two would have two meanings."""


def push_line(max_target: int) -> re.Pattern[bytes]:
    """Return what nearly every request begins with; the same as `_LINE` and all that is asked of it, in one look."""
    return re.compile(rb"PUT (/[!\"$-~]{0,%d}) (?=HTTP/1\.1\r\n)" % (max_target - 1))


_PUSH_LINE = push_line(MAX_TARGET)


class Phase(Enum):
    """How far a message got: nothing of it yet, within its head, within its body, or no further ever.

    DISCARD: within the body of a request that was given out without it.
    """

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    DISCARD = "discard"
    DEAD = "dead"


# A member of an enumeration is searched for each time, a name is there.
IDLE, HEAD, BODY, DISCARD, DEAD = Phase


class Request:
    """A whole request; `upgrade`: it asks for a WebSocket. `target` is in origin form, or `*`."""

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
        """Return the value of the header `name` (lower case), None where there is none."""
        return self.headers.get(name)

    def tokens(self, name: bytes) -> list[bytes]:
        """Return the members of the comma-separated list header `name` (lower case)."""
        return heads.members(self.headers, name)


class RejectedRequest:
    """A request whose head is enough to refuse it with `fault`. Nothing of its body is kept."""

    __slots__ = ("fault", "request")

    def __init__(self, request: Request, fault: HTTPError) -> None:
        """Refuse `request`, whose body is empty here."""
        self.fault = fault
        self.request = request


Item = Request | RejectedRequest | HTTPError | bytes

BodyLimit = Callable[[Request], int]
"""Returns how many bytes of its body are needed to answer a request whose head is complete. 0: it is answered without.
Raises the `HTTPError` with which it is refused at once."""


class RequestParser:
    """Bytes of one connection in, requests in order out.

    `next` gives the whole requests, `CONTINUE` where a client waits to be told to send its body (RFC 9110 section
    10.1.1), and at last the `HTTPError` after which nothing can be read any more. A request for a WebSocket ends the
    HTTP on a connection too: what came behind it is in `rest`.

    A request whose body has not arrived yet, or comes in chunks, is decided as soon as its head is complete, by
    `body_limit`. One that is refused comes out as `RejectedRequest`, one that needs no body as a request with an empty
    one. The body is then read and discarded, so that the connection can be kept (RFC 9112 section 9.3), but not where
    the client waits to be told to send it or where it is over `max_body`: then the request's `keep_alive` is false and
    nothing more is read. If a discarded body turns out to be malformed or too large later on, the phase becomes `DEAD`
    without a `HTTPError`, as its request was answered already.
    """

    __slots__ = ("_at", "_body", "_body_limit", "_data", "_limit", "_request", "phase", "rest")

    def __init__(self, max_body: int, body_limit: BodyLimit | None = None) -> None:
        """Read requests with bodies of at most `max_body` bytes, less where `body_limit` says so."""
        self._body_limit = body_limit
        self._limit = max_body
        self._data = b""
        self._at = 0
        self._request: Request | RejectedRequest | None = None
        self._body: Body | None = None
        self.phase = IDLE
        self.rest = b""

    def receive(self, data: bytes) -> None:
        """Take bytes, for `next` to read."""
        if self.phase is not DEAD:
            self._data = self._data[self._at :] + data
            self._at = 0

    def whole(self, data: bytes) -> Request | None:
        """Return the request that `data` is, if nothing came before it and it is a push, whole and like most others.

        Otherwise take nothing: `data` is for `receive`, which is for any. This way is the shorter one.
        """
        line = _PUSH_LINE.match(data)
        if line is None or self._data or self.phase is not IDLE:
            return None
        found = data.find(b"\r\n\r\n", 0, COMMON_SIZE)
        if found < 0:
            return None
        end = found + 4
        try:
            head = _common_head(data[line.end() : end])
        except (Malformed, HTTPError):
            return None
        size = len(data) - end
        if (head.size or 0) != size or size > self._limit or not head.keep_alive or b"upgrade" in head.headers:
            return None
        request = Request(b"PUT", line[1], head)
        request.body = data[end:]
        return request

    def next(self) -> Item | None:
        """Return what comes next, None until more bytes make something whole."""
        if not self._data and self._body is None:
            return None
        try:
            item = self._begin() if self._body is None else self._go_on(self._body)
        except LimitExceeded as error:
            fault: HTTPError = HeadTooLarge(f"The request is too large: {error}.")
        except UnknownCoding as error:
            fault = Unsupported(f"The request cannot be read: {error}.")
        except Malformed as error:
            fault = BadRequest(f"The request is not valid HTTP: {error}.")
        except HTTPError as error:
            fault = error.with_traceback(None)
        else:
            if item is None and self._at and not self.is_busy:
                # What was read is let go.
                self._data = self._data[self._at :]
                self._at = 0
            return item
        answered = self.phase is DISCARD
        self.close()
        return None if answered else fault

    @property
    def pending(self) -> bool:
        """Whether there are bytes behind what `next` returned last."""
        return self._at < len(self._data)

    @property
    def is_busy(self) -> bool:
        """Whether `next` returned None although there is more to read: a body of many tiny chunks."""
        return self._body is not None and self._at < len(self._data)

    def close(self) -> None:
        """Read no more."""
        self.phase = DEAD
        self._request = self._body = None
        self._data = b""
        self._at = 0

    def _begin(self) -> Item | None:
        """Read a head, and the body behind it if that is there."""
        data, start = self._data, self._at
        if data.startswith(b"\r", start):
            start = self._skip_empty_lines()
        if start == len(data):
            return None
        end = heads.find_end(data, start)
        if not end:
            self.phase = HEAD
            _check_part(data, start)
            return None
        method, target, rest = _read_line(data, start)
        head = (_common_head if method == b"PUT" and end - rest <= COMMON_SIZE else _read_head)(data[rest:end])
        request = Request(method, target, head)
        size = head.size or 0
        self._at = end
        if 0 <= size <= min(self._limit, len(data) - end):
            self._at += size
            request.body = data[end : self._at]
            if self._at == len(data):
                self._data = b""
                self._at = 0
            return self._give(request)
        return self._begin_body(request, head)

    def _begin_body(self, request: Request, head: Head) -> Item | None:
        """Decide a request by its head, and begin to read its body."""
        limit = self._limit
        if self._body_limit is not None:
            try:
                limit = min(limit, self._body_limit(request))
            except HTTPError as fault:
                return self._give_early(request, head, RejectedRequest(request, fault.with_traceback(None)))
            if not limit:
                return self._give_early(request, head, request)
        body = head.body(limit)
        if body.overflown and limit < self._limit:
            return self._give_early(request, head, RejectedRequest(request, too_large(limit)))
        if body.overflown:
            raise too_large(limit)
        self._request, self._body = request, body
        self.phase = BODY
        if self._at == len(self._data) and b"expect" in head.headers and head.version == "1.1":
            return CONTINUE
        return self._go_on(body)

    def _give_early(self, request: Request, head: Head, item: Request | RejectedRequest) -> Item | None:
        """Give `item` out without the body of its `request`, which is discarded."""
        body = head.body(self._limit)
        if body.overflown or b"expect" in head.headers:
            request.keep_alive = False
        if not request.keep_alive:
            self.close()
            return item
        body.discard()
        self._request, self._body = item, body
        self.phase = BODY
        return self._go_on(body)

    def _go_on(self, body: Body) -> Item | None:
        """Read a body."""
        self._at = body.feed(self._data, self._at, CHUNKS)
        if body.overflown:
            raise too_large(body.limit)
        item = self._request
        if not body.whole:
            if not body.discarded or item is None or self.is_busy:
                return None
            # What arrived of it so far is well formed: the answer does not wait for the rest.
            self._request = None
            self.phase = DISCARD
            return item
        self._request = self._body = None
        self.phase = IDLE
        if item is None:
            return self._begin()
        if type(item) is Request and not body.discarded:
            item.body = body.take()
            return self._give(item)
        return item

    def _give(self, request: Request) -> Request:
        """Give a whole request out."""
        if request.upgrade:
            self.rest = self._data[self._at :]
        if request.upgrade or not request.keep_alive:
            self.close()
        else:
            self._request = self._body = None
            self.phase = IDLE
        return request

    def _skip_empty_lines(self) -> int:
        """Return where the next request begins: there may be empty lines before it (RFC 9112 section 2.2)."""
        start = cast("re.Match[bytes]", _EMPTY_LINES.match(self._data, self._at)).end()
        if start - self._at > MAX_HEAD:
            raise LimitExceeded(f"more than {MAX_HEAD} bytes of empty lines are before it")
        return start


def _check_part(data: bytes, start: int) -> None:
    """Refuse, without waiting for the rest, what will never be the beginning of a request."""
    if data.find(b"\n", start) >= 0:
        _read_line(data, start)
        heads.check_part(data, start)
    elif (part := _PART_OF_LINE.fullmatch(data, start)) is None:
        raise _not_a_line()
    elif part[1] and len(part[1]) > MAX_TARGET:
        raise _too_long()


def _read_line(data: bytes, start: int) -> tuple[bytes, bytes, int]:
    """Return method and target of the request line at `start` (RFC 9112 section 3), and where its version begins."""
    line = _PUSH_LINE.match(data, start)
    if line is not None:
        return b"PUT", line[1], line.end()
    line = _LINE.match(data, start)
    if line is None:
        raise _not_a_line()
    method, target, version = line.groups()
    if method not in METHODS:
        raise Unsupported("This method is not supported.")
    if len(target) > MAX_TARGET:
        raise _too_long()
    if version not in heads.VERSIONS:
        raise VersionNotSupported("Only HTTP/1.0 and HTTP/1.1 are spoken here.")
    if not target.startswith(b"/") or b"#" in target:
        target = _origin(method, target)
    return method, target, line.end()


def _origin(method: bytes, target: bytes) -> bytes:
    """Return in origin form (RFC 9112 section 3.2) a target that is not, or `*`."""
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed("its target is neither a path nor a URL")
    path = absolute[1] or b"/"
    return path if path.startswith(b"/") else b"/" + path


def _read_head(rest: bytes) -> Head:
    """Judge a head by its bytes from the version on."""
    head = heads.read(httptools.HttpRequestParser, heads.VERSIONS[rest[5:8]], b"GET / " + rest)
    headers = head.headers
    if not _ONCE.isdisjoint(head.repeated):
        raise Malformed("a header is repeated that has one value")
    host = headers.get(b"host")
    if host is None and head.version == "1.1":
        raise Malformed("it has no Host")
    if host is not None and not _AUTHORITY.fullmatch(host):
        raise Malformed("its Host is not a host")
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise ExpectationFailed("Only Expect: 100-continue is understood.")
    if head.upgrade:
        if head.size:
            raise BadRequest("A WebSocket handshake has no body.")
    elif b"upgrade" in headers and b"upgrade" in head.members(b"connection"):
        # An offer of a protocol that is not spoken here is ignored (RFC 9110 section 7.8). Java's client makes one with
        # each first request.
        head.headers = {name: value for name, value in headers.items() if name != b"upgrade"}
    return head


_common_head = lru_cache(COMMON_HEADS)(_read_head)


def _not_a_line() -> Malformed:
    return Malformed("its first line is not a method, a target and a version")


def _too_long() -> UriTooLong:
    return UriTooLong(f"The request target is longer than {MAX_TARGET} bytes.")


def too_large(limit: int) -> TooLarge:
    """Return the fault of a body over `limit` bytes."""
    return TooLarge(f"The body may have at most {limit} bytes.")
