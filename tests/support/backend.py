"""A backend on raw streams: a test may answer, hang, close the connection, or send any bytes."""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from tests.support.clients import RESET
from tests.support.waiting import run_ready_callbacks, with_timeout


class Call:
    """A complete request of the gateway, and the methods to answer it."""

    def __init__(self, head: bytes, body: bytes, number: int, connection: "BackendConnection") -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ")
        self.raw_headers = [line.split(": ", 1) for line in lines[1:] if line]
        self.headers = {name.lower(): value for name, value in self.raw_headers}
        self.body = body
        self.number = number
        self.connection = connection
        self.done = asyncio.Event()
        """Set when it was answered, or its connection was closed by the test."""
        self.dropped = asyncio.Event()
        """Set if the gateway closes the connection before the answer."""

    def __repr__(self) -> str:
        return f"<{self.method} {self.headers.get('ce-id')} {self.body[:60]!r}>"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def client(self) -> str:
        """The id of its client."""
        return self.headers["ce-subject"]

    @property
    def event(self) -> int | str:
        """The number of the event of its client; `end` for the DELETE."""
        number = self.headers["ce-id"].rpartition(":")[2]
        return int(number) if self.method != "DELETE" else number

    @property
    def ws_uri(self) -> str:
        return self.headers["ws-uri"]

    def answer(self, status: int = 200, body: bytes | str | dict[str, Any] = b"", **headers: str) -> None:
        """Answer; `Ws_Reply="text"` becomes the header `Ws-Reply: text`."""
        if isinstance(body, dict):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        if headers.get("Connection") == "close":
            self.connection.close()

    def ok(self, **more: Any) -> None:
        """Answer a POST, a PUT or a DELETE with success."""
        self.answer(200, {"code": "OK", **more})

    def send(self, data: bytes) -> None:
        """Send any bytes as the answer, unless the gateway closed the connection."""
        if not self.connection.writer.is_closing():
            self.connection.writer.write(data)
        self.done.set()

    def hang_up(self, data: bytes = b"") -> None:
        """Send `data`, an incomplete answer, and close the connection."""
        if data:
            self.connection.writer.write(data)
        self.connection.close()
        self.done.set()

    def reset(self) -> None:
        """Reset the connection."""
        self.connection.reset()
        self.done.set()


class BackendConnection:
    """One connection that the gateway holds to the backend."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.busy: Call | None = None
        self.served = 0
        self._reader = reader
        self._buffer = b""
        self._next = asyncio.ensure_future(reader.read(1 << 20))

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        # A connection that the gateway has just closed has no socket any more.
        if (sock := self.writer.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    def ended(self) -> None:
        self._next.cancel()
        self.writer.close()
        if self.busy is not None:
            self.busy.dropped.set()

    @property
    def fresh(self) -> bool:
        """Whether its first request is still unanswered."""
        return self.served == 0

    async def answered(self, call: Call) -> None:
        """Wait until `call` is answered. Until then no further byte may arrive; the connection may end."""
        done = asyncio.ensure_future(call.done.wait())
        try:
            await asyncio.wait((done, self._next), return_when=asyncio.FIRST_COMPLETED)
        finally:
            done.cancel()
        if not call.done.is_set():
            await self._more()
            raise AssertionError(f"a request arrived before the previous one was answered: {self._buffer!r}")
        await self.writer.drain()

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more()
        data, _, self._buffer = self._buffer.partition(mark)
        return data

    async def read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def _more(self) -> None:
        data = await self._next
        if not data:
            raise EOFError
        self._buffer += data
        self._next = asyncio.ensure_future(self._reader.read(1 << 20))


Policy = Callable[[Call], Awaitable[None] | None]


def answer_after(seconds: float) -> Policy:
    """Return a policy that answers each request with success after `seconds`."""

    async def answer(call: Call) -> None:
        await asyncio.sleep(seconds)
        call.ok()

    return answer


class Backend:
    """Listens on one port, and may be restarted. Answers every request with success by default.

    `on[method]` is called with each request of that method. `hold(method)` leaves these requests to the test, which
    gets them by `take` and answers them itself.
    """

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.port = 0
        self.calls: list[Call] = []
        self.connections: set[BackendConnection] = set()
        self.accepted = 0
        self.most_busy = 0
        self.on: dict[str, Policy] = dict.fromkeys(("POST", "PUT", "DELETE"), Call.ok)
        self._tls = tls
        self._taken: set[int] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def start(self, listener: socket.socket | None = None) -> "Backend":
        """Listen: the first time on a free port or on the bound socket `listener`, later on the same port."""
        where = {"host": self.host, "port": self.port} if listener is None else {"sock": listener}
        self._server = await asyncio.start_server(self._serve, ssl=self._tls, **where)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def start_at(self, path: str) -> "Backend":
        """Listen on a Unix socket."""
        self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    def stop_listening(self) -> None:
        """Close the listener. Connections stay open."""
        assert self._server is not None
        self._server.close()

    async def stop(self) -> None:
        """Close the listener, and reset all connections."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        # A connection may just have been accepted. Otherwise the next test would fail with a warning about it.
        await run_ready_callbacks()
        for connection in list(self.connections):
            connection.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self, *methods: str) -> None:
        """Leave requests of these methods to the test."""
        for method in methods:
            self.on[method] = lambda _call: None

    def release(self) -> None:
        """Answer held and future requests with success."""
        self.on = dict.fromkeys(self.on, Call.ok)
        for connection in self.connections:
            if connection.busy is not None and not connection.busy.done.is_set():
                connection.busy.ok()

    async def take(self, method: str | None = None, *, client: str | None = None) -> Call:
        """Wait for the next request that was not taken yet."""

        def find() -> Call | None:
            for call in self.calls:
                if call.number in self._taken or method not in (None, call.method):
                    continue
                if client in (None, call.client):
                    return call
            return None

        await self.wait(lambda: find() is not None)
        call = find()
        assert call is not None
        self._taken.add(call.number)
        return call

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds. It is checked after each request and connection."""

        async def wait() -> None:
            while not condition():
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter

        try:
            await with_timeout(wait())
        except asyncio.TimeoutError:
            raise AssertionError(f"timed out; the last requests were {self.calls[-20:]}") from None

    def of(self, client: str) -> list[Call]:
        """Return the requests about one client, in order."""
        return [call for call in self.calls if call.client == client]

    def count(self, method: Literal["POST", "PUT", "DELETE"]) -> int:
        return sum(call.method == method for call in self.calls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = BackendConnection(reader, writer)
        self.connections.add(connection)
        self.accepted += 1
        self._notify()
        try:
            while True:
                await self._serve_one(connection)
                self._notify()
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            connection.ended()
            self.connections.discard(connection)
            self._tasks.discard(task)
            self._notify()

    async def _serve_one(self, connection: "BackendConnection") -> None:
        head = await connection.read_until(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
        body = await connection.read_exactly(int(length[1]) if length else 0)
        call = Call(head, body, len(self.calls), connection)
        self.calls.append(call)
        connection.busy = call
        self.most_busy = max(self.most_busy, sum(each.busy is not None for each in self.connections))
        self._notify()
        policy = self.on[call.method](call)
        if policy is not None:
            await policy
        await connection.answered(call)
        connection.served += 1
        connection.busy = None

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
