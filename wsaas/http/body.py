"""The bodies of HTTP/1.1 messages: their ends and their content (RFC 9112 sections 6 and 7).

A body is fed the bytes of its connection in pieces of any size, and leaves the bytes after its end alone.
"""

import re
import sys
from collections.abc import Callable
from typing import ClassVar, Final

from wsaas.errors import LimitExceeded, Malformed
from wsaas.grammar import TOKEN_BYTES

MAX_EXTRA: Final = 32 * 1024
"""Maximum size of the chunk extensions and trailers of a body together, in bytes."""

UNLIMITED: Final = sys.maxsize

_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=(?:%b|%b))?)*)\r\n" % (TOKEN_BYTES, TOKEN_BYTES, _QUOTED))
_TRAILER: Final = re.compile(rb"%b:[\t -~\x80-\xff]*\r\n" % TOKEN_BYTES)
_LENIENT_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*(?:;[\t -~\x80-\xff]*)?)\r\n")
_LENIENT_TRAILER: Final = re.compile(rb"%b[ \t]*:[\t -~\x80-\xff]*\r\n" % TOKEN_BYTES)


class Body:
    """A body that ends when the connection is closed, of at most `limit` bytes.

    `complete`: its end was read.
    `is_too_large`: it exceeds the limit, and its content was dropped.
    `discarded`: it is read to its end, but its content is dropped.
    """

    __slots__ = ("_count", "_data", "complete", "discarded", "is_too_large", "limit")

    def __init__(self, limit: int) -> None:
        """Keep at most `limit` bytes."""
        self._count = 0
        self._data: bytes | bytearray = b""
        self.complete = False
        self.discarded = False
        self.is_too_large = False
        self.limit = limit

    def discard(self) -> None:
        """Drop the content, read and unread. The limit still applies."""
        self._data = b""
        self.discarded = True

    def feed(self, data: bytes, at: int, chunks: int = UNLIMITED) -> int:  # noqa: ARG002 - for `Chunked`
        """Read the bytes of this body from `data[at:]`; return the index after them. Raises `Malformed`.

        `chunks`: how many chunks and lines are read at most, so that tiny chunks cannot block the event loop. When they
        are used up, the returned index is less than `len(data)` although the body is not `complete`.
        """
        self._add(data[at:])
        return len(data)

    def take(self) -> bytes:
        """Return the content so far."""
        return bytes(self._data)

    def _add(self, piece: bytes) -> None:
        self._count += len(piece)
        if self.is_too_large or self._count > self.limit:
            self._reject()
        elif self.discarded:
            return
        elif not self._data:
            self._data = piece
        elif isinstance(self._data, bytearray):
            self._data += piece
        else:
            self._data = bytearray(self._data) + piece

    def _reject(self) -> None:
        self._data = b""
        self.is_too_large = True


class Sized(Body):
    """A body with a `Content-Length`."""

    __slots__ = ("_missing",)

    def __init__(self, limit: int, size: int) -> None:
        """Expect `size` bytes."""
        super().__init__(limit)
        self._missing = size
        self.complete = not size
        if size > limit:
            self._reject()

    def feed(self, data: bytes, at: int, chunks: int = UNLIMITED) -> int:  # noqa: ARG002 - for `Chunked`
        """Read until the size is reached."""
        end = min(at + self._missing, len(data))
        self._add(data[at:end])
        self._missing -= end - at
        self.complete = not self._missing
        return end


class Chunked(Body):
    """A chunked body (RFC 9112 section 7.1). Extensions and trailers must be well-formed, and are ignored.

    `_line_handler`: the method that reads the next line.
    `_line_start`: the part of that line that has arrived.
    `_missing`: bytes of the current chunk that have not arrived.
    """

    __slots__ = ("_extra", "_line_handler", "_line_start", "_missing")

    SIZE: ClassVar[re.Pattern[bytes]] = _SIZE
    TRAILER: ClassVar[re.Pattern[bytes]] = _TRAILER

    def __init__(self, limit: int) -> None:
        """Expect the first chunk."""
        super().__init__(limit)
        self._extra = 0
        self._line_handler: Callable[[Chunked, bytes], None] = Chunked._read_size
        self._line_start = b""
        self._missing = 0

    def feed(self, data: bytes, at: int, chunks: int = UNLIMITED) -> int:
        """Read chunks. Raises `Malformed`."""
        if self._line_handler is Chunked._read_size and not self._line_start:
            at, chunks = self._read_complete_chunks(data, at, chunks)
        while at < len(data) and not self.complete and chunks > 0:
            if self._missing:
                end = min(at + self._missing, len(data))
                self._add(data[at:end])
                self._missing -= end - at
                at = end
            else:
                at = self._read_line(data, at)
                chunks -= 1
        return at

    def _read_complete_chunks(self, data: bytes, at: int, chunks: int) -> tuple[int, int]:
        """Read chunks that are complete in `data`, except for the last chunk of the body.

        Return the index after them, and how many of `chunks` are left. Reading a tiny chunk line by line takes four
        times as long.
        """
        while chunks > 0 and (found := self.SIZE.match(data, at)) is not None:
            start = found.end()
            end = start + int(found[1], 16)
            if start == end or data[end : end + 2] != b"\r\n":
                break
            if found[2]:
                self._spend(len(found[2]))
            self._add(data[start:end])
            at = end + 2
            chunks -= 1
        return at, chunks

    def _read_line(self, data: bytes, at: int) -> int:
        """Read a line, or buffer an incomplete one; return the index after it."""
        end = data.find(b"\n", at) + 1
        line = self._line_start + data[at : end or len(data)]
        if len(line) > MAX_EXTRA:
            raise LimitExceeded(f"a line of its chunks or trailers has more than {MAX_EXTRA} bytes")
        if not end:
            self._line_start = line
            return len(data)
        self._line_start = b""
        self._line_handler(self, line)
        return end

    # The handlers of lines.

    def _read_size(self, line: bytes) -> None:
        found = self.SIZE.fullmatch(line)
        if found is None:
            raise Malformed("a chunk does not begin with its size")
        self._missing = int(found[1], 16)
        self._spend(len(found[2]))
        if self._count + self._missing > self.limit:
            self._reject()
        self._line_handler = Chunked._read_chunk_end if self._missing else Chunked._read_trailer

    def _read_chunk_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise Malformed("a chunk does not end where its size says")
        self._line_handler = Chunked._read_size

    def _read_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.complete = True
        elif self.TRAILER.fullmatch(line):
            self._spend(len(line))
        else:
            raise Malformed("a trailer line is malformed")

    def _spend(self, extra: int) -> None:
        self._extra += extra
        if self._extra > MAX_EXTRA:
            raise LimitExceeded(f"its chunks have more than {MAX_EXTRA} bytes of extensions and trailers")


class LenientChunked(Chunked):
    """A chunked body of a backend's response: accepts spaces after a size, and any text after the semicolon.

    Some servers pad the size with spaces, and an older grammar allows them before an extension (RFC 9112 section
    7.1.1). Neither affects where a chunk ends.
    """

    __slots__ = ()

    SIZE: ClassVar[re.Pattern[bytes]] = _LENIENT_SIZE
    TRAILER: ClassVar[re.Pattern[bytes]] = _LENIENT_TRAILER
