"""permessage-deflate (RFC 7692): the negotiation in the handshake, and the compression of messages.

Both sides start each message with an empty window, so that an idle client needs no memory for a window.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from wsaas.grammar import TOKEN, TOKEN_CHARACTER

NAME: Final = "permessage-deflate"

MIN_DEFLATED: Final = 128
"""The smallest message that is deflated, in bytes. Shorter messages hardly shrink."""

LEVEL: Final = 1
"""The fastest level of zlib. Level 6 makes JSON a tenth smaller, but blocks the event loop three times as long."""

_WINDOW_BITS: Final = range(8, 16)
_MAX_BITS: Final = 15
_MIN_BITS: Final = 9
"""zlib cannot deflate with a raw window of 2^8 bytes."""

_TAIL: Final = b"\0\0\xff\xff"
"""The last bytes of each deflated message, which are not sent (section 7.2.1)."""

_AFTER_LAST: Final = b"\0"
"""The byte that may follow a block with the BFINAL bit; with the tail, it is an empty block (section 7.2.3.4)."""

_EXTENSION: Final = re.compile(rf"({TOKEN})[ \t]*")
_PARAMETER: Final = re.compile(rf';[ \t]*({TOKEN})[ \t]*(?:=[ \t]*(?:({TOKEN})|"((?:\\?{TOKEN_CHARACTER})+)")[ \t]*)?')
_COMMA: Final = re.compile(r"(?:,[ \t]*)+|$")

Parameters = list[tuple[str, str | None]]
Offer = tuple[str, Parameters]


def offers(header: str) -> list[Offer]:
    """Parse `Sec-WebSocket-Extensions` into extensions with their parameters, in order.

    Raises `ValueError` if the header is malformed (RFC 6455 section 9.1).
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
    """The negotiated parameters.

    `bits`: the window for messages to the client has 2^`bits` bytes; None (which means 15) if the client did not ask
    for a size.
    """

    bits: int | None = None

    @property
    def response(self) -> str:
        """The extension in the 101. The client need not offer `client_no_context_takeover` (section 7.1.1.2)."""
        extension = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
        return extension if self.bits is None else f"{extension}; server_max_window_bits={self.bits}"


def negotiate(offered: Sequence[Offer]) -> Agreement | None:
    """Accept the first acceptable offer; return None if there is none (section 5.1)."""
    for name, parameters in offered:
        if name == NAME and (agreement := _accept_offer(parameters)) is not None:
            return agreement
    return None


def _accept_offer(parameters: Parameters) -> Agreement | None:
    """Accept an offer; return None if a parameter is unknown, repeated or invalid (section 7.1)."""
    unread = dict(parameters)
    if len(unread) < len(parameters):
        return None
    for flag in ("server_no_context_takeover", "client_no_context_takeover"):
        if unread.pop(flag, None) is not None:
            return None
    bits: int | None = None
    if "server_max_window_bits" in unread:
        bits = _bits(unread.pop("server_max_window_bits"))
        if bits is None or bits < _MIN_BITS:
            return None
    # A window of 2^15 bytes inflates messages that were deflated with any smaller window.
    limit = unread.pop("client_max_window_bits", None)
    if unread or (limit is not None and _bits(limit) is None):
        return None
    return Agreement(bits)


def _bits(value: str | None) -> int | None:
    """Parse a number from 8 to 15 without leading zeros (sections 7.1.2.1, 7.1.2.2); return None for other values."""
    return next((bits for bits in _WINDOW_BITS if value == str(bits)), None)


def deflate(payload: bytes, bits: int | None = None) -> bytes:
    """Deflate the `payload` of a message with a window of 2^`bits` bytes (section 7.2.1)."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -(bits or _MAX_BITS))
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]


class Overflow(ValueError):
    """A message inflates to more than its limit."""


class Inflater:
    """Inflates one message, up to `limit` bytes (section 7.2.2)."""

    __slots__ = ("_remaining", "_stream")

    def __init__(self, limit: int) -> None:
        """Inflate a message to at most `limit` bytes."""
        self._remaining = limit
        self._stream = zlib.decompressobj(-_MAX_BITS)

    def feed(self, data: bytes) -> bytes:
        """Inflate a piece. Raises `Overflow` as soon as the limit is exceeded, `ValueError` for invalid data."""
        try:
            # Stop one byte past the limit, so that a decompression bomb cannot fill the memory.
            inflated = self._stream.decompress(data, self._remaining + 1)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(inflated) > self._remaining:
            raise Overflow("too long")
        self._remaining -= len(inflated)
        # `unused_data` is everything after a block with the BFINAL bit.
        if self._stream.eof and not _AFTER_LAST.startswith(self._stream.unused_data):
            raise ValueError("data after the last block")
        return inflated

    def finish(self) -> bytes:
        """Return the last piece of the message. Raises the errors of `feed`."""
        return b"" if self._stream.eof else self.feed(_TAIL)


class Inflation(Extension):
    """The extension for wsproto that inflates messages. `why`: the reason for a failure, empty if there was none."""

    name = NAME

    def __init__(self, limit: int) -> None:
        """Inflate messages to at most `limit` bytes."""
        self._inflater: Inflater | None = None
        self._is_data = False
        self._limit = limit
        self.why = ""

    @property
    def in_message(self) -> bool:
        """Whether a deflated message has begun but not ended."""
        return self._inflater is not None

    def enabled(self) -> bool:
        """Return True: it was negotiated."""
        return True

    def offer(self) -> bool:
        """Return False: a server makes no offers."""
        return False

    def frame_inbound_header(
        self, _proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, _payload_length: int
    ) -> RsvBits:
        """Accept RSV1 only in the first frame of a message (section 6.1)."""
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
