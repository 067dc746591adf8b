"""The heads of HTTP/1.1 messages: their end, their headers, and how these frame the body (RFC 9112).

llhttp (through httptools) checks the syntax of one complete head at a time. This module and the parsers of requests and
responses check everything else. They are strict: a head that a proxy could read differently is refused.
"""

from collections.abc import Mapping
from typing import Any, Final

import httptools

from wsaas.errors import LimitExceeded, Malformed, UnknownCoding
from wsaas.http.body import Body, Chunked, LenientChunked, Sized

MAX_HEAD: Final = 32 * 1024
MAX_HEADERS: Final = 100

COMMON_HEADS: Final = 512
COMMON_SIZE: Final = 1024
"""How many parsed heads are cached, for requests and for responses, and the maximum size of a cached head in bytes.

Most heads equal an earlier one, except for the target. A cached head halves the time to parse a short message
(`python -m benchmarks paths`)."""

END: Final = b"\r\n\r\n"
"""The end of a head. `find_end` searches for it; the shortcuts for a push and a message do so inline."""

VERSIONS: Final = {b"1.0": "1.0", b"1.1": "1.1"}

Headers = Mapping[bytes, bytes]
"""Lower-case names to stripped values; the values of a repeated name are joined (RFC 9110 section 5.3)."""

_NONE: Final[frozenset[bytes]] = frozenset()
ACTION_HEADERS: Final = frozenset({b"ws-join", b"ws-leave", b"ws-reply", b"ws-context", b"ws-close"})
"""Headers by which the backend asks for something in its answer to a message."""

_FRAMING: Final = {b"content-length", b"transfer-encoding"}
_MAX_SHOWN: Final = 40
"""Maximum number of bytes of a header value that an error message quotes."""
_MAX_DIGITS: Final = 19
"""Maximum number of digits of a `Content-Length`, so that it fits into 64 bits."""


class Head:
    """A parsed head. Immutable in effect, since messages with equal heads share one.

    `has_actions`: some of `headers` are `ACTION_HEADERS`.
    `repeated`: the names of repeated headers.
    `size`: the size of the body in bytes, -1 for a chunked body, None if no header declares it.
    `upgrade`: the head asks for an upgrade to WebSocket.
    """

    __slots__ = ("has_actions", "headers", "keep_alive", "repeated", "size", "upgrade", "version")

    def __init__(self, version: str, headers: Headers, repeated: frozenset[bytes]) -> None:
        """Interpret `headers`. Raises `Malformed` if the size of the body is ambiguous."""
        self.version = version
        self.has_actions = not ACTION_HEADERS.isdisjoint(headers)
        self.headers = headers
        self.repeated = repeated
        self.keep_alive = version == "1.1"
        if not _FRAMING.isdisjoint(repeated):
            raise Malformed("its Content-Length or Transfer-Encoding is repeated")
        self.size = _size(headers, version)
        self.upgrade = False
        if b"connection" in headers:
            options = self.members(b"connection")
            self.keep_alive = b"close" not in options and (self.keep_alive or b"keep-alive" in options)
            self.upgrade = b"upgrade" in options and b"websocket" in self.members(b"upgrade")

    def members(self, name: bytes) -> list[bytes]:
        """Return the members of the list header `name`, in lower case."""
        return _split(self.headers.get(name, b"").lower())

    def body(self, limit: int, *, lenient: bool = False) -> Body:
        """Return the body, to be fed. `lenient`: read chunks with `LenientChunked`."""
        if self.size is None:
            return Body(limit)
        if self.size >= 0:
            return Sized(limit, self.size)
        return LenientChunked(limit) if lenient else Chunked(limit)


def find_end(data: bytes, start: int) -> int:
    """Return the end of the head that begins at `start`, 0 if it is incomplete. Raises `LimitExceeded`."""
    found = data.find(END, start, start + MAX_HEAD)
    if found < 0 and len(data) - start > MAX_HEAD:
        raise LimitExceeded(f"its head has more than {MAX_HEAD} bytes")
    return found + len(END) if found >= 0 else 0


