"""What the tests of several sections share."""

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
    """Return the code that a connection is failed with for `sent`. Nothing else comes, and it is closed."""
    raw = await node.upgraded()
    raw.send(sent)
    code, _ = await raw.closing()
    await raw.end()
    raw.close()
    return code


async def closing(raw: RawClient, code: int = 1000) -> None:
    """Close from the client's side; nothing but the answer comes."""
    raw.send(close_frame(code))
    assert await raw.closing() == (code, "")
    await raw.end()


def received(data: bytes, *, fast: bool = True) -> list[Received]:
    """What `data` means to a server that has it at once."""
    stream = FrameDecoder(1 << 20, fast=fast)
    stream.receive(data)
    return list(everything(stream))


def everything(stream: FrameDecoder) -> Iterator[Received]:
    """What is left in `stream`, which takes several calls where a message has many fragments."""
    while (one := stream.next()) is not None or stream.pending:
        if one is not None:
            yield one


def with_length(opcode: int, size: int, form: str, payload: bytes = b"") -> bytes:
    """Return a frame whose length is written in the form that `struct` calls `form`, needed or not."""
    short = {"!H": b"\xfe", "!Q": b"\xff"}[form]
    return bytes([0x80 | opcode]) + short + struct.pack(form, size) + MASK + payload
