"""A connection of the backend to the gateway's REST API. With a certificate file in CHAOS_CA, it uses TLS."""

import asyncio
import os
import ssl

TLS = ssl.create_default_context(cafile=os.environ["CHAOS_CA"]) if "CHAOS_CA" in os.environ else None

ANSWER_TIMEOUT_S = 15
"""Seconds for the answer to a request. The gateway's own limit is a third of that."""

NO_ANSWER = "unknown"
"""The status of a request whose connection ended before the answer: whether it was carried out is unknown."""

TIMED_OUT = "timeout"
"""The status of a request without an answer within `ANSWER_TIMEOUT_S`."""


class Link:
    """A connection to the gateway's REST API, opened on demand, for one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, target: str, body: bytes = b"", content_type: str = "") -> tuple[str, str]:
        """Return the status and the body of the answer. `NO_ANSWER` and `TIMED_OUT` stand for a missing status."""
        try:
            return await asyncio.wait_for(self._request(method, target, body, content_type), ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            self.close()
            return TIMED_OUT, ""
        except (OSError, EOFError, ValueError):
            self.close()
            return NO_ANSWER, ""

    async def _request(self, method: str, target: str, body: bytes, content_type: str) -> tuple[str, str]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, ssl=TLS)
        reader, writer = self._streams
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        size = f"Content-Length: {len(body)}\r\n"
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{kind}{size}\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        answer = await reader.readexactly(int(lines["content-length"]))
        if lines.get("connection") == "close":
            self.close()
        return head.split(" ")[1], answer.decode()

    def close(self) -> None:
        """Close the connection. The next request opens another one, perhaps to another worker."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
