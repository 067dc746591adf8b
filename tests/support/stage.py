"""What the tests with real sockets share: the loop that each runs on, a node, and a client that can do anything.

An `async` test runs on a uvloop of its own, under a time-out. After it, whatever it did, everything is closed, and
nothing may be left: no task, no timer of the gateway, no socket; nothing may have been logged as an error, and
no exception may have reached the loop.
"""

import asyncio
import json
import logging
import os
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import websockets

from tests.support.backend import PATIENCE, RESET, Backend, within
from wsaas import settings
from wsaas.gateway import Gateway
from wsaas.sessions.session import Session
from wsaas.statistics import Statistics

LONGEST_TEST = 60.0
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
MASK = b"\x01\x02\x03\x04"


class Loop(uvloop.Loop):
    """Remembers the timers that the gateway sets, until they go off."""

    def __init__(self) -> None:
        super().__init__()
        self._timers: dict[int, asyncio.Handle] = {}
        self._numbers = count()

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, **more: Any) -> asyncio.Handle:
        owner = getattr(callback, "__self__", callback)
        if not type(owner).__module__.startswith("wsaas."):
            handle: asyncio.Handle = super().call_later(delay, callback, *args, **more)
            return handle
        number = next(self._numbers)

        def go_off() -> None:
            del self._timers[number]
            callback(*args)

        timer: asyncio.Handle = super().call_later(delay, go_off, **more)
        self._timers[number] = timer
        return timer

    def pending(self) -> list[asyncio.Handle]:
        """The timers of the gateway that will go off."""
        return [timer for timer in self._timers.values() if not timer.cancelled()]


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def open_sockets() -> int:
    """Return how many sockets this process has."""
    return sum(map(is_socket, Path("/proc/self/fd").iterdir()))


def is_socket(descriptor: Path) -> bool:
    """Return whether a descriptor, which may be closed by now, is one of a socket."""
    try:
        return descriptor.readlink().name.startswith("socket:")
    except OSError:
        return False


class Stage:
    """What one test works with.

    `expected_errors`: substrings of errors that it means to have logged. `tls`: what the clients of its nodes trust,
    and show; None where nodes speak without TLS.
    """

    def __init__(self) -> None:
        self.backend = Backend()
        self.stack = AsyncExitStack()
        self.nodes: list[Node] = []
        self.logged: list[logging.LogRecord] = []
        self.expected_errors: list[str] = []
        self.tls: ssl.SSLContext | None = None
        self.surprises: list[dict[str, Any]] = []

    def run(self, test: Callable[..., Awaitable[None]], arguments: Mapping[str, Any]) -> None:
        """Run `test` on a loop of its own."""
        handler = logging.Handler(logging.DEBUG)
        handler.emit = self.logged.append  # type: ignore[method-assign]
        loggers = [logging.getLogger(name) for name in ("wsaas", "asyncio")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
        try:
            # Not `uvloop.run`: it has no `loop_factory` for every version of Python.
            loop = Loop()
            try:
                loop.run_until_complete(self._perform(test, arguments, loop))
            finally:
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                loop.run_until_complete(loop.shutdown_default_executor())
                with warnings.catch_warnings(record=True) as unclosed:
                    # Raised as errors within `close`, these would make uvloop hang.
                    warnings.simplefilter("always")
                    loop.close()
            assert not unclosed, [str(each.message) for each in unclosed]
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)

    async def _perform(self, test: Callable[..., Awaitable[None]], arguments: Mapping[str, Any], loop: Loop) -> None:
        loop.set_exception_handler(lambda _loop, context: self.surprises.append(context))
        before = open_sockets()
        try:
            await asyncio.wait_for(test(**arguments), LONGEST_TEST)
        finally:
            await self._clear()
            # What is being closed has to be closed, or the loop cannot be.
            for _ in range(200):
                if open_sockets() <= before:
                    break
                await asyncio.sleep(0.005)
        assert not self.surprises, self.surprises
        for record in self.logged:
            if record.levelno >= logging.ERROR or record.exc_info:
                text = record.getMessage()
                assert not record.exc_info, text
                assert any(expected in text for expected in self.expected_errors), text
        for node in self.nodes:
            assert node.statistics.backend_connections_opening == 0
            assert node.statistics.clients == 0
            assert self.expected_errors or node.statistics.disconnects_owed == 0
            assert node.statistics.accepted_connections == 0
            assert node.statistics.backend_connections_idle == 0
            assert node.statistics.backend_connections_busy == 0
        await until(lambda: len(asyncio.all_tasks()) == 1, "all tasks to end", asyncio.all_tasks)
        assert not loop.pending()
        await until(lambda: open_sockets() == before, "all sockets to be closed")

    async def _clear(self) -> None:
        await within(self.stack.aclose())
        self.backend.relent()
        for node in self.nodes:
            if not node.drained:
                assert await node.drain() or self.expected_errors, "the backend was not told everything"
        await within(self.backend.stop())

    def messages(self, level: int = logging.WARNING) -> list[str]:
        """What was logged at `level` and above."""
        return [record.getMessage() for record in self.logged if record.levelno >= level]

    async def node(self, **chosen: Any) -> "Node":
        """Start the backend, unless it is up or `backend=None` says that it stays down, and a node before it."""
        backend = chosen.pop("backend", self.backend)
        if backend is not None and not backend.port:
            await backend.start()
        port = free_port()
        given = {
            "api_uri": f"{self.backend.authority}/hook",
            "ws_hostname": f"127.0.0.1:{port}",
            "drain_timeout": "5000",
            **{name: str(value) for name, value in chosen.items()},
        }
        node = Node(self, settings.load(given, {}))
        self.nodes.append(node)
        await node.gateway.start()
        return node

    @asynccontextmanager
    async def using(self, raw: "Raw") -> AsyncIterator["Raw"]:
        """Close `raw` at the end."""
        try:
            yield raw
        finally:
            raw.close()


