"""The heads of HTTP/1.1 messages: where one ends, its headers, and what they say of its body (RFC 9112).

llhttp (through httptools) judges the syntax, of one whole head at a time. The rest is decided here and by the readers
above, strictly: what somebody in front of the gateway could read in another way is refused, not guessed at.
"""

from collections.abc import Mapping
from typing import Any

import httptools

from wsaas.errors import LimitExceeded, Malformed, UnknownCoding
from wsaas.http.body import Body, Chunked, LenientChunked, Sized

MAX_HEAD = 32 * 1024
MAX_HEADERS = 100

COMMON_HEADS, COMMON_SIZE = 512, 1024
"""So many heads of each kind, of so many bytes at most, are kept with what they say. Most are like one before, but for
the target, and then a short message is read in half the time (`python -m benchmarks paths`)."""

VERSIONS = {b"1.0": "1.0", b"1.1": "1.1"}

Headers = Mapping[bytes, bytes]
"""Lower-case names to values without space around them; those of a repeated name are joined (RFC 9110 section 5.3)."""

_NONE: frozenset[bytes] = frozenset()
_FRAMING = {b"content-length", b"transfer-encoding"}
_MAX_SHOWN = 40
"""Bytes of a header that are shown to people."""
_MAX_DIGITS = 19
"""Of a length: any such number has 64 bits."""


class Head:
    """What a head says. It may be shared by many messages: nobody changes it once it was judged.

    `repeated`: the names of headers that came more than once. `size`: the bytes of the body, None where the headers
    do not say, -1 for one in chunks. `upgrade`: it asks for a WebSocket.
    """

    __slots__ = ("headers", "keep_alive", "repeated", "size", "upgrade", "version")

    def __init__(self, version: str, headers: Headers, repeated: frozenset[bytes]) -> None:
        """Judge `headers`. Raises `Malformed` where they leave open how long the body is."""
        self.version = version
        self.headers = headers
        self.repeated = repeated
        self.keep_alive = version == "1.1"
        if not _FRAMING.isdisjoint(repeated):
            raise Malformed("its length is told twice")
        self.size = _size(headers, version)
        self.upgrade = False
        if b"connection" in headers:
            options = self.members(b"connection")
            self.keep_alive = b"close" not in options and (self.keep_alive or b"keep-alive" in options)
            self.upgrade = b"upgrade" in options and b"websocket" in self.members(b"upgrade")

    def members(self, name: bytes) -> list[bytes]:
        """Return the members, in lower case, of the list header `name`."""
        return _split(self.headers.get(name, b"").lower())

    def body(self, limit: int, *, lenient: bool = False) -> Body:
        """Return the body, still to be read. `lenient`: chunks may be written as `LenientChunked` reads them."""
        if self.size is None:
            return Body(limit)
        if self.size >= 0:
            return Sized(limit, self.size)
        return LenientChunked(limit) if lenient else Chunked(limit)


def find_end(data: bytes, start: int) -> int:
    """Return where the head ends that begins at `start`, 0 when its end is still to come. Raises `LimitExceeded`."""
    found = data.find(b"\r\n\r\n", start)
    end = found + 4 if found >= 0 else len(data)
    if end - start > MAX_HEAD:
        raise LimitExceeded(f"its head has more than {MAX_HEAD} bytes")
    return end if found >= 0 else 0


def check_part(data: bytes, start: int) -> None:
    """Refuse a head that ends lines in another way than by CRLF: its end may never come. Raises `Malformed`."""
    if data.count(b"\n", start) > data.count(b"\r\n", start):
        raise Malformed("a line of its head ends without CR")


def read(parser: type[Any], version: str, head: bytes) -> Head:
    """Return what a whole head says, whose syntax `parser` of httptools judges. Raises `Malformed`."""
    lines = head.split(b"\r\n")[1:-2]
    if len(lines) > MAX_HEADERS:
        raise LimitExceeded(f"its head has more than {MAX_HEADERS} headers")
    _judge(parser, head)
    fields = [line.partition(b":") for line in lines]
    headers = {name.lower(): value.strip(b" \t") for name, _, value in fields}
    return Head(version, headers, _join(headers, fields) if len(headers) < len(fields) else _NONE)


def members(headers: Headers, name: bytes) -> list[bytes]:
    """Return the members of the comma-separated list header `name` (RFC 9110 section 5.6.1)."""
    return _split(headers.get(name, b""))


def content_coding(headers: Headers) -> str:
    """Return the `Content-Encoding` (RFC 9110 section 8.4), cut short to be shown; empty where a body is as it is."""
    value = headers.get(b"content-encoding")
    if value is None or all(each.lower() == b"identity" for each in _split(value)):
        return ""
    return value[:_MAX_SHOWN].decode("latin-1")


def _split(value: bytes) -> list[bytes]:
    """Return the members of a list header's `value`."""
    if b"," not in value:
        return [value] if value else []
    return [member for each in value.split(b",") if (member := each.strip(b" \t"))]


class _Judge:
    """llhttp says here that it saw the end of a head."""

    __slots__ = ("content",)

    def __init__(self) -> None:
        self.content = False

    def on_headers_complete(self) -> None:
        self.content = True


def _judge(parser: type[Any], head: bytes) -> None:
    judge = _Judge()
    try:
        parser(judge).feed_data(head)
    except httptools.HttpParserUpgrade:
        # An offer of another protocol: the readers decide what it means.
        pass
    except httptools.HttpParserError as error:
        raise Malformed(str(error)) from None
    if not judge.content:
        raise Malformed("its head has no end")


def _join(headers: dict[bytes, bytes], fields: list[tuple[bytes, bytes, bytes]]) -> frozenset[bytes]:
    """Join the values of repeated headers, of which `headers` has the last ones; return their names."""
    values: dict[bytes, list[bytes]] = {}
    for name, _, value in fields:
        values.setdefault(name.lower(), []).append(value.strip(b" \t"))
    repeated = frozenset(name for name, found in values.items() if len(found) > 1)
    for name in repeated:
        # Cookies have a separator of their own (RFC 6265 section 5.4).
        headers[name] = (b"; " if name == b"cookie" else b", ").join(filter(None, values[name]))
    return repeated


def _size(headers: Headers, version: str) -> int | None:
    """Return the size of the body as `Head` has it (RFC 9112 section 6.3)."""
    coding, size = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is None:
        if size is None:
            return None
        if not size.isdigit() or len(size) > _MAX_DIGITS:
            raise Malformed("its Content-Length is not a length")
        return int(size)
    if size is not None:
        raise Malformed("it has both a Content-Length and a Transfer-Encoding")
    if version != "1.1":
        raise Malformed("HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() == b"chunked":
        return -1
    if [each.lower() for each in members(headers, b"transfer-encoding")][-1:] != [b"chunked"]:
        raise Malformed("its body is not chunked at last, so that nothing says where it ends")
    raise UnknownCoding("its body is not only chunked")
