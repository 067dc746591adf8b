"""Decodes the frames of a client (RFC 6455 section 5).

There are three ways to decode a frame. A complete frame that is a control frame, or a message of its own, is decoded in
place. The pieces of a long message in one frame are collected and unmasked at once (`_LongMessage`). All other frames,
incomplete, fragmented, deflated or wrong, go to wsproto (`_WsprotoFrames`). The state of the last two exists only while
they have a part of a message, so that an idle client has none.
`FrameDecoder(fast=False)` uses wsproto alone: the plain twin that a test holds the others against, and `python -m
benchmarks framing` measures them against.
"""

from struct import unpack_from
from typing import Final, Protocol

try:
    # XORs with the repeated four bytes of a mask (section 5.3) by vector instructions. Python's integers take five
    # times as long for a short message, a hundred times for a long one.
    from websockets.speedups import apply_mask as unmask
except ImportError:  # pragma: no cover - where there is neither a wheel of it nor a C compiler
    from websockets.utils import apply_mask as unmask

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from wsaas.events import Message
from wsaas.websocket.deflate import Inflation
from wsaas.websocket.frames import (
    BAD_TEXT,
    BINARY,
    CLOSE,
    CONTROL,
    EIGHT_BYTES,
    FIN,
    MASKED,
    MAX_CONTROL,
    MAX_EIGHT_BYTES,
    MAX_TWO_BYTES,
    OPCODE,
    PING,
    PONG,
    TEXT,
    TOO_BIG,
    TWO_BYTES,
    Close,
    Ping,
    Pong,
    Received,
    Violation,
    read_close,
    valid_text,
)

MAX_FRAGMENTS = 4
"""Fragments of a message that one call of `next` decodes. They take about 50 µs."""

MIN_LONG_PAYLOAD: Final = 16 * 1024
"""Bytes of a payload from which on its pieces are collected before they are decoded."""

MAX_SHORT_PIECE: Final = 4 * 1024
"""Bytes up to which a piece of a payload is appended to the one before: an object for each would take more memory than
its content."""

_MAX_DEFLATED_RATIO: Final = 12
"""Bytes of a deflated message for each byte that it inflates to, at most: a stored block of one byte and a flush take
11."""

_MIN_FRAME: Final = 6
"""Bytes of the smallest masked frame."""

_FIN_TEXT = FIN | TEXT
_FIN_BINARY = FIN | BINARY
_CONTROLS = {FIN | CLOSE, FIN | PING, FIN | PONG}


class FrameReader(Protocol):
    """Decodes frames that cannot be decoded in place, and keeps what it has of an incomplete message."""

    @property
    def is_idle(self) -> bool:
        """Whether it has no part of a message, so that it may be dropped."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete message that are kept."""

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        """Return what comes next in `buffer` from `at` on, None without more bytes, and up to where that was read."""