@dataclass
class Answer:
    """What an HTTP server answered."""

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


class Node:
    """A gateway, and its visitors."""

    def __init__(self, stage: Stage, chosen: settings.Settings) -> None:
        self.stage = stage
        self.settings = chosen
        self.gateway = Gateway(chosen, asyncio.get_running_loop())
        self.drained = False

    @property
    def port(self) -> int:
        return self.settings.ws_hostname.port

    async def drain(self) -> bool:
        """Stop it, as a signal does; return whether everything was delivered."""
        self.drained = True
        delivered: bool = await within(self.gateway.drain(), 20)
        return delivered

    @property
    def statistics(self) -> Statistics:
        """What it holds now, in numbers."""
        return self.gateway.statistics()

    def session(self, client: str) -> Session:
        """Return the session of a client that is connected, or that waits for the answer to its POST."""
        session = self.gateway.sessions.find(client)
        assert session is not None
        return session

    async def connect(self, path: str = "/", **options: Any) -> websockets.ClientConnection:
        """Connect a real client."""
        options.setdefault("ssl", self.stage.tls)
        scheme = "wss" if options["ssl"] else "ws"
        connecting = websockets.connect(f"{scheme}://127.0.0.1:{self.port}{path}", ping_interval=None, **options)
        client: websockets.ClientConnection = await within(connecting)
        self.stage.stack.push_async_callback(close_quietly, client)
        return client

    async def admit(self, path: str = "/", **options: Any) -> tuple[websockets.ClientConnection, str]:
        """Connect a real client; return it and its id."""
        client = await self.connect(path, **options)
        call = await self.stage.backend.take("POST")
        return client, call.client

    async def raw(
        self, port: int | None = None, *, host: str = "127.0.0.1", receive: int = 0, tls: bool = True
    ) -> "Raw":
        """Open a bare connection. `receive`: its receive buffer, for one that is slow to read.

        `tls`: with TLS, where the node speaks it; otherwise bare TCP.
        """
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.setblocking(False)
        if receive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        try:
            await within(asyncio.get_running_loop().sock_connect(sock, (host, port or self.port)))
        except OSError:
            sock.close()
            raise
        context = self.stage.tls if tls else None
        secured = {"ssl": context, "server_hostname": host} if context else {}
        raw = Raw(*await within(asyncio.open_connection(sock=sock, limit=64 * 1024, **secured)))
        self.stage.stack.callback(raw.close)
        return raw

    async def upgraded(self, **options: Any) -> "Raw":
        """Open a bare connection that has its 101."""
        raw = await self.raw(**options)
        raw.send(upgrade())
        answer = await raw.answer()
        assert answer.status == 101, answer
        return raw

    async def rest(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        *,
        port: int | None = None,
        tls: ssl.SSLContext | None = None,
        **headers: str,
    ) -> Answer:
        """Make one REST request with a real client; `path` may be an id. `tls`: instead of that of the stage."""
        if not path.startswith("/"):
            path = "/" + path
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        skip = () if "Content-Type" in given else ("Content-Type",)
        context = tls or self.stage.tls
        async with (
            aiohttp.ClientSession(skip_auto_headers=skip) as http,
            http.request(
                method,
                f"{'https' if context else 'http'}://127.0.0.1:{port or self.port}{path}",
                data=body or None,
                headers=given,
                ssl=context or True,
                timeout=aiohttp.ClientTimeout(PATIENCE),
            ) as response,
        ):
            return Answer(response.status, dict(response.headers), await response.read())

    async def information(self, client: str) -> Any:
        """What the gateway knows of a client."""
        answer = await self.rest("GET", client)
        assert answer.status == 200, answer
        return answer.json


