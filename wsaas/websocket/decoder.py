"""WebSocket frames in: a client's bytes to what they mean (RFC 6455 section 5).

A whole frame that is a message, or a control frame, is decoded where it lies. A long one, that is a message but comes
in pieces, is put together first. Every other frame (cut, fragmented, deflated, wrong) goes to wsproto. What is needed
for the last two is made when it is needed, and let go when nothing is left in it.
`FrameDecoder(fast=False)` uses wsproto alone: the plain twin that the rest is tested against, and measured against by
`python -m benchmarks framing`.
"""

from struct import unpack_from
from typing import Protocol

try:
    # XORs with the four bytes of a mask, over and over (section 5.3): by the vector instructions of the processor, a
    # fifth of the time that integers of Python need for a short message, a hundredth for a long one.
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
"""Fragments of a message that one call of `next` decodes: as many as take some 50 µs."""

LONG = 16 * 1024
"""Bytes of a payload from which on it is put together before it is looked at."""

SHORT_PIECE = 4 * 1024
"""Bytes up to which pieces of a payload are kept as one: each alone would take more than it holds."""

_DEFLATED_SHARE = 12
"""Bytes of a deflated message for each that it inflates to, at most: one stored byte and a flush behind it take 11."""

_SMALLEST = 6
_FIN_TEXT = FIN | TEXT
_FIN_BINARY = FIN | BINARY
_CONTROLS = {FIN | CLOSE, FIN | PING, FIN | PONG}


