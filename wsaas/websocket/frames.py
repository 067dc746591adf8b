"""WebSocket frames (RFC 6455 section 5): their fields, received frames as values, and the encoding of sent frames."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from struct import pack
from typing import Final

from wsaas.events import Message
from wsaas.websocket.deflate import MIN_DEFLATED, Agreement, deflate

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NO_STATUS: Final = 1005
PROTOCOL_ERROR: Final = 1002
BAD_TEXT: Final = 1007
TOO_BIG: Final = 1009

CLOSE_CODES: Final = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
"""The codes that a Close may carry: registered (section 7.4.1, IANA) and private ones (section 7.4.2)."""

MAX_CONTROL: Final = 125
MAX_REASON: Final = MAX_CONTROL - 2

FIN: Final = 0x80
DEFLATED: Final = 0x40
MASKED: Final = 0x80
"""Bits of a header: last frame of a message; deflated message (RSV1, in its first frame); masked payload."""

OPCODE: Final = 0xF
CONTROL: Final = 0x8
"""The bits of the opcode in the first byte, and the opcode bit that is set in control frames."""

TWO_BYTES: Final = 126
EIGHT_BYTES: Final = 127
"""Values of the length field: the next two or eight bytes contain the length."""

MAX_TWO_BYTES: Final = 0xFFFF
MAX_EIGHT_BYTES: Final = (1 << 63) - 1
_CODE_SIZE: Final = 2
_SHORT_HEADS: Final = {
    opcode: [bytes((FIN | opcode, length)) for length in range(TWO_BYTES)]
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
}


@dataclass(slots=True)
class Ping:
    """A ping, to be answered with a pong that has the same `payload` (section 5.5.2)."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """A pong, which only shows that the client is alive (section 5.5.3)."""


@dataclass(slots=True)
class Close:
    """A Close; `code` is 1005 if the frame has none (section 5.5.1)."""

    code: int
    reason: str


@dataclass(slots=True)
class Violation:
    """A violation of the protocol: fail the connection with `code` (section 7.1.7)."""

    code: int
    reason: str


Received = Message | Ping | Pong | Close | Violation


def valid_text(data: bytes) -> bool:
    """Return whether `data` is valid UTF-8. ASCII is fastest."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_close(payload: bytes) -> Close | Violation:
    """Parse the unmasked `payload` of a Close (section 7.4)."""
    if not payload:
        return Close(NO_STATUS, "")
    code = int.from_bytes(payload[:_CODE_SIZE], "big")
    if len(payload) < _CODE_SIZE or code not in CLOSE_CODES:
        return Violation(PROTOCOL_ERROR, "a Close with a code that may not be sent")
    if not valid_text(payload[_CODE_SIZE:]):
        return Violation(BAD_TEXT, "a reason that is not UTF-8")
    return Close(code, payload[_CODE_SIZE:].decode())


def encode(opcode: int, payload: bytes) -> bytes:
    """Encode one unmasked frame. The `payload` of a control frame has at most 125 bytes."""
    length = len(payload)
    if length < TWO_BYTES:
        return _SHORT_HEADS[opcode][length] + payload
    return _long_frame(FIN | opcode, payload)


def _long_frame(first: int, payload: bytes) -> bytes:
    """Encode a frame with a `payload` of 126 bytes or more. `first`: the first byte of the frame."""
    length = len(payload)
    if length <= MAX_TWO_BYTES:
        return pack("!BBH", first, TWO_BYTES, length) + payload
    return pack("!BBQ", first, EIGHT_BYTES, length) + payload


Encoder = Callable[[int, bytes], bytes]


@lru_cache
def deflating(agreement: Agreement) -> Encoder:
    """Return an encoder that deflates as negotiated. Equal agreements share one.

    Messages that are short, or that would not shrink, are not deflated; RSV1 marks those that are (RFC 7692 section 6).
    """

    def encode_deflated(opcode: int, payload: bytes) -> bytes:
        if len(payload) >= MIN_DEFLATED:
            deflated = deflate(payload, agreement.bits)
            if len(deflated) < len(payload):
                first = FIN | DEFLATED | opcode
                if len(deflated) < TWO_BYTES:
                    return bytes((first, len(deflated))) + deflated
                return _long_frame(first, deflated)
        return encode(opcode, payload)

    return encode_deflated


def encode_close(code: int, reason: str = "") -> bytes:
    """Encode a Close. Code 1005 stands for no code; a `reason` over 123 bytes is cut between characters."""
    if code == NO_STATUS:
        return encode(CLOSE, b"")
    if not reason:
        return encode(CLOSE, pack("!H", code))
    text = reason.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")
    return encode(CLOSE, pack("!H", code) + text.encode())