async def close_quietly(client: websockets.ClientConnection) -> None:
    """Let go of a client, whatever state it is in."""
    client.transport.abort()
    await client.wait_closed()


def upgrade(path: str = "/", *more: str, key: str | None = KEY, version: str | None = "13") -> bytes:
    """Return a handshake with further header lines."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    if key is not None:
        lines.append(f"Sec-WebSocket-Key: {key}")
    if version is not None:
        lines.append(f"Sec-WebSocket-Version: {version}")
    return "\r\n".join([*lines, *more, "", ""]).encode("latin-1")


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Return a client's frame."""
    length = len(payload)
    bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    if length < 126:
        head += bytes([bit | length])
    elif length < 1 << 16:
        head += bytes([bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class Raw:
    """A client that sends what bytes it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def unsent(self) -> int:
        """Return how many bytes the kernel has not taken."""
        return self.writer.transport.get_write_buffer_size()

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
        """Break the connection off, as a network that is gone does."""
        if (sock := self.writer.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def answer(self, *, head: bool = False) -> Answer:
        """Read one HTTP response. `head`: it has no body, whatever its length says."""
        start, *lines = (await within(self.reader.readuntil(b"\r\n\r\n"))).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        status = int(start.split(" ")[1])
        length = 0 if head or status < 200 else int(headers["Content-Length"])
        return Answer(status, headers, await within(self.reader.readexactly(length)))

    async def frame(self) -> tuple[int, bytes]:
        """Read one frame of the gateway: its opcode and its payload."""
        first, second = await within(self.reader.readexactly(2))
        assert first & 0x80, "the gateway does not fragment"
        assert not second & 0x80, "a server does not mask"
        length = second
        if second == 126:
            (length,) = struct.unpack("!H", await within(self.reader.readexactly(2)))
        elif second == 127:
            (length,) = struct.unpack("!Q", await within(self.reader.readexactly(8)))
        return first & 0xF, await within(self.reader.readexactly(length))

    async def closing(self) -> tuple[int, str]:
        """Read a Close: its code and its reason."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE, (opcode, payload)
        return (int.from_bytes(payload[:2], "big") if payload else 1005), payload[2:].decode()

    async def end(self) -> None:
        """Wait for the end of the connection; nothing may come before it."""
        assert await self.rest() == b""

    async def rest(self) -> bytes:
        """Read until the end of the connection, which may be a reset."""
        data = b""
        try:
            while piece := await within(self.reader.read(1 << 16)):
                data += piece
        except ConnectionError:
            pass
        return data


async def until(condition: Callable[[], Any], what: str = "", shown: Callable[[], Any] = str) -> None:
    """Wait until `condition` holds where no event tells of it."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain for {what} {shown()}"
        await asyncio.sleep(0.005)


async def unchanging(number: Callable[[], int]) -> int:
    """Wait until `number` stays the same for 0.2 s; return it."""
    before = number()
    await asyncio.sleep(0.2)
    while before != (now := number()):
        before = now
        await asyncio.sleep(0.2)
    return before


def resident() -> int:
    """Return the bytes of memory that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