class Lane(Protocol):
    """What reads frames that cannot be decoded where they lie."""

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by letting this lane go."""

    @property
    def held(self) -> int:
        """Bytes of an unfinished message that are kept."""

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        """Return what comes next in `buffer` from `at` on, and where to go on."""


class FrameDecoder:
    """One client's bytes in (`receive`), what they mean out (`next`), one at a time, so that a reader may stop between.

    `next` does a bounded amount of work: it also returns None in the middle of a message in many fragments. `pending`
    tells whether there is more to decode.

    `limit`: most bytes of a message, inflated where `deflated` messages were agreed on. After a Close or a Violation
    the rest is ignored: nothing may follow.
    """

    __slots__ = ("_at", "_buffer", "_deflated", "_fast", "_lane", "_limit")

    def __init__(self, limit: int, *, fast: bool = True, deflated: bool = False) -> None:
        """Start at a frame's first byte."""
        self._deflated = deflated
        self._buffer = b""
        self._at = 0
        self._fast = fast
        self._limit = limit
        self._lane: Lane | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes behind those that are not used up yet."""
        self._buffer = data if self._at == len(self._buffer) else self._buffer[self._at :] + data
        self._at = 0

    def next(self) -> Received | None:
        """Return what comes next, None when more bytes are needed or, if `pending`, another call is."""
        if self._at == len(self._buffer):
            return None
        received = self._whole() if self._lane is None and self._fast else None
        if received is None:
            if self._lane is None:
                self._lane = _SlowLane(self._limit, deflated=self._deflated)
            received, self._at = self._lane.next(self._buffer, self._at)
            if self._lane.idle:
                self._lane = None
        if self._at == len(self._buffer):
            self._buffer = b""
            self._at = 0
        if type(received) is not Message and isinstance(received, Close | Violation):
            self._lane = _ENDED
            self._buffer = b""
            self._at = 0
        return received

    @property
    def pending(self) -> bool:
        """Whether there are bytes that `next` did not look at yet."""
        return self._at < len(self._buffer)

    @property
    def held(self) -> int:
        """Bytes that are kept of an unfinished message, and of what was not looked at yet."""
        return len(self._buffer) - self._at + (0 if self._lane is None else self._lane.held)

    def _whole(self) -> Received | None:  # noqa: C901, PLR0911 - one run of code is the point
        """Decode a frame that is a message within the limit, or a control frame; leave anything else where it is."""
        buffer, at = self._buffer, self._at
        end = len(buffer)
        if end - at < _SMALLEST:
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
            if length >= LONG and start <= end:
                self._lane = _LongLane(first == _FIN_TEXT, length, buffer[start - 4 : start])
                self._at = start
            return None
        self._at = stop
        return _message(first == _FIN_TEXT, unmask(buffer[start:stop], buffer[start - 4 : start]))

    def _control(self, first: int, length: int) -> Received | None:
        """Decode a control frame; leave one that is cut, or wrong, where it is."""
        start = self._at + _SMALLEST
        stop = start + length
        if first not in _CONTROLS or length > MAX_CONTROL or stop > len(self._buffer):
            return None
        payload = unmask(self._buffer[start:stop], self._buffer[start - 4 : start])
        self._at = stop
        if first == FIN | CLOSE:
            return read_close(payload)
        return Ping(payload) if first == FIN | PING else Pong()


def _message(text: bool, payload: bytes) -> Message | Violation:
    """Return the message with `payload`, if it may be one."""
    if text and not valid_text(payload):
        return Violation(BAD_TEXT, "text that is not UTF-8")
    return Message(text, payload)


class _Ended:
    """What comes behind the end, of which nothing is read."""

    idle = False
    held = 0

    def next(self, buffer: bytes, _at: int) -> tuple[None, int]:
        return None, len(buffer)


_ENDED = _Ended()


class _LongLane:
    """One unfragmented message, whose many bytes come in pieces."""

    __slots__ = ("_mask", "_missing", "_pieces", "_text", "held", "idle")

    def __init__(self, text: bool, length: int, mask: bytes) -> None:
        """Start at the first byte of the payload."""
        self._mask = mask
        self._missing = length
        self._pieces: list[bytes | bytearray] = []
        self._text = text
        self.held = 0
        self.idle = False

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        piece = buffer[at : at + self._missing]
        self._add(piece)
        self._missing -= len(piece)
        self.held += len(piece)
        at += len(piece)
        if self._missing:
            return None, at
        self.idle = True
        return _message(self._text, unmask(b"".join(self._pieces), self._mask)), at

    def _add(self, piece: bytes) -> None:
        if len(piece) > SHORT_PIECE:
            self._pieces.append(piece)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))


class _SlowLane:
    """Frames by way of wsproto, which is given no byte beyond the frame that it is in.

    So the end of each frame is known here, a message is refused by the length that its header declares, and when a
    message ends there is nothing left in wsproto that would be lost with it.
    """

    __slots__ = (
        "_farewell",
        "_head",
        "_inflation",
        "_limit",
        "_message",
        "_owed",
        "_protocol",
        "_size",
    )

    def __init__(self, limit: int, *, deflated: bool) -> None:
        """Start at a frame's first byte."""
        self._inflation = Inflation(limit) if deflated else None
        self._farewell = b""
        self._head = b""
        self._limit = limit
        self._message: bytearray | None = None
        self._owed = 0
        self._size = 0
        self._protocol = FrameProtocol(client=False, extensions=[self._inflation] if self._inflation else [])

    @property
    def idle(self) -> bool:
        return not (self._head or self._owed or self._message is not None)

    @property
    def held(self) -> int:
        return len(self._message or b"")

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        fragments = 0
        while at < len(buffer):
            take = self._owed or self._missing()
            piece = buffer[at : at + take]
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

    def _missing(self) -> int:
        """Return how many bytes of the header are to come, at least."""
        return _header_size(self._head) - len(self._head)

    def _feed(self, piece: bytes) -> Received | None:
        in_payload = self._owed > 0
        if in_payload:
            self._owed -= len(piece)
            if self._head[0] & OPCODE == CLOSE:
                return self._feed_close(piece)
        else:
            self._head += piece
        self._protocol.receive_bytes(piece)
        frames = list(self._protocol.received_frames())
        if not in_payload and self._missing() == 0:
            self._owed = _payload_size(self._head)
            # Counted as declared: the start of a character that was cut is in no payload yet.
            self._size += 0 if self._head[0] & CONTROL else self._owed
            # A frame without a payload adds nothing, and may have ended the message by now.
            if self._owed and self._size > self._most():
                return Violation(TOO_BIG, self._too_big)
        if self._owed == 0 and self._missing() == 0:
            self._head = b""
        return self._received(frames[0]) if frames else None

    def _feed_close(self, piece: bytes) -> Received | None:
        """Read what a Close says, whose header wsproto has judged. It does not know all of the registered codes."""
        self._farewell += piece
        if self._owed:
            return None
        return read_close(unmask(self._farewell, self._head[-4:]))

    def _most(self) -> int:
        """Return how many bytes the frames of the message under way may have."""
        if self._inflation and self._inflation.under_way:
            # It is the inflated size that counts, but no message may go on without end by inflating to nothing.
            return _DEFLATED_SHARE * self._limit + MAX_CONTROL
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
            # Only one without a payload gets here.
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
    """Return the size of the header that starts with `head`; what it is at least while too few bytes are known."""
    if len(head) < 2:  # noqa: PLR2004 - the two bytes that every header has
        return 2
    extended = {TWO_BYTES: 2, EIGHT_BYTES: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & MASKED else 0)


def _payload_size(head: bytes) -> int:
    """Return the length that a whole header declares."""
    length = head[1] & 0x7F
    if length == TWO_BYTES:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if length == EIGHT_BYTES else length
