"""Probes that measure what healthy clients and requests experience beside hostile clients.

Each probe is an open loop: it sends at its own pace, whatever is answered. A latency runs from the moment of the write,
not from the moment when it was due, because this process may be late itself; `Lateness` says by how much.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import cast

from benchmarks.rig import Rig
from benchmarks.wire import CLOSE, HANDSHAKE, HOST, TEXT, frame

ECHO_RATE, REQUEST_RATE = 100, 50
"""Messages of the healthy client, and requests of each other probe, a second."""

LOW_RATE = 10
"""The same where the successes of more would show the gateway at once that its backend recovered."""

ANSWER_TIMEOUT_S = 10.0
"""How long an answer is waited for before it counts as failed."""


class Latencies:
    """What a probe measured: the seconds `taken` by each answer, and how many `failed`."""

    def __init__(self) -> None:
        """Start with none."""
        self.taken: list[float] = []
        self.failed = 0

    def percentile(self, share: float) -> float:
        """Return the latency that `share` (such as 0.99) of all answers do not exceed; nan if there are none."""
        taken = sorted(self.taken)
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else float("nan")

    def add(self, other: "Latencies") -> None:
        """Add those of `other`."""
        self.taken += other.taken
        self.failed += other.failed


class Lateness:
    """By how many seconds the timers of this process were late."""

    taken: list[float] = []  # noqa: RUF012 - one for the process


async def ticks(rate: float, seconds: float) -> AsyncIterator[int]:
    """Count up, `rate` times a second, for `seconds`. After a delay the missed ticks follow at once.

    The gaps are random, so that no probe runs in step with another one or with the hostile clients.
    """
    begin = time.perf_counter()
    due = begin
    for number in range(int(rate * seconds)):
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
            Lateness.taken.append(time.perf_counter() - due)
        yield number
        due = begin + (number + 1 + random.uniform(-0.5, 0.5)) / rate


class EchoClient(asyncio.Protocol):
    """The healthy client, to which the backend sends each of its messages back."""

    def __init__(self) -> None:
        """Be ready to connect."""
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
        """Send the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        """Take the response to the handshake, then messages that come back."""
        if not self.opened.done():
            self.is_open = data.startswith(b"HTTP/1.1 101")
            self.opened.set_result(self.is_open)
            return
        self._buffer += data
        while len(self._buffer) > 1 and len(self._buffer) >= 2 + self._buffer[1]:
            opcode, size = self._buffer[0] & 0xF, self._buffer[1]
            payload, self._buffer = self._buffer[2 : 2 + size], self._buffer[2 + size :]
            if opcode == TEXT:
                self._came_back(int(payload))
            elif opcode == CLOSE:
                self._transport.abort()
                return

    def connection_lost(self, _exc: Exception | None) -> None:
        """Count the messages under way as failed."""
        self.is_open = False
        if not self.opened.done():
            self.opened.set_result(False)
        self.give_up()

    def send(self) -> None:
        """Send the next message."""
        self._number += 1
        self._settled.clear()
        self._sent[self._number] = time.perf_counter()
        self._transport.write(frame(b"%016d" % self._number))

    def give_up(self) -> None:
        """Count the messages that did not come back as failed."""
        self.latencies.failed += len(self._sent)
        self._sent.clear()
        self._settled.set()

    async def settled(self) -> None:
        """Wait until all messages came back."""
        if self._sent:
            await self._settled.wait()

    def close(self) -> None:
        """Close the connection."""
        self._transport.abort()

    def _came_back(self, number: int) -> None:
        sent = self._sent.pop(number, None)
        if sent is not None:
            self.latencies.taken.append(time.perf_counter() - sent)
        if not self._sent:
            self._settled.set()


class Echo:
    """A probe: the healthy client. It connects again when it is closed; messages that it cannot send meanwhile fail."""

    def __init__(self, rig: Rig, rate: float = ECHO_RATE) -> None:
        """Probe the gateway of `rig`, `rate` times a second."""
        self._rate = rate
        self._client: EchoClient | None = None
        self._opening: asyncio.Task[None] | None = None
        self._rig = rig
        self.times_closed = -1

    async def open(self) -> None:
        """Connect. Raises `ConnectionError` if the client is refused, `TimeoutError` if it is not answered."""
        client = await asyncio.wait_for(self._rig.reach(EchoClient), ANSWER_TIMEOUT_S)
        if not await asyncio.wait_for(client.opened, ANSWER_TIMEOUT_S):
            raise ConnectionError("the healthy client was refused")
        self._client = client
        self.times_closed += 1

    async def run(self, seconds: float) -> Latencies:
        """Probe for `seconds`; return the latencies."""
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
                await asyncio.wait_for(self._client.settled(), ANSWER_TIMEOUT_S)
            self._client.give_up()
            latencies.add(self._client.latencies)
            self._client.latencies = Latencies()
        return latencies

    async def _reopen(self) -> None:
        with suppress(OSError, asyncio.TimeoutError):
            await self.open()

    def close(self) -> None:
        """Close the client."""
        if self._opening is not None:
            self._opening.cancel()
        if self._client is not None:
            self._client.close()


class SingleRequest(asyncio.Protocol):
    """A connection for one request. `answered`: whether the response started as `expected`."""

    def __init__(self, data: bytes, expected: bytes) -> None:
        """Be ready to send the request `data`."""
        self._data = data
        self._expected = expected
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._data)

    def data_received(self, data: bytes) -> None:
        """Take the start of the response, and close."""
        self._finish(data.startswith(self._expected))
        self._transport.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that the connection ended without a response."""
        self._finish(False)

    def _finish(self, well: bool) -> None:
        if not self.answered.done():
            self.answered.set_result(well)


class RequestProbe:
    """A probe: the same request again and again, each on a new connection, from connecting to the response."""

    def __init__(self, port: int, data: bytes, expected: bytes = b"HTTP/1.1 200", rate: float = REQUEST_RATE) -> None:
        """Send `data` to `port`, `rate` times a second."""
        self._rate = rate
        self._port = port
        self._data = data
        self._expected = expected

    async def run(self, seconds: float) -> Latencies:
        """Probe for `seconds`; return the latencies."""
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
            well = await asyncio.wait_for(self._ask(), ANSWER_TIMEOUT_S)
        except (OSError, asyncio.TimeoutError):
            well = False
        if well:
            latencies.taken.append(time.perf_counter() - begin)
        else:
            latencies.failed += 1

    async def _ask(self) -> bool:
        make = partial(SingleRequest, self._data, self._expected)
        transport, protocol = await asyncio.get_running_loop().create_connection(make, HOST, self._port)
        try:
            return await protocol.answered
        finally:
            transport.abort()
