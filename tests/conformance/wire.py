"""Helpers that the tests of several sections share."""

import struct
from collections.abc import Iterator

from tests.support.clients import RawClient
from tests.support.frames import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, close_frame
from tests.support.stage import Node
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Received

EVERY_OPCODE = [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG]
PROTOCOL_ERROR, BAD_TEXT, TOO_BIG = 1002, 1007, 1009
MANY = [0, 1, 125, 126, 127, 65535, 65536]


async def failure(node: Node, sent: bytes) -> int:
    """Send `sent`; return the code of the Close, after which the connection has to end."""
    raw = await node.upgraded()
    raw.send(sent)
    code, _ = await raw.closing()
    await raw.end()
    raw.close()
    return code


async def closing(raw: RawClient, code: int = 1000) -> None:
    """Send a Close; only its answer may arrive."""
    raw.send(close_frame(code))
    assert await raw.closing() == (code, "")
    await raw.end()


def received(data: bytes, *, fast: bool = True) -> list[Received]:
    """Return the frames in `data`, which arrives in one piece."""
    stream = FrameDecoder(1 << 20, fast=fast)
    stream.receive(data)
    return list(remaining(stream))


def remaining(stream: FrameDecoder) -> Iterator[Received]:
    """Yield the remaining frames of `stream`. A message of many fragments takes several calls."""
    while (one := stream.next()) is not None or stream.pending:
        if one is not None:
            yield one


def with_length(opcode: int, size: int, form: str, payload: bytes = b"") -> bytes:
    """Return a frame whose length has the `struct` format `form`, even if a shorter one would do."""
    short = {"!H": b"\xfe", "!Q": b"\xff"}[form]
    return bytes([0x80 | opcode]) + short + struct.pack(form, size) + MASK + payload
