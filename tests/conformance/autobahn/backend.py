"""A backend that accepts all clients and echoes their messages. The path of the handshake selects how.

`/reply`: in the answer, with `Ws-Reply`. `/put`: by a PUT to the client's `ws_uri` before the message is answered, so
that echoes keep the order of the messages.
"""

import asyncio
import json
from contextlib import suppress

WAYS = ("put", "reply")

LARGEST = 1 << 25
"""The limit of the stream's buffer in bytes: more than the suite's longest message."""

Headers = dict[str, str]


class Link:
    """An HTTP connection: sends and receives requests and responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, start: str, headers: Headers, body: bytes) -> None:
        lines = [start, *(f"{name}: {value}" for name, value in headers.items()), f"Content-Length: {len(body)}"]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()

    async def receive(self) -> tuple[str, Headers, bytes]:
        """Return start line, headers by lower-case name, and body. Raises `EOFError` at the end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return start, headers, await self._reader.readexactly(int(headers["content-length"]))

    def close(self) -> None:
        self._writer.close()


class Backend:
    """`open`: the `ws_uri` of each connected client. `surprises`: unexpected events, as sentences."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.surprises: list[str] = []
        self.port = 0
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=LARGEST)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pushes = Pushes()
        gateway = Link(reader, writer)
        try:
            with suppress(EOFError, ConnectionError, asyncio.CancelledError):
                while True:
                    await self._answer(gateway, pushes)
        finally:
            gateway.close()
            pushes.close()
            self._tasks.discard(task)

    async def _answer(self, gateway: Link, pushes: "Pushes") -> None:
        start, headers, body = await gateway.receive()
        method, ws_uri, kind = start.split(" ")[0], headers["ws-uri"], headers["content-type"]
        more: Headers = {}
        answer = b'{"code": "OK"}'
        if method == "POST":
            self.open.add(ws_uri)
            answer = json.dumps({"code": "OK", "context": json.loads(body)["request"]["path"].strip("/")}).encode()
        elif method == "DELETE":
            self.open.discard(ws_uri)
        elif headers["ws-context"] == "reply":
            more = {"Ws-Reply": "text" if kind.startswith("text/") else "binary"}
            answer = body
        else:
            status = await pushes.put(ws_uri, kind, body)
            if status not in ("200", "410"):
                self.surprises.append(f"a push of {len(body)} bytes was answered {status}")
        await gateway.send("HTTP/1.1 200 OK", more, answer)


class Pushes:
    """Sends messages to clients, one at a time."""

    def __init__(self) -> None:
        self._link: Link | None = None

    async def put(self, ws_uri: str, kind: str, body: bytes) -> str:
        """Push `body`; return the status."""
        host, _, path = ws_uri.partition("/")
        if self._link is None:
            name, _, port = host.partition(":")
            self._link = Link(*await asyncio.open_connection(name, int(port)))
        await self._link.send(f"PUT /{path} HTTP/1.1", {"Host": host, "Content-Type": kind}, body)
        start, _, _ = await self._link.receive()
        return start.split(" ")[1]

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
