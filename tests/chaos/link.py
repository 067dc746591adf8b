"""Connections of the backend to the gateway's REST API. With a certificate file in CHAOS_CA, they use TLS."""

import asyncio
import os
import random
import ssl
from collections.abc import Sequence

Address = tuple[str, int]
"""A host and a port."""

TLS = ssl.create_default_context(cafile=os.environ["CHAOS_CA"]) if "CHAOS_CA" in os.environ else None

UNREACHABLE = os.environ.get("CHAOS_UNREACHABLE", "")
"""An address from which no packet may come back for longer than `ANSWER_TIMEOUT_S`, if there is one."""

CONNECT_TIMEOUT_S = 2
"""Seconds for a connection to an address. Then another one is used."""

ANSWER_TIMEOUT_S = 15
"""Seconds for the answer to a request. The gateway's own limit is less: at most 10 s."""

NO_ANSWER = "unknown"
"""The status of a request whose connection ended before the answer: whether it was carried out is unknown."""

TIMED_OUT = "timeout"
"""The status of a request without an answer within `ANSWER_TIMEOUT_S`."""


def show(address: Address) -> str:
    """Return an address as text."""
    return f"{address[0]}:{address[1]}"


def parse(text: str) -> list[Address]:
    """Return the addresses in a list with commas."""
    return [(host, int(port)) for host, port in (each.split(":") for each in text.split(","))]


class Link:
    """Connections to each address of the gateway's REST API, opened on demand, for one request at a time.

    Each request uses an address that is chosen at random, or another one if nobody listens there. The first address is
    `WS_HOSTNAME`.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses
        self._streams: dict[Address, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def request(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> tuple[str, str]:
        """Return the status and the body of the answer. `NO_ANSWER` and `TIMED_OUT` stand for a missing status."""
        address = await self._choose()
        if address is None:
            return NO_ANSWER, ""
        try:
            asking = self._request(address, method, target, body, content_type)
            return await asyncio.wait_for(asking, ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            self._close(address)
            return (NO_ANSWER if show(address) == UNREACHABLE else TIMED_OUT), ""
        except (OSError, EOFError, ValueError, RuntimeError):
            # uvloop raises RuntimeError for a write after the loss of the connection.
            self._close(address)
            return NO_ANSWER, ""

    async def _choose(self) -> Address | None:
        """Return an address with an open connection."""
        for address in random.sample(self._addresses, len(self._addresses)):
            if address in self._streams:
                if not self._streams[address][1].is_closing():
                    return address
                self._close(address)
            try:
                connecting = asyncio.open_connection(*address, ssl=TLS)
                self._streams[address] = await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)
            except (OSError, asyncio.TimeoutError):
                continue
            return address
        return None

    async def _request(
        self, address: Address, method: str, target: str, body: bytes, content_type: str
    ) -> tuple[str, str]:
        reader, writer = self._streams[address]
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        size = f"Content-Length: {len(body)}\r\n"
        writer.write(
            f"{method} {target} HTTP/1.1\r\nHost: {show(self._addresses[0])}\r\n{kind}{size}\r\n".encode() + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        answer = await reader.readexactly(int(lines["content-length"]))
        if lines.get("connection") == "close":
            self._close(address)
        return head.split(" ")[1], answer.decode()

    def _close(self, address: Address) -> None:
        self._streams.pop(address)[1].close()

    def close(self) -> None:
        """Close all connections. The next requests open others, perhaps to other workers."""
        for address in [*self._streams]:
            self._close(address)
