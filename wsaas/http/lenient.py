"""Heads of responses that RFC 9112 does not allow, but that curl and Python's http.client read all the same.

Where it stays certain where the body ends, a head is repaired, and then read as strictly as any other. Heads of
requests are never repaired.

| what | how it is repaired | the connection |
| --- | --- | --- |
| a header on several lines (obs-fold) | one line (RFC 9112 section 5.2) | kept |
| spaces before a colon | removed (section 5.1) | kept |
| several equal `Content-Length` | one (section 6.3) | kept |
| control characters in a value | spaces (RFC 9110 section 5.5) | kept |
| several spaces in the status line, bytes that a reason cannot have | removed (section 4) | kept |
| one of the first two in `Content-Length` or `Transfer-Encoding` | as above | not used again |
| lines that end with LF alone | ended with CRLF (section 2.2) | not used again |
| a header whose name cannot be one | dropped | not used again |
| `Transfer-Encoding: identity` | dropped: the body ends with the connection | not used again |
| chunks of HTTP/1.0 | read (section 6.1) | not used again |

Where two readers could find different ends, the response is still refused: a `Content-Length` beside a
`Transfer-Encoding`, different lengths, `chunked` twice, CR or NUL within a line.
"""

import re

from wsaas.errors import LimitExceeded, Malformed
from wsaas.grammar import TOKEN_BYTES
from wsaas.http.headers import MAX_HEAD

_NOT_FOUND = 2
_NAME = re.compile(TOKEN_BYTES)
_FOLD = re.compile(rb"\n[ \t]+")
_FOLDED_FRAMING = re.compile(rb"\n(?i:content-length|transfer-encoding)[ \t]*:[^\n]*\n[ \t]")
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01])[ \t]+([0-9]{3})(?:[ \t][^\r]*)?")
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_CONTROLS = bytes({*range(1, 0x20), 0x7F} - {*b"\t\r\n"})
_TO_SPACES = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))


def find_end(data: bytes, start: int) -> int:
    """Return where the head ends that begins at `start`, 0 when its end is still to come. Raises `LimitExceeded`.

    An empty line ends it, whether lines end with CRLF or with LF. The end does not depend on how much of `data` has
    arrived.
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
    """A complete head, repaired: its bytes in `head`. `is_doubtful`: what follows its body must not be read."""

    __slots__ = ("_is_identity", "_lengths", "head", "is_doubtful")

    def __init__(self, head: bytes) -> None:
        """Repair `head`. Raises `Malformed` where that cannot be done."""
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
        """Return the header in `line`, empty where it is to be dropped."""
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
        """Return a header that says where the body ends, or looks like one, only without the spaces behind its name."""
        if kind == _LENGTH:
            self._lengths += [each.strip(b" \t") for each in value.split(b",")]
        elif kind != _CODING:
            return line
        elif value.strip(b" \t").lower() == b"identity":
            self._is_identity = self.is_doubtful = True
            return b""
        self.is_doubtful = self.is_doubtful or not line.startswith(b":", len(kind))
        return kind + b":" + value
