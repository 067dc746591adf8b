"""The heads of requests: the request line, and the rules for headers of requests (RFC 9112 section 3)."""

import re
from functools import lru_cache
from typing import Final, cast

import httptools

from wsaas.errors import BadRequest, ExpectationFailed, Malformed, Unsupported, UriTooLong, VersionNotSupported
from wsaas.grammar import TOKEN_CHARACTER
from wsaas.http import headers as heads
from wsaas.http.headers import COMMON_HEADS, END, Head

MAX_TARGET: Final = 8 * 1024

METHODS: Final = frozenset({b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"PATCH", b"OPTIONS", b"TRACE"})
"""The known methods: 405 if a resource does not support one of them. Other methods, such as `CONNECT`, get 501."""

_METHOD: Final = rb"%b{1,32}" % TOKEN_CHARACTER.encode()
_LINE: Final = re.compile(rb"(%b) ([!-~]+) (?=HTTP/([0-9]\.[0-9])\r\n)" % _METHOD)
_PART_OF_LINE: Final = re.compile(rb"%b(?: ([!-~]*)(?: [!-~]{0,8}\r?)?)?" % _METHOD)
_HOST: Final = rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
"""A host and port (RFC 3986 section 3.2), without IPvFuture."""
AUTHORITY: Final = re.compile(_HOST)
"""The value of a `Host` header."""
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://(?![:/?])%b([/?][!\"$-~]*)?" % _HOST)
_ONCE: Final = {b"authorization", b"content-type", b"host", b"origin"}
"""Headers that must not be repeated."""
_GET: Final = re.compile(rb"(?:\r?\n)*GET ")
_UPGRADE: Final = re.compile(rb"(?i)\nupgrade:[ \t]*websocket[ \t]*\r?\n")
_PATH: Final = re.compile(rb"(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?(/[^?#]*)?")
_INVISIBLE: Final = re.compile(rb"[^!-~]")


def push_line(max_target: int) -> re.Pattern[bytes]:
    """Return a pattern for the request line of a PUT, which nearly every request is.

    It matches only lines that `_LINE` and the checks after it accept, in one step. It leaves out the backtick: a set of
    three ranges is a bit map for `re`, which is faster than two comparisons for each character.
    """
    return re.compile(rb"PUT (/[!\"$-_a-~]{0,%d}) (?=HTTP/1\.1\r\n)" % (max_target - 1))


PUSH_LINE: Final = push_line(MAX_TARGET)


def check_part(data: bytes, start: int) -> None:
    """Raise if `data[start:]` cannot be the beginning of a request, whatever follows."""
    if data.find(b"\n", start) >= 0:
        read_line(data, start)
        heads.check_part(data, start)
    elif (part := _PART_OF_LINE.fullmatch(data, start)) is None:
        raise _not_a_line()
    elif part[1] and len(part[1]) > MAX_TARGET:
        raise _too_long()


def read_line(data: bytes, start: int) -> tuple[bytes, bytes, int]:
    """Return method and target of the request line at `start` (RFC 9112 section 3), and the index of its version."""
    line = PUSH_LINE.match(data, start)
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
        raise VersionNotSupported("Only HTTP/1.0 and HTTP/1.1 are supported.")
    if not target.startswith(b"/") or b"#" in target:
        target = _origin(method, target)
    return method, target, line.end()


def _origin(method: bytes, target: bytes) -> bytes:
    """Convert another form of target to origin form (RFC 9112 section 3.2); `*` stays as it is."""
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed("its target is neither a path nor a URL")
    path = absolute[1] or b"/"
    return path if path.startswith(b"/") else b"/" + path


def handshake_path(data: bytes, start: int) -> bytes | None:
    """Return the path of the request at `start`, which cannot be parsed; None unless it is meant as a handshake.

    That is a GET with `Upgrade: websocket`. The path has no query and no fragment, and is empty if the target has none.
    What is not visible in it is percent-encoded.
    """
    method = _GET.match(data, start)
    line_end = -1 if method is None else data.find(b"\n", method.end())
    if method is None or line_end < 0:
        return None
    end = data.find(END, line_end - 1)
    if _UPGRADE.search(data, line_end, len(data) if end < 0 else end + 2) is None:
        return None
    target = data[method.end() : line_end].rpartition(b" ")[0]
    path = cast("re.Match[bytes]", _PATH.match(target))[1] or b""
    return _INVISIBLE.sub(lambda found: b"%%%02X" % found[0][0], path)


def read_head(data: bytes) -> Head:
    """Parse a head; `data` starts at the HTTP version in its request line."""
    head = heads.read(httptools.HttpRequestParser, heads.VERSIONS[data[5:8]], b"GET / " + data)
    headers = head.headers
    if not _ONCE.isdisjoint(head.repeated):
        raise Malformed("its Authorization, Content-Type, Host or Origin is repeated")
    host = headers.get(b"host")
    if host is None and head.version == "1.1":
        raise Malformed("it has no Host")
    if host is not None and not AUTHORITY.fullmatch(host):
        raise Malformed("its Host is invalid")
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise ExpectationFailed("Only Expect: 100-continue is supported.")
    if head.upgrade:
        if head.size:
            raise BadRequest("A WebSocket handshake has no body.")
    elif b"upgrade" in headers and b"upgrade" in head.members(b"connection"):
        # Ignore offers of other protocols (RFC 9110 section 7.8). Java's HTTP client offers h2c with its first request.
        head.headers = {name: value for name, value in headers.items() if name != b"upgrade"}
    return head


common_head = lru_cache(COMMON_HEADS)(read_head)


def _not_a_line() -> Malformed:
    return Malformed("its first line is not a request line")


def _too_long() -> UriTooLong:
    return UriTooLong(f"The request target is longer than {MAX_TARGET} bytes.")
