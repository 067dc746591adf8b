"""Decodes the frames of a client (RFC 6455 section 5).

There are three ways to decode a frame, and a shortcut for the usual one (`FrameDecoder.decode_message`):

- A complete control frame, or a complete message in one frame, is decoded in place.
- A long message in one frame is collected in pieces and unmasked at its end (`_LongMessage`).
- All other frames (incomplete, fragmented, deflated or invalid) go to wsproto (`WsprotoFrames`).

Objects of the last two classes exist only while a message is incomplete, so that an idle client needs neither.
`FrameDecoder(fast=False)` uses wsproto alone. A test compares the results of both, and `python -m benchmarks framing`
their speed.
"""

from struct import unpack_from
from typing import Final, Protocol

from wsaas.events import Message
from wsaas.websocket.frames import (
    BAD_TEXT,
    BINARY,
    CLOSE,
    EIGHT_BYTES,
    FIN,
    MASKED,
    MAX_CONTROL,
    MAX_EIGHT_BYTES,
    MAX_TWO_BYTES,
    PING,
    PONG,
    TEXT,
    TWO_BYTES,
    Close,
    Ping,
    Pong,
    Received,
    Violation,
    read_close,
    valid_text,
)
from wsaas.websocket.masking import unmask
from wsaas.websocket.wsproto_frames import WsprotoFrames

MIN_LONG_PAYLOAD: Final = 16 * 1024
"""The smallest payload, in bytes, that is collected by `_LongMessage`."""

MAX_SHORT_PIECE: Final = 4 * 1024
"""Pieces up to this size, in bytes, are appended to the previous piece. An object for each would take more memory than
its content."""

_MIN_FRAME: Final = 6
"""Size of the smallest masked frame, in bytes."""

_FIN_TEXT: Final = FIN | TEXT
_FIN_BINARY: Final = FIN | BINARY
_CONTROLS: Final = {FIN | CLOSE, FIN | PING, FIN | PONG}


class FrameReader(Protocol):
    """Decodes frames that cannot be decoded in place, and buffers an incomplete message."""

    @property
    def is_idle(self) -> bool:
        """Whether it buffers nothing, so that it may be dropped."""

    @property
    def buffered_bytes(self) -> int:
        """Size of the incomplete message that is buffered."""

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        """Decode `buffer[at:]`; return the next message or control frame, or None, and the index that was reached."""


