"""WebSocket frames: a client's bytes to messages, and messages to a server's bytes (RFC 6455 section 5).

Two lanes lead in. The fast one decodes a whole, unfragmented data frame where it lies; every other frame (cut,
fragmented, control, wrong) goes to wsproto, which is made when it is needed and let go when it has nothing left.
`FrameStream(fast=False)` uses wsproto alone: the plain twin that the fast lane is tested against, and measured
against by `python -m benchmarks framing`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from struct import pack, unpack_from

try:
    # XORs with the four bytes of a mask, over and over (section 5.3): by the vector instructions of the processor, a
    # fifth of the time that integers of Python need for a short message, a hundredth for a long one.
    from websockets.speedups import apply_mask as unmask
except ImportError:  # pragma: no cover - where there is neither a wheel of it nor a C compiler
    from websockets.utils import apply_mask as unmask

from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from wsaas.deflate import MIN_DEFLATED, Agreement, Inflation, deflate
from wsaas.events import Message

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

NO_STATUS = 1005
PROTOCOL_ERROR = 1002
BAD_TEXT = 1007
TOO_BIG = 1009

CLOSE_CODES = (range(1000, 1004), range(1007, 1015), range(3000, 5000))
"""The codes that a Close may carry: those registered (RFC 6455 section 7.4.1, IANA) and those left to everybody."""

MAX_CONTROL = 125
MAX_REASON = MAX_CONTROL - 2

BURST = 64
"""Fragments that one call takes."""

_DEFLATED_SHARE = 12
"""Bytes of a deflated message for each that it inflates to, at most: one stored byte and a flush behind it take 11."""

_FIN = 0x80
_DEFLATED = 0x40
_MASKED = 0x80
_OPCODE = 0xF
_CONTROL = 0x8
_CODE_SIZE = 2
_TWO_BYTES = 126
_EIGHT_BYTES = 127
_MAX_TWO_BYTES = 0xFFFF
_SMALLEST = 6
_FIN_TEXT = _FIN | TEXT
_FIN_BINARY = _FIN | BINARY
_SHORT_HEADS = {
    opcode: [bytes((_FIN | opcode, length)) for length in range(_TWO_BYTES)]
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
}


@dataclass(slots=True)
class Ping:
    """A ping to be answered with the same `payload` (section 5.5.2)."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """A pong; says only that the client lives (section 5.5.3)."""


@dataclass(slots=True)
class Close:
    """The client closes; `code` is 1005 where it gave none (section 5.5.1)."""

    code: int
    reason: str


@dataclass(slots=True)
class Violation:
    """The client broke the protocol: the connection is to be failed with `code` (section 7.1.7)."""

    code: int
    reason: str


Received = Message | Ping | Pong | Close | Violation


def valid_text(data: bytes) -> bool:
    """Return whether `data` is UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def encode(opcode: int, payload: bytes) -> bytes:
    """Return the one unmasked frame that a server sends for `payload`. A control frame's is at most 125 bytes."""
    length = len(payload)
    if length < _TWO_BYTES:
        return _SHORT_HEADS[opcode][length] + payload
    return _long_frame(_FIN | opcode, payload)


def _long_frame(first: int, payload: bytes) -> bytes:
    """Return a frame for a `payload` of 126 bytes at least."""
    length = len(payload)
    if length <= _MAX_TWO_BYTES:
        return pack("!BBH", first, _TWO_BYTES, length) + payload
    return pack("!BBQ", first, _EIGHT_BYTES, length) + payload


Encoder = Callable[[int, bytes], bytes]


