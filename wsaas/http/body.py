"""The bodies of HTTP/1.1 messages: where one ends, and what is in it (RFC 9112 sections 6 and 7).

A body takes its bytes as they come, wherever they are cut, and none of those behind it.
"""

import re
import sys
from collections.abc import Callable
from typing import ClassVar

from wsaas.errors import LimitExceeded, Malformed
from wsaas.grammar import TOKEN_BYTES

MAX_EXTRA = 32 * 1024
"""Bytes of extensions and trailers that may come with a chunked body."""

UNLIMITED = sys.maxsize

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;%b(?:=(?:%b|%b))?)*)\r\n" % (TOKEN_BYTES, TOKEN_BYTES, _QUOTED))
_TRAILER = re.compile(rb"%b:[\t -~\x80-\xff]*\r\n" % TOKEN_BYTES)
_LENIENT_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*(?:;[\t -~\x80-\xff]*)?)\r\n")
_LENIENT_TRAILER = re.compile(rb"%b[ \t]*:[\t -~\x80-\xff]*\r\n" % TOKEN_BYTES)


class Body:
    """A body that the end of the connection ends. At most `limit` bytes are kept, whatever the number of pieces.

    `whole`: its end was seen. `overflown`: it passed the limit, and nothing of it is kept. `discarded`: it is
    read, and nothing kept.
    """

    __slots__ = ("_count", "_data", "discarded", "limit", "overflown", "whole")

    def __init__(self, limit: int) -> None:
        """Start empty."""
        self._count = 0
        self._data: bytes | bytearray = b""
        self.discarded = False
        self.limit = limit
        self.overflown = False
        self.whole = False

    def discard(self) -> None:
        """Keep nothing. The limit still holds."""
        self._data = b""
        self.discarded = True

    def feed(self, data: bytes, at: int, chunks: int = UNLIMITED) -> int:  # noqa: ARG002 - of a body in chunks
        """Take what belongs to this body of `data` from `at` on; return where that ends. Raises `Malformed`.

        `chunks`: the most chunks (and lines outside of them) that are taken, so that many tiny ones cannot take long.
        Then the return value is less than the length of `data` although the body is not `whole`.
        """
        self._add(data[at:])
        return len(data)

    def take(self) -> bytes:
        """Return what was collected."""
        return bytes(self._data)

    def _add(self, piece: bytes) -> None:
        self._count += len(piece)
        if self.overflown or self._count > self.limit:
            self._overflow()
        elif self.discarded:
            return
        elif not self._data:
            self._data = piece
        elif isinstance(self._data, bytearray):
            self._data += piece
        else:
            self._data = bytearray(self._data) + piece

    def _overflow(self) -> None:
        self._data = b""
        self.overflown = True


class Sized(Body):
    """A body of `size` bytes."""

    __slots__ = ("_left",)

    def __init__(self, limit: int, size: int) -> None:
        """Expect `size` bytes."""
        super().__init__(limit)
        self._left = size
        self.whole = not size
        if size > limit:
            self._overflow()

    def feed(self, data: bytes, at: int, chunks: int = UNLIMITED) -> int:  # noqa: ARG002 - of a body in chunks
        """Take what is missing."""
        end = min(at + self._left, len(data))
        self._add(data[at:end])
        self._left -= end - at
        self.whole = not self._left
        return end


class Chunked(Body):
    """A body in chunks. Extensions and trailers have to be well formed, and are ignored."""

    __slots__ = ("_begun", "_expected", "_extra", "_left")

    SIZE: ClassVar[re.Pattern[bytes]] = _SIZE
    TRAILER: ClassVar[re.Pattern[bytes]] = _TRAILER

    def __init__(self, limit: int) -> None:
        """Expect the first chunk."""
        super().__init__(limit)
        self._begun = b""
        self._expected: Callable[[Chunked, bytes], None] = Chunked._size
        self._extra = 0
        self._left = 0

    def feed(self, data: bytes, at: int, chunks: int = UNLIMITED) -> int:
        """Take chunks. Raises `Malformed`."""
        if self._expected is Chunked._size and not self._begun:
            at, chunks = self._whole_chunks(data, at, chunks)
        while at < len(data) and not self.whole and chunks > 0:
            if self._left:
                end = min(at + self._left, len(data))
                self._add(data[at:end])
                self._left -= end - at
                at = end
            else:
                at = self._line(data, at)
                chunks -= 1
        return at

    def _whole_chunks(self, data: bytes, at: int, chunks: int) -> tuple[int, int]:
        """Take the chunks that are there in full, but the last: tiny ones would cost four times as much by line.

        Return where they end, and how many of `chunks` are left.
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

    def _line(self, data: bytes, at: int) -> int:
        """Take a line, or the beginning of one."""
        end = data.find(b"\n", at) + 1
        line = self._begun + data[at : end or len(data)]
        if len(line) > MAX_EXTRA:
            raise LimitExceeded(f"a line of its chunks or trailers has more than {MAX_EXTRA} bytes")
        if not end:
            self._begun = line
            return len(data)
        self._begun = b""
        self._expected(self, line)
        return end

    # What a line may be.

    def _size(self, line: bytes) -> None:
        found = self.SIZE.fullmatch(line)
        if found is None:
            raise Malformed("a chunk does not begin with its size")
        self._left = int(found[1], 16)
        self._spend(len(found[2]))
        if self._count + self._left > self.limit:
            self._overflow()
        self._expected = Chunked._end if self._left else Chunked._trailer

    def _end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise Malformed("a chunk does not end where its size says")
        self._expected = Chunked._size

    def _trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self.whole = True
        elif self.TRAILER.fullmatch(line):
            self._spend(len(line))
        else:
            raise Malformed("a trailer is not a header")

    def _spend(self, extra: int) -> None:
        self._extra += extra
        if self._extra > MAX_EXTRA:
            raise LimitExceeded(f"its chunks have more than {MAX_EXTRA} bytes of extensions and trailers")


class LenientChunked(Chunked):
    """A body in chunks from somebody who is believed: spaces may follow a size, and any text its semicolon.

    Some servers fill the size up with spaces; RFC 9112 section 7.1.1 lets an old grammar have them before an extension.
    None of that changes where a chunk ends.
    """

    __slots__ = ()

    SIZE: ClassVar[re.Pattern[bytes]] = _LENIENT_SIZE
    TRAILER: ClassVar[re.Pattern[bytes]] = _LENIENT_TRAILER