class FrameDecoder:
    """Decodes the frames of one client: `receive` takes bytes, `next` returns one message or control frame at a time.

    A call of `next` does a bounded amount of work: it may return None in the middle of a message of many fragments.
    `pending` tells whether there is more to decode.

    `limit`: the maximum size of a message in bytes, after inflation. `deflated`: permessage-deflate was negotiated.
    Everything after a Close or a Violation is ignored.
    """

    __slots__ = ("_at", "_buffer", "_deflated", "_fast", "_limit", "_reader")

    def __init__(self, limit: int, *, fast: bool = True, deflated: bool = False) -> None:
        """Start at the first byte of a frame. `fast`: decode short messages without wsproto."""
        self._deflated = deflated
        self._buffer = b""
        self._at = 0
        self._fast = fast
        self._limit = limit
        self._reader: FrameReader | None = None

    def decode_message(self, data: bytes) -> Message | None:
        """Return the message if `data` is exactly one frame with a message of less than 64 KiB; otherwise None.

        After None, pass `data` to `receive`. This is a shortcut (`python -m benchmarks micro`, case `message`), and
        `receive` and `next` return an equal message.
        """
        end = len(data)
        if end < _MIN_FRAME or self._reader is not None or self._buffer:
            return None
        first = data[0]
        if first != _FIN_TEXT and first != _FIN_BINARY:  # noqa: PLR1714 - twice as fast as `in`
            return None
        length = data[1] - MASKED
        start = 6
        if length >= TWO_BYTES:
            # A frame with a shorter payload may not have its length in two bytes.
            if length != TWO_BYTES or end < start + 2 + TWO_BYTES:
                return None
            length = (data[2] << 8) | data[3]
            start = 8
        if start + length != end or length > self._limit:
            return None
        payload = unmask(data[start:], data[start - 4 : start])
        is_text = first == _FIN_TEXT
        if is_text and not (payload.isascii() or valid_text(payload)):
            return None
        return Message(is_text, payload)

    def receive(self, data: bytes) -> None:
        """Buffer bytes for `next`."""
        self._buffer = data if self._at == len(self._buffer) else self._buffer[self._at :] + data
        self._at = 0

    def next(self) -> Received | None:
        """Return the next message or control frame; None if more bytes (or calls, while `pending`) are needed."""
        if self._at == len(self._buffer):
            return None
        received = self._decode_in_place() if self._reader is None and self._fast else None
        if received is None:
            if self._reader is None:
                self._reader = WsprotoFrames(self._limit, deflated=self._deflated)
            received, self._at = self._reader.next(self._buffer, self._at)
            if self._reader.is_idle:
                self._reader = None
        if self._at == len(self._buffer):
            self._buffer = b""
            self._at = 0
        if type(received) is not Message and isinstance(received, Close | Violation):
            self._reader = _AFTER_CLOSE
            self._buffer = b""
            self._at = 0
        return received

    @property
    def pending(self) -> bool:
        """Whether there are bytes that `next` has not decoded."""
        return self._at < len(self._buffer)

    @property
    def buffered_bytes(self) -> int:
        """Size of what is buffered: an incomplete message, and bytes that are not decoded yet."""
        return len(self._buffer) - self._at + (0 if self._reader is None else self._reader.buffered_bytes)

    def _decode_in_place(self) -> Received | None:  # noqa: C901, PLR0911 - inlined for speed
        """Decode a complete control frame, or a complete message within the limit; None for any other frame."""
        buffer, at = self._buffer, self._at
        end = len(buffer)
        if end - at < _MIN_FRAME:
            return None
        first = buffer[at]
        length = buffer[at + 1] - MASKED
        if length < 0:
            return None
        if first != _FIN_TEXT and first != _FIN_BINARY:  # noqa: PLR1714 - twice as fast as `in`
            return self._control(first, length)
        start = at + 6
        if length == TWO_BYTES:
            length = (buffer[at + 2] << 8) | buffer[at + 3]
            start = at + 8
            if length < TWO_BYTES:
                return None
        elif length == EIGHT_BYTES:
            if end - at < 14:  # noqa: PLR2004 - the longest header
                return None
            (length,) = unpack_from("!Q", buffer, at + 2)
            start = at + 14
            if not MAX_TWO_BYTES < length <= MAX_EIGHT_BYTES:
                return None
        stop = start + length
        if length > self._limit:
            return None
        if stop > end:
            if length >= MIN_LONG_PAYLOAD and start <= end:
                self._reader = _LongMessage(first == _FIN_TEXT, length, buffer[start - 4 : start])
                self._at = start
            return None
        self._at = stop
        return _message(first == _FIN_TEXT, unmask(buffer[start:stop], buffer[start - 4 : start]))

    def _control(self, first: int, length: int) -> Received | None:
        """Decode a control frame; None if it is incomplete or invalid."""
        start = self._at + _MIN_FRAME
        stop = start + length
        if first not in _CONTROLS or length > MAX_CONTROL or stop > len(self._buffer):
            return None
        payload = unmask(self._buffer[start:stop], self._buffer[start - 4 : start])
        self._at = stop
        if first == FIN | CLOSE:
            return read_close(payload)
        return Ping(payload) if first == FIN | PING else Pong()


def _message(text: bool, payload: bytes) -> Message | Violation:
    """Return the message with `payload`, or a violation if text is not UTF-8."""
    if text and not valid_text(payload):
        return Violation(BAD_TEXT, "text that is not UTF-8")
    return Message(text, payload)


class _AfterClose:
    """Ignores everything after a Close or a violation."""

    is_idle = False
    buffered_bytes = 0

    def next(self, buffer: bytes, _at: int) -> tuple[None, int]:
        return None, len(buffer)


_AFTER_CLOSE: Final = _AfterClose()


class _LongMessage:
    """A long message in one frame whose payload arrives in pieces."""

    __slots__ = ("_mask", "_missing", "_pieces", "_text", "buffered_bytes", "is_idle")

    def __init__(self, text: bool, length: int, mask: bytes) -> None:
        """Start at the first byte of the payload, of `length` bytes."""
        self._mask = mask
        self._missing = length
        self._pieces: list[bytes | bytearray] = []
        self._text = text
        self.buffered_bytes = 0
        self.is_idle = False

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        piece = buffer[at : at + self._missing]
        self._add(piece)
        self._missing -= len(piece)
        self.buffered_bytes += len(piece)
        at += len(piece)
        if self._missing:
            return None, at
        self.is_idle = True
        return _message(self._text, unmask(b"".join(self._pieces), self._mask)), at

    def _add(self, piece: bytes) -> None:
        if len(piece) > MAX_SHORT_PIECE:
            self._pieces.append(piece)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))
