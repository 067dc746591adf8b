"""How long the loop ever stands still with many clients: `python -m benchmarks pauses`.

A whole gateway on a real loop, but the clients, the backend and their sockets are the fakes of the tests: a process
may not have as many descriptors. While clients come and go, send and are sent to, a listing is read and time-outs are
looked after, a timer asks each millisecond how late it is: that is what everybody else had to wait.
"""

import asyncio
import gc
import random
import time
from argparse import ArgumentParser
from collections import Counter, deque
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import uvloop

from benchmarks.framing import frame
from benchmarks.micro import LIMIT, OK, TAKEN, push_request
from wsaas.api.api import Api
from wsaas.clock import Clock
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.journal import NoJournal
from wsaas.delivery.pool import Limits, Pool
from wsaas.delivery.webhook import Webhook
from wsaas.memory import process as memory
from wsaas.sessions.registry import Registry
from wsaas.transport.context import ServerContext
from wsaas.transport.http_server import HttpProtocol, Site
from wsaas.transport.timeouts import Timeouts

TICK = 0.001
"""Seconds between two looks at the clock."""

STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, float("inf"))
"""Milliseconds up to which pauses are counted together."""

CONNECTIONS = 32
FRAME = frame(128)
LEAVE = b"\x88\x82\0\0\0\0\x03\xe8"
"""A Close, masked with what changes nothing."""


PING, PONG = b"\x89\x00", b"\x8a\x80\0\0\0\0"


class Crowd:
    """A gateway with `clients` of them, and everything that happens to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clients: int) -> None:
        """Let them in."""
        self._fakes: Any = import_module("tests.fakes")
        settings = self._fakes.make_settings()
        self.clock = Clock(loop)
        self._opener = self._fakes.FakeOpener()
        pool = Pool(self.clock, self._opener, Limits(connections=CONNECTIONS, attempt=10, idle=3600, body=LIMIT))
        breaker = CircuitBreaker(self.clock, pool)
        self._registry = Registry(
            settings, self.clock, Webhook(settings, pool, breaker, self.clock.wall), NoJournal(), 2 * clients
        )
        self.heartbeat = Timeouts(self.clock, 1.0, pool.sweep, breaker.sweep)
        common = ServerContext(settings, self.clock, self.heartbeat)
        gate = self._fakes.make_gate(self.clock, self._registry, self.heartbeat, clients=2 * clients)
        self._site = Site(common, Api(settings, self._registry), self._registry, gate)
        self._rest = self._visit()
        self.clients: deque[Any] = deque()
        self._pinged: deque[Any] = deque()
        while len(self.clients) < clients:
            self.enter()

    def _visit(self) -> Any:
        transport = self._fakes.FakeTransport(HttpProtocol(self._site))
        transport.protocol.connection_made(transport)
        return transport

    def pong(self) -> None:
        """Let a client answer that was pinged: one of them, as a loop would come to them one by one."""
        if self._pinged:
            self._pinged.popleft().protocol.data_received(PONG)

    def _answer(self, answer: bytes) -> None:
        """Let the backend answer all that it was asked."""
        while self._opener.pending:
            self._opener.open()
        for connection in self._opener.transports:
            while connection.writes:
                connection.writes.clear()
                connection.protocol.data_received(answer)

    def enter(self) -> None:
        """Let a client in."""
        client = self._visit()
        client.protocol.data_received(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self._answer(OK)
        client.writes = Delivered(lambda: self._pinged.append(client))
        self.clients.append(client)

    def leave(self) -> None:
        """Let the client go that came first."""
        client = self.clients.popleft()
        client.protocol.data_received(LEAVE)
        client.lose()
        # What is on its way to a client that is gone goes nowhere; and it knows its protocol no more.
        client.protocol = asyncio.Protocol()
        self._answer(TAKEN)

    def message(self) -> None:
        """Let any client send a message."""
        random.choice(self.clients).protocol.data_received(FRAME)  # noqa: S311 - no secret
        self._answer(TAKEN)

    def push(self) -> None:
        """Push to any client."""
        client = random.choice(self.clients)  # noqa: S311 - no secret
        self._rest.protocol.data_received(push_request(client.protocol.session.id, 128))
        self._rest.writes.clear()

    def list(self) -> None:
        """Read a page of the listing."""
        self._rest.protocol.data_received(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._rest.writes.clear()

    def metrics(self) -> None:
        """Ask for the number of clients."""
        self._rest.protocol.data_received(b"HEAD /connections HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._rest.writes.clear()


class Delivered(list[bytes]):
    """What is written to a client, which keeps nothing of it but answers pings."""

    def __init__(self, pinged: Callable[[], None]) -> None:
        """Call `pinged` for each ping."""
        self._pinged = pinged

    def append(self, data: bytes) -> None:
        """Take `data`."""
        if data == PING:
            self._pinged()


class Watch:
    """Counts by how much each of its ticks was late: milliseconds to how often."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to watch."""
        self._loop = loop
        self.late: list[float] = []
        self._due = loop.time() + TICK
        self._timer = loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        self.late.append(1000 * max(0.0, now - self._due))
        self._due = now + TICK
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        """Watch no more."""
        self._timer.cancel()


