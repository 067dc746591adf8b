"""A shortcut for the handshakes that nearly all clients send: lines that were seen before are looked up, not parsed.

The heads of pushes are cached as a whole, but no two handshakes are equal: each has another `Sec-WebSocket-Key`. Most
of their lines are equal, though. In the heads of Chromium, of ws for Node.js, and of websockets and aiohttp for Python,
only the key, cookies and credentials (also in a subprotocol) differ from client to client; proxies add the address of
the client and a trace.
`PER_CLIENT` names these headers. The other lines say what host, origin, browser and languages a client has, and what it
asks for, and very many clients have them in common.

A header that differs from client to client, but is not in `PER_CLIENT`, is parsed each time as well, and fills the
cache sooner.
"""

import re
from collections.abc import Iterable
from typing import Final

from wsaas.grammar import TOKEN_BYTES
from wsaas.http.headers import END, MAX_HEAD, MAX_HEADERS, Headers, text
from wsaas.http.request_head import AUTHORITY, MAX_TARGET

PER_CLIENT: Final = frozenset(
    {
        b"authorization",
        b"baggage",
        b"cf-connecting-ip",
        b"cf-ray",
        b"cookie",
        b"forwarded",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"traceparent",
        b"tracestate",
        b"true-client-ip",
        b"x-amzn-trace-id",
        b"x-api-key",
        b"x-auth-token",
        b"x-client-ip",
        b"x-cloud-trace-context",
        b"x-correlation-id",
        b"x-csrf-token",
        b"x-forwarded-for",
        b"x-forwarded-port",
        b"x-real-ip",
        b"x-request-id",
    }
)
"""Headers whose values differ from client to client. Their lines are not cached."""

MAX_LINES: Final = 1024
MAX_LINE: Final = 256
"""How many lines are cached, and the maximum size of a cached line in bytes. That takes a megabyte at most.

A full cache is emptied. Who wants others to be parsed anew has to send a thousand lines for that."""

MAX_NEW: Final = 12
"""Maximum number of lines of one head that are parsed here. If there are more, the parser of all requests is faster."""

_LEFT_TO_PARSER: Final = frozenset({b"content-length", b"expect", b"proxy-connection", b"transfer-encoding"})
"""Headers that affect how a head is parsed, or what follows it."""
_CONNECTIONS: Final = frozenset({b"upgrade", b"keep-alive, upgrade"})
_UPGRADE: Final = b"websocket"
_LINE: Final = re.compile(rb"GET (/[!\"$-_a-~]{0,%d}) (?=HTTP/1\.1\r\n)" % (MAX_TARGET - 1))
"""The request line. See `request_head.push_line`."""
_FIELD: Final = re.compile(rb"(%b):([\t -~\x80-\xff]*)" % TOKEN_BYTES)

Field = tuple[bytes, bytes, str, str]
"""The name of a header in lower case, its value without spaces around it, and both as text."""


class FieldCache:
    """The lines of headers that were parsed, by their bytes."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        """Start empty."""
        self._known: dict[bytes, Field] = {}

    def __len__(self) -> int:
        """Return the number of cached lines."""
        return len(self._known)

    def read(self, lines: Iterable[bytes]) -> list[Field] | None:
        """Return the headers in `lines`, None if one of them is not usual, or more than `MAX_NEW` are not known."""
        known = self._known
        fields = []
        left = MAX_NEW
        for line in lines:
            field = known.get(line)
            if field is None:
                field = parse_field(line) if left else None
                if field is None:
                    return None
                left -= 1
                if field[0] not in PER_CLIENT and len(line) <= MAX_LINE:
                    self._add(line, field)
            fields.append(field)
        return fields

    def _add(self, line: bytes, field: Field) -> None:
        if len(self._known) >= MAX_LINES:
            self._known.clear()
        self._known[line] = field


def parse_field(line: bytes) -> Field | None:
    """Parse a line of a header, None if it is not usual: the parser of all requests then decides about it."""
    found = _FIELD.fullmatch(line)
    if found is None:
        return None
    name, value = found.groups()
    name, value = name.lower(), value.strip(b" \t")
    if name in _LEFT_TO_PARSER or (name == b"host" and AUTHORITY.fullmatch(value) is None):
        return None
    return name, value, name.decode(), text(value)


_fields: Final = FieldCache()


def parse(data: bytes) -> tuple[bytes, Headers, dict[str, str]] | None:
    """Return target, headers, and headers as text, if `data` is exactly one usual handshake; otherwise None.

    Usual is a GET of HTTP/1.1 without a body that upgrades to WebSocket, and repeats no header. `RequestParser` would
    read the same (`python -m benchmarks micro`, case `a browser connects and disconnects`).
    """
    line = _LINE.match(data)
    if line is None or len(data) > MAX_HEAD or data.find(END) != len(data) - len(END):
        return None
    lines = data.split(b"\r\n")[1:-2]
    fields = _fields.read(lines) if len(lines) <= MAX_HEADERS else None
    if fields is None:
        return None
    headers = {field[0]: field[1] for field in fields}
    if (
        len(headers) < len(fields)
        or b"host" not in headers
        or headers.get(b"connection", b"").lower() not in _CONNECTIONS
        or headers.get(b"upgrade", b"").lower() != _UPGRADE
    ):
        return None
    return line[1], headers, {field[2]: field[3] for field in fields}