def check_part(data: bytes, start: int) -> None:
    """Raise `Malformed` if a line of an incomplete head ends without CR: `find_end` might never find its end."""
    if data.count(b"\n", start) > data.count(b"\r\n", start):
        raise Malformed("a line of its head ends without CR")


def read(parser: type[Any], version: str, head: bytes) -> Head:
    """Parse a complete head; `parser`, a class of httptools, checks its syntax. Raises `Malformed`."""
    lines = head.split(b"\r\n")[1:-2]
    if len(lines) > MAX_HEADERS:
        raise LimitExceeded(f"its head has more than {MAX_HEADERS} headers")
    _check_syntax(parser, head)
    fields = [line.partition(b":") for line in lines]
    headers = {name.lower(): value.strip(b" \t") for name, _, value in fields}
    return Head(version, headers, _join(headers, fields) if len(headers) < len(fields) else _NONE)


def members(headers: Headers, name: bytes) -> list[bytes]:
    """Return the members of the comma-separated list header `name` (RFC 9110 section 5.6.1)."""
    return _split(headers.get(name, b""))


def decoded(headers: Headers) -> dict[str, str]:
    """Return `headers` as text."""
    try:
        return {name.decode(): value.decode() for name, value in headers.items()}
    except UnicodeDecodeError:
        return {name.decode(): text(value) for name, value in headers.items()}


def text(value: bytes) -> str:
    """Decode the value of a header as UTF-8 if it is valid, else as Latin-1 (RFC 9110 section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def content_coding(headers: Headers) -> str:
    """Return the `Content-Encoding` (RFC 9110 section 8.4), truncated for an error message; empty if there is none."""
    value = headers.get(b"content-encoding")
    if value is None or all(each.lower() == b"identity" for each in _split(value)):
        return ""
    return value[:_MAX_SHOWN].decode("latin-1")


def _split(value: bytes) -> list[bytes]:
    """Return the members of the `value` of a list header."""
    if b"," not in value:
        return [value] if value else []
    return [member for each in value.split(b",") if (member := each.strip(b" \t"))]


class _EndOfHead:
    """The callbacks for llhttp, which note that it has read a complete head."""

    __slots__ = ("was_seen",)

    def __init__(self) -> None:
        self.was_seen = False

    def on_headers_complete(self) -> None:
        self.was_seen = True


def _check_syntax(parser: type[Any], head: bytes) -> None:
    end = _EndOfHead()
    try:
        parser(end).feed_data(head)
    except httptools.HttpParserUpgrade:
        # An offer of another protocol. The callers decide whether to accept it.
        pass
    except httptools.HttpParserError as error:
        raise Malformed(str(error)) from None
    if not end.was_seen:
        raise Malformed("its head is incomplete")


def _join(headers: dict[bytes, bytes], fields: list[tuple[bytes, bytes, bytes]]) -> frozenset[bytes]:
    """Join the values of repeated headers in `headers`, which has only the last of each; return their names."""
    values: dict[bytes, list[bytes]] = {}
    for name, _, value in fields:
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    repeated = frozenset(name for name, found in values.items() if len(found) > 1)
    for name in repeated:
        # Cookies have a separator of their own (RFC 6265 section 5.4).
        headers[name] = (b"; " if name == b"cookie" else b", ").join(filter(None, values[name]))
    return repeated


def _size(headers: Headers, version: str) -> int | None:
    """Return `Head.size` (RFC 9112 section 6.3). Raises `Malformed`."""
    coding, size = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is None:
        if size is None:
            return None
        if not size.isdigit() or len(size) > _MAX_DIGITS:
            raise Malformed("its Content-Length is not a valid number")
        return int(size)
    if size is not None:
        raise Malformed("it has both a Content-Length and a Transfer-Encoding")
    if version != "1.1":
        raise Malformed("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() == b"chunked":
        return -1
    if [each.lower() for each in members(headers, b"transfer-encoding")][-1:] != [b"chunked"]:
        raise Malformed("chunked must be the last transfer coding")
    raise UnknownCoding("only the transfer coding chunked is supported")