async def watch(clients: int, seconds: float, *, plain: bool) -> tuple[list[float], dict[str, float]]:
    """Return by how many milliseconds the ticks were late, and how long each collection of garbage took at most."""
    loop = asyncio.get_running_loop()
    crowd = Crowd(loop, clients)
    collections: dict[str, float] = {}
    begun = 0.0

    def collected(phase: str, information: dict[str, int]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.perf_counter()
            return
        name = f"generation {information['generation']}"
        collections[name] = max(collections.get(name, 0.0), 1000 * (time.perf_counter() - begun))

    if not plain:
        memory.rest_collector()
    crowd.heartbeat.start()
    gc.callbacks.append(collected)
    watching = Watch(loop)
    end = loop.time() + seconds
    rates: dict[Callable[[], None], float] = {
        crowd.message: 2000,
        crowd.push: 2000,
        crowd.enter: 200,
        crowd.leave: 200,
        crowd.pong: 20_000,
        crowd.list: 1,
        crowd.metrics: 1,
    }
    done: Counter[Callable[[], None]] = Counter()
    start = loop.time()
    while (now := loop.time()) < end:
        for act, rate in rates.items():
            # No more than a few at once, or what is done here would itself be the pause.
            for _ in range(min(max(8, int(rate * TICK)), int((now - start) * rate) - done[act])):
                act()
                done[act] += 1
        await asyncio.sleep(0.0005)
    watching.stop()
    crowd.heartbeat.stop()
    gc.callbacks.remove(collected)
    return watching.late, collections


def table(late: Sequence[float]) -> list[str]:
    """Return the histogram as lines of Markdown."""
    lines = ["| late by up to | ticks | share |", "| --- | --- | --- |"]
    below = 0
    for step in STEPS:
        counted = sum(each <= step for each in late)
        if counted > below:
            name = f"{step:g} ms" if step < STEPS[-1] else "more"
            lines.append(f"| {name} | {counted - below:,} | {(counted - below) / len(late):.4%} |")
        below = counted
    return lines


def main(arguments: Sequence[str]) -> None:
    """Print the histogram."""
    parser = ArgumentParser(prog="python -m benchmarks pauses", description=__doc__)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plain", action="store_true", help="leave the garbage collector as Python sets it up")
    options = parser.parse_args(arguments)
    late, collections = uvloop.run(watch(options.clients, options.seconds, plain=options.plain))
    print(f"{options.clients:,} clients on fake transports, {options.seconds:g} s, longest pause {max(late):.1f} ms\n")
    print("\n".join(table(late)))
    for name, longest in sorted(collections.items()):
        print(f"\nlongest collection of {name}: {longest:.1f} ms")
