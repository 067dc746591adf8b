"""What others get to feel of hostile clients: a backend that treats those as they ask for, and probes that are timed.

All probes are open loops: they send at their pace whatever is answered. A latency runs from the moment of the write,
not from the moment when it was due: this process may be late itself, and says by how much (`Lateness`).
"""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import cast

from benchmarks.attackers import RESET
from benchmarks.attacks import request
from benchmarks.rig import HANDSHAKE, HOST, OK, Backend, Rig, Seen

ECHOES, CHECKS, FEW = 100, 50, 10
"""Messages of the healthy client, and requests of each other probe, a second; `FEW`: where the successes of many would
tell the gateway at once that its backend is well."""

PATIENCE = 10.0
"""Seconds that an answer is waited for; then it counts as failed."""

SIZE = 16
"""Bytes of an echoed message."""


def answer(status: int, headers: str = "", body: bytes = b"") -> bytes:
    """Return a response."""
    return f"HTTP/1.1 {status} Status\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


REPLY = answer(200, "Ws-Reply: text\r\n", b"x" * SIZE)
ANSWERS = {status: answer(int(status)) for status in ("400", "500", "502")}


class Judge(Backend):
    """Echoes the messages of a client without `Authorization`; does to others what theirs says (`attacks.handshake`).

    `reset`, `garbage` and `silence` are what they say; `close`: the message is taken and the client closed by a DELETE;
    `reply`: the message is answered with one; a number is a status. Methods that are not named are answered 200.
    """

    def __init__(self, seen: Seen) -> None:
        """Start with an empty body."""
        super().__init__(seen)
        self._pieces: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        if not self.left:
            self.head, _, data = data.partition(b"\r\n\r\n")
            self.left = int(self.head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
            self._pieces = []
        self._pieces.append(data)
        self.left -= len(data)
        if not self.left:
            self._decide()

    def _decide(self) -> None:
        method = self.head[: self.head.index(b" ")].decode()
        authorization = self.head.partition(b"\r\nAuthorization: ")[2].partition(b"\r\n")[0].decode()
        if not authorization:
            self._serve(method)
            return
        words = authorization.split()
        self._punish(dict(zip(words[::2], words[1::2], strict=True)).get(method, "ok"))

    def _serve(self, method: str) -> None:
        if method == "PUT":
            body = b"".join(self._pieces)
            self.transport.write(answer(200, "Ws-Reply: text\r\n", body))
            return
        if method == "POST":
            self.seen.ws_uris.append(self._ws_uri())
        self.transport.write(OK)

    def _punish(self, fate: str) -> None:
        if fate == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        elif fate == "garbage":
            self.transport.write(b"\x00garbage\r\n\r\n")
            self.transport.close()
        elif fate == "reply":
            self.transport.write(REPLY)
        elif fate in ANSWERS:
            self.transport.write(ANSWERS[fate])
        elif fate != "silence":
            self.transport.write(OK)
            if fate == "close":
                self.seen.on_close(self._ws_uri())

    def _ws_uri(self) -> str:
        return self.head.partition(b"\r\nWs-Uri: ")[2].partition(b"\r\n")[0].decode()


class Discarding(asyncio.Protocol):
    """Takes whatever comes."""


class Closer:
    """The backend's connection by which it closes clients, each once, made again when the gateway closed it."""

    def __init__(self, rig: Rig) -> None:
        """Close clients of the gateway of `rig`."""
        self._closed: set[str] = set()
        self._rig = rig
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def close(self, ws_uri: str) -> None:
        """Close a client by `DELETE ws_uri`."""
        if ws_uri in self._closed:
            return
        self._closed.add(ws_uri)
        self._waiting.append(request("DELETE", f"/{ws_uri.partition('/')[2]}"))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.create_connection(Discarding, HOST, self._rig.control)
        waiting, self._waiting = self._waiting, []
        self._transport.write(b"".join(waiting))

    def stop(self) -> None:
        """Close no more."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()


class Latencies:
    """What one probe measured: seconds `taken` by answers, and how many `failed`."""

    def __init__(self) -> None:
        """Start with none."""
        self.taken: list[float] = []
        self.failed = 0

    def percentile(self, share: float) -> float:
        """Return the latency that `share` (0.99) of all answers keep to; nan if there were none."""
        taken = sorted(self.taken)
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else float("nan")

    def add(self, other: "Latencies") -> None:
        """Count those of `other` too."""
        self.taken += other.taken
        self.failed += other.failed


class Lateness:
    """How late this process was for its own timers, in seconds."""

    taken: list[float] = []  # noqa: RUF012 - one for the process


async def ticks(rate: float, seconds: float) -> AsyncIterator[int]:
    """Count up, `rate` times a second, for so long; what was missed by being late is caught up on at once.

    The gaps are random, so that no probe is in step with another one or with the hostile clients.
    """
    begin = time.perf_counter()
    due = begin
    for number in range(int(rate * seconds)):
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
            Lateness.taken.append(time.perf_counter() - due)
        yield number
        due = begin + (number + 1 + random.uniform(-0.5, 0.5)) / rate  # noqa: S311


class Echoing(asyncio.Protocol):
    """The healthy client: each message that it sends comes back."""

    def __init__(self) -> None:
        """Shake hands first."""
        loop = asyncio.get_running_loop()
        self.latencies = Latencies()
        self.opened: asyncio.Future[bool] = loop.create_future()
        self.is_open = False
        self._buffer = b""
        self._number = 0
        self._sent: dict[int, float] = {}
        self._settled = asyncio.Event()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        """Take what came back."""
        if not self.opened.done():
            self.is_open = data.startswith(b"HTTP/1.1 101")
            self.opened.set_result(self.is_open)
            return
        self._buffer += data
        while len(self._buffer) > 1 and len(self._buffer) >= 2 + self._buffer[1]:
            opcode, size = self._buffer[0] & 0xF, self._buffer[1]
            payload, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            if opcode == 1:
                self._came_back(int(payload))
            elif opcode == 8:  # noqa: PLR2004 - RFC 6455 section 5.2
                self._transport.abort()
                return

    def connection_lost(self, _exc: Exception | None) -> None:
        """What is under way will not come back."""
        self.is_open = False
        if not self.opened.done():
            self.opened.set_result(False)
        self.give_up()

    def send(self) -> None:
        """Send the next message."""
        self._number += 1
        self._settled.clear()
        self._sent[self._number] = time.perf_counter()
        self._transport.write(bytes([0x81, 0x80 | SIZE, 0, 0, 0, 0]) + b"%016d" % self._number)

    def give_up(self) -> None:
        """Count what did not come back as failed."""
        self.latencies.failed += len(self._sent)
        self._sent.clear()
        self._settled.set()

    async def settled(self) -> None:
        """Wait until all came back."""
        if self._sent:
            await self._settled.wait()

    def close(self) -> None:
        """Go."""
        self._transport.abort()

    def _came_back(self, number: int) -> None:
        sent = self._sent.pop(number, None)
        if sent is not None:
            self.latencies.taken.append(time.perf_counter() - sent)
        if not self._sent:
            self._settled.set()


class Echo:
    """A probe: a healthy client that echoes. When it is closed it comes back, and what it could not send has failed."""

    def __init__(self, rig: Rig, rate: float = ECHOES) -> None:
        """Probe the gateway of `rig`, `rate` times a second."""
        self._rate = rate
        self._client: Echoing | None = None
        self._opening: asyncio.Task[None] | None = None
        self._rig = rig
        self.times_closed = -1

    async def open(self) -> None:
        """Connect. Raises `ConnectionError` when the client is refused."""
        client = await asyncio.wait_for(self._rig.reach(Echoing), PATIENCE)
        if not await asyncio.wait_for(client.opened, PATIENCE):
            raise ConnectionError("the healthy client was refused")
        self._client = client
        self.times_closed += 1

    async def run(self, seconds: float) -> Latencies:
        """Probe for so long; return what was measured."""
        latencies = Latencies()
        async for _ in ticks(self._rate, seconds):
            client = self._client
            if client is not None and client.is_open:
                client.send()
                continue
            latencies.failed += 1
            if client is not None:
                latencies.add(client.latencies)
                self._client = None
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._reopen())
        if self._client is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._client.settled(), PATIENCE)
            self._client.give_up()
            latencies.add(self._client.latencies)
            self._client.latencies = Latencies()
        return latencies

    async def _reopen(self) -> None:
        with suppress(OSError, asyncio.TimeoutError):
            await self.open()

    def close(self) -> None:
        """Stop."""
        if self._opening is not None:
            self._opening.cancel()
        if self._client is not None:
            self._client.close()


class Once(asyncio.Protocol):
    """Sends one request on a connection of its own; `answered` says whether the answer was as `expected`."""

    def __init__(self, data: bytes, expected: bytes) -> None:
        """Send `data`."""
        self._data = data
        self._expected = expected
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        """Be done."""
        self._tell(data.startswith(self._expected))
        self._transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """It ended without an answer."""
        self._tell(False)

    def _tell(self, well: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(well)


class Fresh:
    """A probe: the same request over and over, each on a new connection, from connecting to the answer."""

    def __init__(self, port: int, data: bytes, expected: bytes = b"HTTP/1.1 200", rate: float = CHECKS) -> None:
        """Send `data` to `port`, `rate` times a second."""
        self._rate = rate
        self._port = port
        self._data = data
        self._expected = expected

    async def run(self, seconds: float) -> Latencies:
        """Probe for so long; return what was measured."""
        latencies = Latencies()
        under_way: set[asyncio.Task[None]] = set()
        async for _ in ticks(self._rate, seconds):
            task = asyncio.create_task(self._one(latencies))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        return latencies

    async def _one(self, latencies: Latencies) -> None:
        begin = time.perf_counter()
        try:
            well = await asyncio.wait_for(self._ask(), PATIENCE)
        except (OSError, asyncio.TimeoutError):
            well = False
        if well:
            latencies.taken.append(time.perf_counter() - begin)
        else:
            latencies.failed += 1

    async def _ask(self) -> bool:
        make = lambda: Once(self._data, self._expected)  # noqa: E731 - short
        transport, protocol = await asyncio.get_running_loop().create_connection(make, HOST, self._port)
        try:
            return await protocol.answered
        finally:
            transport.abort()
