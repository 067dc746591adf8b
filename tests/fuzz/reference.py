"""A reference decoder for the frames of a client: sections 5 and 7.4 of RFC 6455, and RFC 7692. Slow and simple.

It shares no code with the gateway. Between frames it keeps only the incomplete message, which it reads again from its
beginning each time.
"""

import zlib
from codecs import getincrementaldecoder
from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PROTOCOL_ERROR, BAD_TEXT, TOO_BIG = 1002, 1007, 1009
CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
"""The codes that a Close may have: those of section 7.4, and those registered since."""


@dataclass
class Undeliverable(Exception):
    """Raised if the connection has to be failed, with one of `codes`."""

    codes: set[int]


@dataclass
class Meaning:
    """The received frames as tuples, in order. `failed`: the possible codes of a failure, if any."""

    received: list[tuple[object, ...]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)


def is_text(data: bytes, *, final: bool) -> bool:
    """Return whether `data` is UTF-8. Unless `final`, its last character may be incomplete."""
    try:
        getincrementaldecoder("utf-8")().decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Remove the mask (section 5.3)."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def inflated(data: bytes, limit: int, *, final: bool) -> tuple[bytes, set[int]]:
    """Return an inflated message, and the codes of all violations in it."""
    message, wrong = b"", set[int]()
    # Which of two violations zlib finds first depends on whether it gets the bytes one by one or at once.
    for step in (1, max(1, len(data))):
        message, stream = b"", zlib.decompressobj(-15)
        try:
            for at in range(0, len(data), step):
                if len(message) <= limit:
                    message += stream.decompress(data[at : at + step], limit + 1 - len(message))
            if final and not stream.eof and len(message) <= limit:
                message += stream.decompress(b"\0\0\xff\xff", limit + 1 - len(message))
        except zlib.error:
            wrong.add(BAD_TEXT)
        if len(message) > limit:
            wrong.add(TOO_BIG)
        # After a final block there is nothing, or the byte 0 (RFC 7692 section 7.2.3.4).
        if stream.unused_data not in {b"", b"\0"}:
            wrong.add(BAD_TEXT)
    return message, wrong


class Decoder:
    """Decodes `stream`. `limit`: bytes of a message; `deflated`: whether compression was negotiated."""

    def __init__(self, stream: bytes, limit: int, *, deflated: bool = False) -> None:
        self.stream = stream
        self.limit = limit
        self.may_deflate = deflated
        self.is_deflated = False
        """Whether the current message is deflated."""
        self.kind = CONTINUATION
        """The opcode of its first frame."""
        self.message = b""

    def read(self) -> Meaning:
        meaning = Meaning()
        at = 0
        try:
            while at >= 0:
                at = self.frame(at, meaning.received)
        except Undeliverable as failed:
            meaning.failed = failed.codes
        return meaning

    def frame(self, at: int, received: list[tuple[object, ...]]) -> int:
        """Read the frame at `at`; return the start of the next one, or -1 at the end."""
        if len(self.stream) < at + 2:
            return -1
        first, second = self.stream[at], self.stream[at + 1]
        is_final, reserved, opcode = bool(first & 0x80), first & 0x70, first & 0x0F
        self.judge_start(first, second)
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        start = at + 2 + extended + 4
        if len(self.stream) < start - 4:
            return -1
        size = int.from_bytes(self.stream[at + 2 : start - 4], "big") if extended else second & 0x7F
        if size < {0: 0, 2: 126, 8: 65536}[extended] or size >= 1 << 63:
            raise Undeliverable({PROTOCOL_ERROR})
        if len(self.stream) < start:
            return -1
        payload = unmasked(self.stream[start : start + size], self.stream[start - 4 : start])
        is_whole = len(payload) == size
        if opcode >= CLOSE:
            return (self.control(opcode, payload, received) or start + size) if is_whole else -1
        if opcode != CONTINUATION and self.kind == CONTINUATION:
            self.is_deflated = bool(reserved)
        self.data(opcode, payload, size)
        self.judge_message(is_final=is_final and is_whole, received=received)
        return start + size if is_whole else -1

    def judge_start(self, first: int, second: int) -> None:
        """Check the first two bytes of a frame."""
        opcode = first & 0x0F
        reserved = 0x70 if not self.may_deflate or opcode not in {TEXT, BINARY} else 0x30
        if first & reserved or opcode not in {CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG} or not second & 0x80:
            raise Undeliverable({PROTOCOL_ERROR})
        if opcode >= CLOSE and (not first & 0x80 or second & 0x7F > 125):
            raise Undeliverable({PROTOCOL_ERROR})

    def control(self, opcode: int, payload: bytes, received: list[tuple[object, ...]]) -> int:
        """Handle a control frame; return -1 if nothing may follow it."""
        if opcode != CLOSE:
            received.append((opcode, payload) if opcode == PING else (opcode,))
            return 0
        if len(payload) == 1 or (payload and int.from_bytes(payload[:2], "big") not in CODES):
            raise Undeliverable({PROTOCOL_ERROR})
        if not is_text(payload[2:], final=True):
            raise Undeliverable({BAD_TEXT})
        received.append((CLOSE, int.from_bytes(payload[:2], "big") or 1005, payload[2:].decode()))
        return -1

    def data(self, opcode: int, payload: bytes, size: int) -> None:
        """Handle the available part of a data frame of `size` bytes."""
        # A deflated message may be larger than the inflated one, but not without limit.
        most = 12 * self.limit + 125 if self.is_deflated else self.limit
        is_over = len(self.message) + size > most
        if (opcode == CONTINUATION) is (self.kind == CONTINUATION):
            # If the payload is invalid too, either violation may be reported.
            also = {TOO_BIG, BAD_TEXT} if self.may_deflate else {TOO_BIG} if is_over else set[int]()
            raise Undeliverable({PROTOCOL_ERROR} | also)
        if is_over:
            raise Undeliverable({TOO_BIG})
        self.kind = opcode or self.kind
        self.message += payload

    def judge_message(self, *, is_final: bool, received: list[tuple[object, ...]]) -> None:
        """Check the available part of a message, and return it once it is complete."""
        message, wrong = self.message, set[int]()
        if self.is_deflated:
            message, wrong = inflated(message, self.limit, final=is_final)
        if self.kind == TEXT and not is_text(message, final=is_final and not wrong):
            wrong.add(BAD_TEXT)
        if wrong:
            raise Undeliverable(wrong)
        if is_final:
            received.append((self.kind, message))
            self.kind, self.message = CONTINUATION, b""


def sent(data: bytes) -> tuple[int, bytes]:
    """Return opcode and payload of a server's frame: single, final, unmasked, of the shortest form."""
    first, second = data[0], data[1]
    assert first & 0xB0 == 0x80, "final, with no reserved bit but that of deflated messages"
    extended = {126: 2, 127: 8}.get(second, 0)
    size = int.from_bytes(data[2 : 2 + extended], "big") if extended else second
    assert {0: 0, 2: 126, 8: 65536}[extended] <= size, "in as few bytes as it needs, and without a mask"
    payload = data[2 + extended :]
    assert len(payload) == size
    assert first & 0x0F < CLOSE or size <= 125
    if first & 0x40:
        payload, wrong = inflated(payload, 1 << 40, final=True)
        assert not wrong
    return first & 0x0F, payload