@lru_cache
def deflating(agreement: Agreement) -> Encoder:
    """Return what makes frames for a client with `agreement`, like `encode`; the same for all with the same one.

    A message that is short, or that does not shrink, goes as it is: each message says for itself (RFC 7692 section 6).
    """

    def encode_deflated(opcode: int, payload: bytes) -> bytes:
        if len(payload) >= MIN_DEFLATED:
            deflated = deflate(payload, agreement.bits)
            if len(deflated) < len(payload):
                first = _FIN | _DEFLATED | opcode
                if len(deflated) < _TWO_BYTES:
                    return bytes((first, len(deflated))) + deflated
                return _long_frame(first, deflated)
        return encode(opcode, payload)

    return encode_deflated


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a Close frame; 1005 stands for none. A `reason` over 123 bytes is cut between characters."""
    if code == NO_STATUS:
        return encode(CLOSE, b"")
    text = reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")
    return encode(CLOSE, pack("!H", code) + text.encode())


class FrameStream:
    """One client's bytes in (`receive`), what they mean out (`next`), one at a time, so that a reader may stop between.

    `limit`: most bytes of a message, inflated where `deflated` messages were agreed on. After a Close or a Violation
    the rest is ignored: nothing may follow.
    """

    __slots__ = ("_at", "_buffer", "_deflated", "_fast", "_limit", "_slow")

    def __init__(self, limit: int, *, fast: bool = True, deflated: bool = False) -> None:
        """Start at a frame's first byte."""
        self._deflated = deflated
        self._buffer = b""
        self._at = 0
        self._fast = fast
        self._limit = limit
        self._slow: _SlowLane | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes behind those that are not used up yet."""
        self._buffer = data if self._at == len(self._buffer) else self._buffer[self._at :] + data
        self._at = 0

    def next(self) -> Received | None:
        """Return what comes next, None when more bytes are needed or when others should have their turn (`is_busy`)."""
        if self._at == len(self._buffer):
            return None
        if self._slow is None and self._fast and (message := self._fast_lane()) is not None:
            return message
        if self._slow is None:
            self._slow = _SlowLane(self._limit, deflated=self._deflated)
        received, self._at = self._slow.next(self._buffer, self._at)
        if self._at == len(self._buffer):
            self._buffer = b""
            self._at = 0
        if self._slow.idle:
            self._slow = None
        return received

    @property
    def is_busy(self) -> bool:
        """Whether `next` returned None for having done enough, not for having no more to do."""
        return self._slow is not None and self._slow.is_busy

    def _fast_lane(self) -> Message | Violation | None:  # noqa: C901, PLR0911 - one run of code is the point
        """Decode a whole unfragmented data frame within the limit; leave anything else where it is."""
        buffer, at = self._buffer, self._at
        end = len(buffer)
        if end - at < _SMALLEST:
            return None
        first = buffer[at]
        length = buffer[at + 1] - _MASKED
        if (first != _FIN_TEXT and first != _FIN_BINARY) or length < 0:  # noqa: PLR1714 - twice as fast as `in`
            return None
        start = at + 6
        if length == _TWO_BYTES:
            length = (buffer[at + 2] << 8) | buffer[at + 3]
            start = at + 8
            if length < _TWO_BYTES:
                return None
        elif length == _EIGHT_BYTES:
            if end - at < 14:  # noqa: PLR2004 - the longest header
                return None
            (length,) = unpack_from("!Q", buffer, at + 2)
            start = at + 14
            if length <= _MAX_TWO_BYTES:
                return None
        stop = start + length
        if stop > end or length > self._limit:
            return None
        payload = unmask(buffer[start:stop], buffer[start - 4 : start])
        if first == _FIN_TEXT and not valid_text(payload):
            return self._fail()
        if stop == end:
            self._buffer = b""
            self._at = 0
        else:
            self._at = stop
        return Message(first == _FIN_TEXT, payload)

    def _fail(self) -> Violation:
        self._slow = _SlowLane(self._limit, deflated=False)
        return self._slow.fail(BAD_TEXT, "text that is not UTF-8")


class _SlowLane:
    """Frames by way of wsproto, which is given no byte beyond the frame that it is in.

    So the end of each frame is known here, a message is refused by the length that its header declares, and when a
    message ends there is nothing left in wsproto that would be lost with it.
    """

    __slots__ = (
        "_ended",
        "_farewell",
        "_head",
        "_inflation",
        "_limit",
        "_message",
        "_owed",
        "_protocol",
        "_size",
        "is_busy",
    )

    def __init__(self, limit: int, *, deflated: bool) -> None:
        """Start at a frame's first byte."""
        self._inflation = Inflation(limit) if deflated else None
        self.is_busy = False
        self._ended = False
        self._farewell = b""
        self._head = b""
        self._limit = limit
        self._message: bytearray | None = None
        self._owed = 0
        self._size = 0
        self._protocol = FrameProtocol(client=False, extensions=[self._inflation] if self._inflation else [])

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by letting this lane go."""
        return not (self._ended or self._head or self._owed or self._message is not None)

    def fail(self, code: int, reason: str) -> Violation:
        """End the stream."""
        self._ended = True
        return Violation(code, reason)

    def next(self, buffer: bytes, at: int) -> tuple[Received | None, int]:
        """Return what comes next in `buffer` from `at` on, and where to go on."""
        self.is_busy = False
        fragments = 0
        while at < len(buffer):
            if self._ended:
                return None, len(buffer)
            take = self._owed or self._missing()
            piece = buffer[at : at + take]
            at += len(piece)
            try:
                received = self._feed(piece)
            except ParseFailed as error:
                received = self.fail(int(error.code), self._explain(error))
            if received is not None:
                return received, at
            fragments += not self._head
            if fragments == BURST:
                self.is_busy = at < len(buffer)
                break
        return None, at

    def _missing(self) -> int:
        """Return how many bytes of the header are to come, at least."""
        return _header_size(self._head) - len(self._head)

    def _feed(self, piece: bytes) -> Received | None:
        in_payload = self._owed > 0
        if in_payload:
            self._owed -= len(piece)
            if self._head[0] & _OPCODE == CLOSE:
                return self._feed_close(piece)
        else:
            self._head += piece
        self._protocol.receive_bytes(piece)
        frames = list(self._protocol.received_frames())
        if not in_payload and self._missing() == 0:
            self._owed = _payload_size(self._head)
            # Counted as declared: the start of a character that was cut is in no payload yet.
            self._size += 0 if self._head[0] & _CONTROL else self._owed
            # A frame without a payload adds nothing, and may have ended the message by now.
            if self._owed and self._size > self._most():
                return self.fail(TOO_BIG, self._too_big)
        if self._owed == 0 and self._missing() == 0:
            self._head = b""
        return self._received(frames[0]) if frames else None

    def _feed_close(self, piece: bytes) -> Received | None:
        """Read what a Close says, whose header wsproto has judged. It does not know all of the registered codes."""
        self._farewell += piece
        if self._owed:
            return None
        self._ended = True
        payload = unmask(self._farewell, self._head[-4:])
        code = int.from_bytes(payload[:2], "big")
        if len(payload) < _CODE_SIZE or not any(code in codes for codes in CLOSE_CODES):
            return Violation(PROTOCOL_ERROR, "a Close with a code that may not be sent")
        if not valid_text(payload[_CODE_SIZE:]):
            return Violation(BAD_TEXT, "a reason that is not UTF-8")
        return Close(code, payload[_CODE_SIZE:].decode())

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
            self._ended = True
            return Close(NO_STATUS, "")
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
    extended = {_TWO_BYTES: 2, _EIGHT_BYTES: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & _MASKED else 0)


def _payload_size(head: bytes) -> int:
    """Return the length that a whole header declares."""
    length = head[1] & 0x7F
    if length == _TWO_BYTES:
        return int.from_bytes(head[2:4], "big")
    return int.from_bytes(head[2:10], "big") if length == _EIGHT_BYTES else length
