"""HTTP/1.1: bytes to requests (RFC 9112, parsed by llhttp through httptools).

`RequestReader` takes bytes as they arrive and gives values; it knows no socket and no time. llhttp sets no limit on a
start line, on the number or the size of headers or on a body: the limits are here.
"""

from enum import Enum
from typing import Any

import httptools

from wsaas.errors import (
    BadRequest,
    ExpectationFailed,
    Fault,
    HeadTooLarge,
    MethodNotAllowed,
    TooLarge,
    UriTooLong,
    VersionNotSupported,
)

MAX_TARGET = 8 * 1024
MAX_HEADERS = 100
MAX_HEAD = 32 * 1024

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Headers = list[tuple[bytes, bytes]]


class Phase(Enum):
    """How far a message got: nothing of it yet, within its head, within its body, or no further ever."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    DEAD = "dead"


class Request:
    """A whole request. Header names are lower case, values as they came; `upgrade`: it asks for a WebSocket."""

    __slots__ = ("body", "headers", "keep_alive", "method", "target", "upgrade", "version")

    def __init__(self, method: bytes, target: bytes, headers: Headers) -> None:
        """Start with an empty body, kept alive."""
        self.method = method
        self.target = target
        self.headers = headers
        self.body = b""
        self.keep_alive = True
        self.upgrade = False
        self.version = "1.1"

    @property
    def size(self) -> int:
        """Return the bytes of the head, about."""
        return len(self.target) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the header `name` (lower case), None where there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def values(self, name: bytes) -> list[bytes]:
        """Return every value of the header `name` (lower case)."""
        return [value for key, value in self.headers if key == name]

    def tokens(self, name: bytes) -> list[bytes]:
        """Return the members of the comma-separated list header `name` (RFC 9110 section 5.6.1)."""
        members = b",".join(self.values(name)).split(b",")
        return [member.strip(b" \t") for member in members if member.strip(b" \t")]


class Body:
    """Collects a body of at most `limit` bytes, whatever the number of pieces it comes in."""

    __slots__ = ("_data", "limit", "overflown")

    def __init__(self, limit: int) -> None:
        """Start empty."""
        self._data: bytes | bytearray = b""
        self.limit = limit
        self.overflown = False

    def add(self, piece: bytes) -> None:
        """Add a piece; once the limit is passed nothing is kept any more."""
        if self.overflown or len(self._data) + len(piece) > self.limit:
            self._data = b""
            self.overflown = True
        elif not self._data:
            self._data = piece
        elif isinstance(self._data, bytearray):
            self._data += piece
        else:
            self._data = bytearray(self._data) + piece

    def take(self) -> bytes:
        """Return what was collected and start again."""
        data = self._data
        self._data = b""
        self.overflown = False
        return data if isinstance(data, bytes) else bytes(data)


Item = Request | Fault | bytes


class RequestReader:
    """Bytes of one connection in, requests in order out.

    `feed` returns the whole requests, `CONTINUE` where a client waits to be told to send its body (RFC 9110 section
    10.1.1), and at last the `Fault` after which nothing can be read any more. A request for a WebSocket ends the
    HTTP on a connection too: what came behind it is in `rest`.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_fed",
        "_headers",
        "_hosts",
        "_items",
        "_parser",
        "_request",
        "_target",
        "_window",
        "phase",
        "rest",
    )

    def __init__(self, max_body: int) -> None:
        """Read requests with bodies of at most `max_body` bytes."""
        self._body = Body(max_body)
        self._items: list[Item] = []
        self._parser: Any = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._target = b""
        self._headers: Headers = []
        self._hosts = 0
        self._connection = False
        # Bytes of this feed; bytes of all feeds behind the one in which a head began or its body went on.
        self._fed = self._window = 0
        self.phase = Phase.IDLE
        self.rest = b""

    def feed(self, data: bytes) -> list[Item]:
        """Take `data`; return what became whole by it."""
        self._fed = len(data)
        self._window += len(data)
        unread: bytes | memoryview = data
        while unread and self.phase is not Phase.DEAD:
            try:
                self._parser.feed_data(unread)
                break
            except httptools.HttpParserUpgrade as upgrade:
                unread = self._upgraded(memoryview(unread)[upgrade.args[0] :])
            except httptools.HttpParserError as error:
                self._fail(_malformed(error))
        if self._window > MAX_HEAD and self.phase is not Phase.IDLE:
            self._fail(HeadTooLarge(f"The request's head, or its trailer, is larger than {MAX_HEAD} bytes."))
        items, self._items = self._items, []
        return items

    def close(self) -> None:
        """Read no more. Breaks the circle of references between this object and its parser."""
        self.phase = Phase.DEAD
        self._parser = None

    def _fail(self, fault: Fault) -> None:
        if self.phase is not Phase.DEAD:
            self._items.append(fault)
            self.close()

    def _upgraded(self, rest: memoryview) -> memoryview:
        """Return what is still HTTP of the bytes behind a request with `Upgrade`."""
        request = self._items[-1] if self._items else None
        if not isinstance(request, Request):
            return rest
        if request.upgrade:
            self.rest = bytes(rest)
            self.close()
            return rest
        # An offer of a protocol that is not spoken here is ignored (RFC 9110 section 7.8; Java's client makes
        # one with each first request). llhttp has skipped the body by now: let it read the head once more
        # without the offer.
        self._items.pop()
        self.phase = Phase.IDLE
        self._parser = httptools.HttpRequestParser(self)
        start = request.method + b" " + request.target + b" HTTP/" + request.version.encode()
        lines = [name + b": " + value for name, value in request.headers if name != b"upgrade"]
        try:
            self._parser.feed_data(b"\r\n".join([start, *lines, b"", b""]))
        except httptools.HttpParserError as error:
            self._fail(_malformed(error))
        return rest

    # What llhttp calls: these record and never raise.

    def on_message_begin(self) -> None:
        """Start a request."""
        if self.phase is not Phase.DEAD:
            self.phase = Phase.HEAD
            self._target = b""
            self._headers = []
            self._hosts = 0
            self._connection = False
            self._window = 0

    def on_url(self, piece: bytes) -> None:
        """Record a piece of the target."""
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        """Record a header, but not a trailer."""
        if self.phase is Phase.HEAD:
            name = name.lower()
            if name == b"host":
                self._hosts += 1
            elif name == b"connection":
                self._connection = True
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head."""
        if self.phase is not Phase.HEAD:
            return
        request = Request(self._parser.get_method(), self._target, self._headers)
        request.keep_alive = self._parser.should_keep_alive()
        if self._connection or not request.keep_alive:
            request.version = self._parser.get_http_version()
        if fault := self._fault(request):
            self._fail(fault)
            return
        self._request = request
        self.phase = Phase.BODY
        if (expect := request.header(b"expect")) is not None:
            self._expected(request, expect)

    def on_body(self, piece: bytes) -> None:
        """Record a piece of the body."""
        if self.phase is Phase.BODY:
            self._body.add(piece)
            self._window = 0
            if self._body.overflown:
                self._fail(too_large(self._body.limit))

    def on_message_complete(self) -> None:
        """Give the request out."""
        request = self._request
        if self.phase is Phase.BODY and request is not None:
            request.body = self._body.take()
            if self._items and self._items[-1] is CONTINUE:
                # The body came without waiting: nothing is left to ask for.
                self._items.pop()
            self._items.append(request)
            self._request = None
            self.phase = Phase.IDLE if request.keep_alive else Phase.DEAD

    def _fault(self, request: Request) -> Fault | None:  # noqa: PLR0911 - a list of rules
        if request.version not in {"1.0", "1.1"}:
            return VersionNotSupported("Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        if len(request.target) > MAX_TARGET:
            return UriTooLong(f"The request target is longer than {MAX_TARGET} bytes.")
        in_one_small_piece = self._window == 0 and self._fed <= MAX_HEAD
        if len(request.headers) > MAX_HEADERS or (not in_one_small_piece and request.size > MAX_HEAD):
            return HeadTooLarge(f"The request head has more than {MAX_HEADERS} headers or {MAX_HEAD} bytes.")
        if self._hosts != 1 and (self._hosts or request.version == "1.1"):
            return BadRequest("The request needs exactly one Host header.")
        if request.method == b"CONNECT":
            return MethodNotAllowed("This is not a proxy.", ("Allow", "GET"))
        length = request.header(b"content-length")
        if length is not None and int(length) > self._body.limit:
            return too_large(self._body.limit)
        if self._parser.should_upgrade():
            request.upgrade = b"websocket" in [token.lower() for token in request.tokens(b"upgrade")]
            if request.upgrade and ((length or b"0") != b"0" or request.header(b"transfer-encoding") is not None):
                return BadRequest("A WebSocket handshake has no body.")
        return None

    def _expected(self, request: Request, expect: bytes) -> None:
        if expect.lower() != b"100-continue":
            self._fail(ExpectationFailed("Only Expect: 100-continue is understood."))
        elif request.version == "1.1":
            self._items.append(CONTINUE)


def _malformed(error: Exception) -> BadRequest:
    return BadRequest(f"The request is not valid HTTP: {error}.")


def too_large(limit: int) -> TooLarge:
    """Return the fault of a body over `limit` bytes."""
    return TooLarge(f"A message may have at most {limit} bytes.")
