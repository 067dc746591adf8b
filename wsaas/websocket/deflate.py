"""permessage-deflate (RFC 7692): what is agreed on in the handshake, and messages deflated and inflated.

Neither side keeps its window from one message to the next, so a client between two messages holds no memory for it.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from wsaas.grammar import TOKEN, TOKEN_CHARACTER

NAME = "permessage-deflate"

MIN_DEFLATED = 128
"""Bytes of the shortest message that is deflated: a shorter one hardly shrinks."""

LEVEL = 1
"""zlib's fastest: level 6 makes JSON a tenth smaller and takes three times as long, on a loop that all share."""

_WINDOW_BITS = range(8, 16)
_MOST_BITS = 15
_FEWEST_BITS = 9
"""zlib has no raw window of 2^8 bytes to write with."""

_TAIL = b"\0\0\xff\xff"
"""What each message ends with, and is not sent (section 7.2.1)."""

_AFTER_LAST = b"\0"
"""What may follow a block which says that it is the last, so that the tail makes a block of its own (7.2.3.4)."""

_EXTENSION = re.compile(rf"({TOKEN})[ \t]*")
_PARAMETER = re.compile(rf';[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|"((?:\\?{TOKEN_CHARACTER})+)")[ \t]*)?')
_COMMA = re.compile(r"(?:,[ \t]*)+|$")

Parameters = list[tuple[str, str | None]]
Offer = tuple[str, Parameters]


def offers(header: str) -> list[Offer]:
    """Return the extensions that `Sec-WebSocket-Extensions` lists, each with its parameters, in order.

    Raises `ValueError` where it does not follow the grammar (RFC 6455 section 9.1).
    """
    found: list[Offer] = []
    at = len(header) - len(header.lstrip(" \t,"))
    while at < len(header):
        name = _EXTENSION.match(header, at)
        if name is None:
            raise ValueError(header)
        at = name.end()
        parameters: Parameters = []
        while parameter := _PARAMETER.match(header, at):
            quoted = parameter[3]
            parameters.append((parameter[1], parameter[2] if quoted is None else quoted.replace("\\", "")))
            at = parameter.end()
        comma = _COMMA.match(header, at)
        if comma is None:
            raise ValueError(header)
        at = comma.end()
        found.append((name[1], parameters))
    return found


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides do.

    `bits`: the binary logarithm of the window for messages to the client, None for 15 without having been asked.
    """

    bits: int | None = None

    @property
    def response(self) -> str:
        """What the 101 says of it. A client may be told to drop its window without having offered to."""
        told = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
        return told if self.bits is None else f"{told}; server_max_window_bits={self.bits}"


def negotiate(offered: Sequence[Offer]) -> Agreement | None:
    """Return what the first offer that can be met leads to, None where there is none (section 5.1)."""
    for name, parameters in offered:
        if name == NAME and (agreement := _meet(parameters)) is not None:
            return agreement
    return None


def _meet(parameters: Parameters) -> Agreement | None:
    """Return what an offer leads to; one with a parameter that is unknown, twice there or wrong is declined (7.1)."""
    asked = dict(parameters)
    if len(asked) < len(parameters):
        return None
    for flag in ("server_no_context_takeover", "client_no_context_takeover"):
        if asked.pop(flag, None) is not None:
            return None
    bits: int | None = None
    if "server_max_window_bits" in asked:
        bits = _bits(asked.pop("server_max_window_bits"))
        if bits is None or bits < _FEWEST_BITS:
            return None
    # Whatever the client's window is, one of 2^15 bytes reads what it writes.
    limit = asked.pop("client_max_window_bits", None)
    if asked or (limit is not None and _bits(limit) is None):
        return None
    return Agreement(bits)


def _bits(value: str | None) -> int | None:
    """Return a number of bits as sections 7.1.2.1 and 7.1.2.2 allow it: 8 to 15, without leading zeros."""
    return next((bits for bits in _WINDOW_BITS if value == str(bits)), None)


def deflate(payload: bytes, bits: int | None = None) -> bytes:
    """Return `payload` as it is sent in a deflated message, by a window of 2^`bits` bytes (section 7.2.1)."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -(bits or _MOST_BITS))
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


class Overflow(ValueError):
    """A message inflates to more than its limit."""


class Inflater:
    """Inflates one message, at most `limit` bytes of it (section 7.2.2)."""

    __slots__ = ("_left", "_stream")

    def __init__(self, limit: int) -> None:
        """Start with an empty window."""
        self._left = limit
        self._stream = zlib.decompressobj(-_MOST_BITS)

    def feed(self, data: bytes) -> bytes:
        """Inflate a piece. Raises `Overflow` as soon as it passes the limit, `ValueError` for what was not deflated."""
        try:
            # One byte more than are left is where zlib stops: a bomb gets no further.
            inflated = self._stream.decompress(data, self._left + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(inflated) > self._left:
            raise Overflow("too long")
        self._left -= len(inflated)
        # Behind a block that says that it is the last, zlib would hoard whatever comes.
        if self._stream.eof and not _AFTER_LAST.startswith(self._stream.unused_data):
            raise ValueError("data behind the last block")
        return inflated

    def finish(self) -> bytes:
        """Return what is left of the message. Raises like `feed`."""
        return b"" if self._stream.eof else self.feed(_TAIL)


class Inflation(Extension):
    """What wsproto asks at each frame of a client that deflates. `why`: what could not be inflated."""

    name = NAME

    def __init__(self, limit: int) -> None:
        """Inflate messages to at most `limit` bytes."""
        self._inflater: Inflater | None = None
        self._is_data = False
        self._limit = limit
        self.why = ""

    @property
    def under_way(self) -> bool:
        """Whether the message that began and did not end yet is deflated."""
        return self._inflater is not None

    def enabled(self) -> bool:
        """Say that it was agreed on."""
        return True

    def offer(self) -> bool:
        """Offer nothing: this is the server's side."""
        return False

    def frame_inbound_header(
        self, _proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, _payload_length: int
    ) -> RsvBits:
        """Take RSV1 at the first frame of a message, and nowhere else (section 6.1)."""
        self._is_data = not opcode.iscontrol()
        starts = self._is_data and opcode is not Opcode.CONTINUATION
        if starts:
            self._inflater = Inflater(self._limit) if rsv.rsv1 else None
        return RsvBits(starts and rsv.rsv1, False, False)

    def frame_inbound_payload_data(self, _proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """Inflate a piece of a deflated message."""
        if not (self._is_data and self._inflater):
            return data
        try:
            return self._inflater.feed(data)
        except ValueError as error:
            return self._failed(error)

    def frame_inbound_complete(self, _proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """End a deflated message with its last frame."""
        if not (self._is_data and fin and self._inflater):
            return None
        inflater, self._inflater = self._inflater, None
        try:
            return inflater.finish()
        except ValueError as error:
            return self._failed(error)

    def _failed(self, error: ValueError) -> CloseReason:
        if isinstance(error, Overflow):
            return CloseReason.MESSAGE_TOO_BIG
        self.why = f"deflated data that cannot be inflated: {error}"
        return CloseReason.INVALID_FRAME_PAYLOAD_DATA
