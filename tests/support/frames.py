"""WebSocket frames as a client sends them, right or wrong (RFC 6455 section 5.2)."""

import struct

from websockets.utils import apply_mask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
MASK = b"\x37\xfa\x21\x3d"
"""That of the example in section 5.7."""


def frame(
    opcode: int,
    payload: bytes = b"",
    mask: bytes = MASK,
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
) -> bytes:
    """Return a frame with a length of the shortest form. `reserved`: the bits RSV1 to RSV3 as a number up to 7."""
    size = len(payload)
    bit = 0x80 if masked else 0
    head = bytes([(FIN if fin else 0) | reserved << 4 | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 1 << 16:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    return head + mask + apply_mask(payload, mask) if masked else head + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a Close with a code and a reason."""
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())