class FrameDecoder:
    """Decodes the frames of one client: `receive` takes bytes, `next` returns one message or control frame at a time.

    A call of `next` does a bounded amount of work: it also returns None in the middle of a message of many fragments.
    `pending` says whether there is more to decode.

    `limit`: bytes that a message may have, inflated where `deflated` messages were negotiated. Nothing may follow a
    Close or a Violation: it is ignored.
    """

    __slots__ = ("_at", "_buffer", "_deflated", "_fast", "_limit", "_reader")

    def __init__(self, limit: int, *, fast: bool = True, deflated: bool = False) -> None:
        """Expect the first byte of a frame."""
        self._deflated = deflated
        self._buffer = b""
        self._at = 0
        self._fast = fast
        self._limit = limit
        self._reader: FrameReader | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes, for `next` to decode."""
        self._buffer = data if self._at == len(self._buffer) else self._buffer[self._at :] + data
        self._at = 0

    def next(self) -> Received | None:
        """Return what comes next; None when more bytes or, if `pending`, further calls are needed."""
        if self._at == len(self._buffer):
            return None
        received = self._decode_in_place() if self._reader is None and self._fast else None
        if received is None:
            if self._reader is None:
                self._reader = _WsprotoFrames(self._limit, deflated=self._deflated)
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
        """Whether there are bytes that `next` did not decode yet."""
        return self._at < len(self._buffer)

    @property
    def buffered_bytes(self) -> int:
        """Bytes that are kept: of an incomplete message, and what was not decoded yet."""
        return len(self._buffer) - self._at + (0 if self._reader is None else self._reader.buffered_bytes)

    def _decode_in_place(self) -> Received | None:  # noqa: C901, PLR0911 - calls would cost what it saves
        """Decode a complete frame that is a control frame, or a message within the limit; None for any other frame."""
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
        """Decode a control frame; None for an incomplete or wrong one."""
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
    """Return the message with `payload`; a violation for text that is not UTF-8."""
    if text and not valid_text(payload):
        return Violation(BAD_TEXT, "text that is not UTF-8")
    return Message(text, payload)


class _AfterClose:
    """Ignores what follows a Close or a violation."""

    is_idle = False
    buffered_bytes = 0

    def next(self, buffer: bytes, _at: int) -> tuple[None, int]:
        return None, len(buffer)


_AFTER_CLOSE: Final = _AfterClose()


class _LongMessage:
    """A long message in one frame, whose payload comes in pieces."""

    __slots__ = ("_mask", "_missing", "_pieces", "_text", "buffered_bytes", "is_idle")

    def __init__(self, text: bool, length: int, mask: bytes) -> None:
        """Expect the first byte of the payload."""
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


class _WsprotoFrames:
    """Any frames, by wsproto, which is never given a byte beyond the frame that it decodes.

    So this class knows where each frame ends, refuses a message by the length that a header declares, and loses nothing
    when it is dropped behind a message.

    `_head`: the header of the frame, as far as it came. `_missing`: bytes of its payload that are still to come.
    `_size`: bytes of the message so far, as its frames declare them.
    """

    __slots__ = ("_close_payload", "_head", "_inflation", "_limit", "_message", "_missing", "_protocol", "_size")

    def __init__(self, limit: int, *, deflated: bool) -> None:
        """Expect the first byte of a frame."""
        self._close_payload = b""
        self._head = b""
        self._inflation = Inflation(limit) if deflated else None
        self._limit = limit
        self._message: bytearray | None = None
        self._missing = 0
        self._size = 0
        self._protocol = FrameProtocol(client=False, extensions=[self._inflation] if self._inflation else [])

    @property
    def is_idle(self) -> bool:
        return not (self._head or self._missing or self._message is not None)

    @property
    def buffered_bytes(self) -> int:
        return len(self._message or b"")

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        fragments = 0
        while at < len(buffer):
            piece = buffer[at : at + (self._missing or self._missing_of_header())]
            at += len(piece)
            try:
                received = self._feed(piece)
            except ParseFailed as error:
                received = Violation(int(error.code), self._explain(error))
            if received is not None:
                return received, at
            fragments += not self._head
            if fragments == MAX_FRAGMENTS:
                break
        return None, at

    def _missing_of_header(self) -> int:
        """Return how many bytes of the header are still to come, at least."""
        return _header_size(self._head) - len(self._head)

    def _feed(self, piece: bytes) -> Received | None:
        is_payload = self._missing > 0
        if is_payload:
            self._missing -= len(piece)
            if self._head[0] & OPCODE == CLOSE:
                return self._feed_close(piece)
        else:
            self._head += piece
        self._protocol.receive_bytes(piece)
        frames = list(self._protocol.received_frames())
        if not is_payload and self._missing_of_header() == 0:
            self._missing = _payload_size(self._head)
            # By the header, as wsproto holds the first bytes of an incomplete character back.
            self._size += 0 if self._head[0] & CONTROL else self._missing
            # A frame without a payload adds nothing, and may have ended the message by now.
            if self._missing and self._size > self._max_size():
                return Violation(TOO_BIG, self._too_big)
        if self._missing == 0 and self._missing_of_header() == 0:
            self._head = b""
        return self._received(frames[0]) if frames else None

    def _feed_close(self, piece: bytes) -> Received | None:
        """Read the payload of a Close, whose header wsproto has checked: it does not know all registered codes."""
        self._close_payload += piece
        if self._missing:
            return None
        return read_close(unmask(self._close_payload, self._head[-4:]))

    def _max_size(self) -> int:
        """Return how many bytes the payloads of the message may have in all."""
        if self._inflation and self._inflation.in_message:
            # The limit is for the inflated size. But a message that inflates to nothing must not go on for ever.
            return _MAX_DEFLATED_RATIO * self._limit + MAX_CONTROL
        return self._limit

    @property
    def _too_big(self) -> str:
        return f"message over {self._limit} bytes"

    def _explain(self, error: ParseFailed) -> str:
        if error.code == TOO_BIG:
            return self._too_big
        if error.code == BAD_TEXT:
            return (self._inflation.why if self._inflation else "") or "text that is not UTF-8"
        return str(error)

    def _received(self, frame: Frame) -> Received | None:
        payload = frame.payload
        if isinstance(payload, tuple):
            # A Close without a payload.
            return read_close(b"")
        data = payload.encode() if isinstance(payload, str) else payload
        if frame.opcode is Opcode.PING:
            return Ping(data)
        if frame.opcode is Opcode.PONG:
            return Pong()
        if self._message is None:
            self._message = bytearray()
        self._message += data
        if not frame.message_finished:
            return None
        message = Message(frame.opcode is Opcode.TEXT, bytes(self._message))
        self._message = None
        self._size = 0
        return message


def _header_size(head: bytes) -> int:
    """Return the size of the header that starts with `head`; the least that it can be while `head` is too short."""
    if len(head) < 2:  # noqa: PLR2004 - the two bytes that every header has
        return 2
    extended = {TWO_BYTES: 2, EIGHT_BYTES: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & MASKED else 0)


def _payload_size(head: bytes) -> int:
    """Return the payload length that a complete header declares."""
    length = head[1] & 0x7F
    if length == TWO_BYTES:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if length == EIGHT_BYTES else length
