"""Repairs heads of responses that RFC 9112 does not allow, but that curl and Python's http.client accept.

A head is repaired only if there is no doubt about where the body ends. The repaired head is then read strictly. Heads
of requests are never repaired.

| deviation | repair | the connection |
| --- | --- | --- |
| a header on several lines (obs-fold) | joined to one line (RFC 9112 section 5.2) | kept |
| spaces before a colon | removed (section 5.1) | kept |
| several equal `Content-Length` | replaced with one (section 6.3) | kept |
| control characters in a value | replaced with spaces (RFC 9110 section 5.5) | kept |
| several spaces in the status line, or invalid bytes in the reason phrase | removed (section 4) | kept |
| a folded `Content-Length` or `Transfer-Encoding`, or one with spaces before its colon | as above | closed |
| lines that end with LF only | ended with CRLF (section 2.2) | closed |
| an invalid header name | the header is dropped | closed |
| `Transfer-Encoding: identity` | dropped: the body ends when the connection is closed | closed |
| `Transfer-Encoding: chunked` in HTTP/1.0 | accepted (section 6.1) | closed |

A response is still refused if two parsers could disagree about its end: a `Content-Length` beside a
`Transfer-Encoding`, different lengths, `chunked` twice, CR or NUL within a line.
"""

import re
from typing import Final

from wsaas.errors import LimitExceeded, Malformed
from wsaas.grammar import TOKEN_BYTES
from wsaas.http.headers import MAX_HEAD

_NOT_FOUND: Final = 2
_NAME: Final = re.compile(TOKEN_BYTES)
_FOLD: Final = re.compile(rb"\n[ \t]+")
_FOLDED_FRAMING: Final = re.compile(rb"\n(?i:content-length|transfer-encoding)[ \t]*:[^\n]*\n[ \t]")
_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01])[ \t]+([0-9]{3})(?:[ \t][^\r]*)?")
_LENGTH: Final = b"content-length"
_CODING: Final = b"transfer-encoding"
_CONTROLS: Final = bytes({*range(1, 0x20), 0x7F} - {*b"\t\r\n"})
_TO_SPACES: Final = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))


def find_end(data: bytes, start: int) -> int:
    """Return the end of the head that begins at `start`, 0 if it is incomplete. Raises `LimitExceeded`.

    The first empty line ends it, whether lines end with CRLF or with LF. The result does not depend on how `data` was
    split when it arrived.
    """
    limit = start + MAX_HEAD
    end = data.find(b"\n\r\n", start, limit) + 3
    bare = data.find(b"\n\n", start, end if end > _NOT_FOUND else limit)
    if bare >= 0:
        return bare + 2
    if end > _NOT_FOUND:
        return end
    if len(data) > limit:
        raise LimitExceeded(f"its head has more than {MAX_HEAD} bytes")
    return 0


class Repair:
    """The repair of a complete head. `head`: its repaired bytes. `is_doubtful`: the connection must not be reused."""

    __slots__ = ("_is_identity", "_lengths", "head", "is_doubtful")

    def __init__(self, head: bytes) -> None:
        """Repair `head`. Raises `Malformed` if that is impossible."""
        if find_end(head, 0) != len(head):
            raise Malformed("its head contains an empty line")
        self._lengths: list[bytes] = []
        self._is_identity = False
        text = head.replace(b"\r\n", b"\n")
        self.is_doubtful = text.count(b"\n") > head.count(b"\r\n") or _FOLDED_FRAMING.search(text) is not None
        first, _, lines = text[:-1].partition(b"\n")
        status_line = _STATUS_LINE.fullmatch(first)
        if status_line is None or lines.startswith((b" ", b"\t")):
            raise Malformed("its first line is not an HTTP/1 status line")
        version, status = status_line.groups()
        fields = [field for line in _FOLD.sub(b" ", lines).split(b"\n")[:-1] if (field := self._field(line))]
        if self._is_identity and self._lengths:
            raise Malformed("it has both a Content-Length and a Transfer-Encoding")
        if len(set(self._lengths)) == 1:
            fields = [field for field in fields if not field.startswith(_LENGTH + b":")]
            fields.append(b"Content-Length: " + self._lengths[0])
        if version == b"1.0" and any(field.startswith(_CODING + b":") for field in fields):
            version, self.is_doubtful = b"1.1", True
        self.head = b"\r\n".join([b"HTTP/%b %b " % (version, status), *fields, b"", b""])

    def _field(self, line: bytes) -> bytes:
        """Return the repaired header in `line`, empty to drop it."""
        before, colon, value = line.partition(b":")
        if not colon:
            return line
        name = before.rstrip(b" \t")
        kind = name.lower()
        if _LENGTH in kind or _CODING in kind:
            return self._framing_field(kind, value, line)
        if not _NAME.fullmatch(name):
            self.is_doubtful = True
            return b""
        return name + b":" + value.translate(_TO_SPACES)

    def _framing_field(self, kind: bytes, value: bytes, line: bytes) -> bytes:
        """Repair a header that frames the body, or resembles one: only remove the spaces after its name."""
        if kind == _LENGTH:
            self._lengths += [each.strip(b" \t") for each in value.split(b",")]
        elif kind != _CODING:
            return line
        elif value.strip(b" \t").lower() == b"identity":
            self._is_identity = self.is_doubtful = True
            return b""
        self.is_doubtful = self.is_doubtful or not line.startswith(b":", len(kind))
        return kind + b":" + value
