"""A WebSocket client that sends any bytes, and its handshake."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, cast

from tests.support.frames import CLOSE
from tests.support.waiting import with_timeout

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes a close a reset."""


@dataclass
class Answer:
    """A response of an HTTP server."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json["code"]
        return code


def upgrade(path: str = "/", *more: str, key: str | None = KEY, version: str | None = "13") -> bytes:
    """Return a handshake with the header lines `more`."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    if key is not None:
        lines.append(f"Sec-WebSocket-Key: {key}")
    if version is not None:
        lines.append(f"Sec-WebSocket-Version: {version}")
    return "\r\n".join([*lines, *more, "", ""]).encode("latin-1")


class RawClient:
    """A client that sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    @property
    def transport(self) -> asyncio.Transport:
        """The transport. asyncio annotates it as one that only writes."""
        return cast(asyncio.Transport, self.writer.transport)

    def unsent(self) -> int:
        """Return the number of bytes that the kernel has not taken."""
        return self.transport.get_write_buffer_size()

    async def send_slowly(self, data: bytes) -> None:
        """Send it byte by byte."""
        for at in range(len(data)):
            self.writer.write(data[at : at + 1])
            await self.writer.drain()
            await asyncio.sleep(0)

    def close(self) -> None:
        self.writer.close()

    def half_close(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        """Reset the connection."""
        if (sock := self.writer.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    async def answer(self, *, head: bool = False) -> Answer:
        """Read one HTTP response. `head`: it answers a HEAD, so it has no body."""
        start, *lines = (await with_timeout(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        status = int(start.split(" ")[1])
        length = 0 if head or status < 200 else int(headers["Content-Length"])
        return Answer(status, headers, await with_timeout(self.reader.readexactly(length)))

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame of the gateway: its opcode and its payload."""
        first, second = await with_timeout(self.reader.readexactly(2))
        assert first & 0x80, "the gateway does not fragment"
        assert not second & 0x80, "a server does not mask"
        length = second
        if second == 126:
            (length,) = struct.unpack("!H", await with_timeout(self.reader.readexactly(2)))
        elif second == 127:
            (length,) = struct.unpack("!Q", await with_timeout(self.reader.readexactly(8)))
        return first & 0xF, await with_timeout(self.reader.readexactly(length))

    async def closing(self) -> tuple[int, str]:
        """Read a Close: its code and its reason."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, (opcode, payload)
        return (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:].decode()

    async def end(self) -> None:
        """Wait for the end of the connection, before which nothing may arrive."""
        assert await self.rest() == b""

    async def rest(self) -> bytes:
        """Read until the end of the connection, which may be a reset."""
        data = b""
        try:
            while piece := await with_timeout(self.reader.read(1 << 16)):
                data += piece
        except ConnectionError:
            pass
        return data
