"""The frames that are decoded by wsproto: incomplete, fragmented, deflated or invalid ones."""

from typing import Final

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from wsaas.events import Message
from wsaas.websocket.deflate import Inflation
from wsaas.websocket.frames import (
    BAD_TEXT,
    CLOSE,
    CONTROL,
    EIGHT_BYTES,
    MASKED,
    MAX_CONTROL,
    OPCODE,
    TOO_BIG,
    TWO_BYTES,
    Ping,
    Pong,
    Received,
    Violation,
    read_close,
)
from wsaas.websocket.masking import unmask

MAX_FRAGMENTS: Final = 4
"""How many fragments of a message one call of `next` decodes, at most. They take about 50 µs."""

_MAX_DEFLATED_RATIO: Final = 12
"""Deflated bytes per inflated byte, at most. The worst case, a stored block of one byte and a flush, takes 11."""


class WsprotoFrames:
    """Decodes any frame with wsproto, which never gets a byte beyond the current frame.

    This class therefore knows where each frame ends, refuses a message by the length that its header declares, and can
    be dropped after a message without losing data.

    `_head`: the header of the current frame, as far as it has arrived.
    `_missing`: bytes of its payload that have not arrived.
    `_size`: the size of the message so far, as its frames declare it.
    """

    __slots__ = ("_close_payload", "_head", "_inflation", "_limit", "_message", "_missing", "_protocol", "_size")

    def __init__(self, limit: int, *, deflated: bool) -> None:
        """Start at the first byte of a frame."""
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
        """Whether it buffers nothing, so that it may be dropped."""
        return not (self._head or self._missing or self._message is not None)

    @property
    def buffered_bytes(self) -> int:
        """Size of the incomplete message that is buffered."""
        return len(self._message or b"")

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        """Decode `buffer[at:]`; return the next message or control frame, or None, and the index that was reached."""
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
        """Return how many bytes of the header are missing, at least."""
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
            # By the header, because wsproto withholds the first bytes of an incomplete character.
            self._size += 0 if self._head[0] & CONTROL else self._missing
            # A frame without a payload adds nothing, and may already have ended the message.
            if self._missing and self._size > self._max_size():
                return Violation(TOO_BIG, self._too_big)
        if self._missing == 0 and self._missing_of_header() == 0:
            self._head = b""
        return self._received(frames[0]) if frames else None

    def _feed_close(self, piece: bytes) -> Received | None:
        """Read the payload of a Close. wsproto checks only the header, as it does not know all registered codes."""
        self._close_payload += piece
        if self._missing:
            return None
        return read_close(unmask(self._close_payload, self._head[-4:]))

    def _max_size(self) -> int:
        """Return the maximum size of all payloads of the message together, in bytes."""
        if self._inflation and self._inflation.in_message:
            # `Inflater` limits the inflated size. Deflated data that inflates to nothing never reaches that limit, so
            # it has its own.
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
    """Return the size of the header that starts with `head`; the minimum if `head` is too short to tell."""
    if len(head) < 2:  # noqa: PLR2004 - the minimum
        return 2
    extended = {TWO_BYTES: 2, EIGHT_BYTES: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & MASKED else 0)


def _payload_size(head: bytes) -> int:
    """Return the payload length that a complete header declares."""
    length = head[1] & 0x7F
    if length == TWO_BYTES:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if length == EIGHT_BYTES else length
