"""The hostile clients, in a process of their own: `python -m benchmarks.hostile.attackers KIND PORT CLIENTS PATH`.

It prints `attacking` on stdout once its clients are connected, and their counts as JSON when its stdin ends. The
scheduler runs it only when nothing else wants the core (SCHED_IDLE), so that it delays no measurement there.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from traceback import print_exception
from typing import cast

import uvloop

from benchmarks.hostile.attacks import KINDS, TARGET, Attack
from benchmarks.hostile.backend import reset
from benchmarks.wire import HOST

RECONNECT_DELAY_S = 0.1
"""Mean time from the end of a hostile connection to the next one."""

RESET_DELAY_S = 0.02
"""From the moment that the socket takes no more to the reset, so that the gateway has read all it wants to."""

VOLLEY_DELAY_S = 0.5
"""From the moment that all clients are connected to the message that they send together."""

READY_TIMEOUT_S = 10.0


@dataclass
class Counts:
    """Connections that the clients made, and bytes that their sockets took."""

    connections: int = 0
    written: int = 0


class Attacker(asyncio.Protocol):
    """One hostile connection."""

    def __init__(self, crowd: "Crowd", ended: Callable[[], None]) -> None:
        """Do what the attack of `crowd` says; call `ended` when the connection is closed."""
        self._attack = crowd.attack
        self._counts = crowd.counts
        self._crowd = crowd
        self._ended = ended
        self._admitted = not self._attack.shakes_hands
        self._blocked = False
        self._scheduled = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the opening of the attack."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        self._counts.connections += 1
        if self._attack.opening:
            self._transport.write(self._attack.opening)
        if self._admitted:
            self._crowd.ready(self.begin)

    def data_received(self, data: bytes) -> None:
        """Read the response to the handshake, and ignore everything behind it."""
        if not self._admitted:
            self._admitted = True
            if data.startswith(b"HTTP/1.1 101"):
                self._crowd.ready(self.begin)
            else:
                self._crowd.ready(self._transport.abort)

    def pause_writing(self) -> None:
        """Stop writing until the gateway reads."""
        self._blocked = True
        if self._attack.flood and self._attack.resets:
            asyncio.get_running_loop().call_later(RESET_DELAY_S, self._reset)

    def resume_writing(self) -> None:
        """Continue the flood."""
        self._blocked = False
        if self._attack.flood and not self._scheduled:
            self._write_flood()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Count what was written, and let the crowd connect again."""
        self._counts.written -= self._transport.get_write_buffer_size()
        self._ended()

    def begin(self) -> None:
        """Begin the attack behind the handshake."""
        if self._attack.once:
            self._write(self._attack.once)
        if self._attack.flood:
            self._write_flood()
        elif self._attack.resets:
            self._reset()

    def _write_flood(self) -> None:
        self._scheduled = False
        if not (self._blocked or self._transport.is_closing()):
            self._write(self._attack.flood)
            if not self._blocked:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._write_flood)

    def _write(self, data: bytes) -> None:
        self._counts.written += len(data)
        self._transport.write(data)

    def _reset(self) -> None:
        reset(self._transport)


class Crowd:
    """All hostile connections of one process."""

    def __init__(self, attack: Attack, port: int, clients: int) -> None:
        """Attack the gateway on `port` with this number of clients."""
        self.attack = attack
        self.counts = Counts()
        self.complete = asyncio.Event()
        """Set when each client is connected or refused."""
        self._clients = clients
        self._port = port
        self._ready = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._volley: list[Callable[[], None]] = []

    def start(self) -> None:
        """Connect the clients, each again when it is closed; with a rate, new ones all the time."""
        if self.attack.rate:
            self.complete.set()
            self._run(self._keep_rate())
        for _ in range(0 if self.attack.rate else self._clients):
            self._run(self._keep_one())

    def ready(self, begin: Callable[[], None]) -> None:
        """Call `begin` for a client that is connected: at once, or together with all others."""
        self._ready += 1
        if self.attack.together and not self.complete.is_set():
            self._volley.append(begin)
        else:
            begin()
        if self._ready == self._clients:
            self.complete.set()
            for each in self._volley:
                asyncio.get_running_loop().call_later(VOLLEY_DELAY_S, each)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if (error := task.exception()) is not None:
            # A trial without its attackers would measure nothing, so it has to fail.
            print_exception(error)
            os._exit(1)

    async def _connect(self) -> None:
        """Open one connection; return when it is closed. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def end() -> None:
            if not ended.done():
                ended.set_result(None)

        await loop.create_connection(lambda: Attacker(self, end), HOST, self._port)
        await ended

    async def _keep_one(self) -> None:
        while True:
            with suppress(OSError):
                await self._connect()
            await asyncio.sleep(random.uniform(0.5, 1.5) * RECONNECT_DELAY_S)

    async def _keep_rate(self) -> None:
        begin = time.monotonic()
        made = 0
        while True:
            due = int((time.monotonic() - begin) * self.attack.rate)
            for _ in range(due - made):
                self._run(self._try_one())
            made = due
            await asyncio.sleep(0.005)

    async def _try_one(self) -> None:
        with suppress(OSError):
            await self._connect()


async def attack(kind: str, port: int, clients: int, path: str) -> None:
    """Attack until stdin ends. `path`: of the `ws_uri` of a live client."""
    chosen = KINDS[kind].attack
    target = TARGET.encode(), path.encode()
    aimed = replace(chosen, once=chosen.once.replace(*target), flood=chosen.flood.replace(*target))
    crowd = Crowd(aimed, port, clients)
    crowd.start()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(crowd.complete.wait(), READY_TIMEOUT_S)
    print("attacking", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(vars(crowd.counts)), flush=True)
    # The kernel closes the connections, of which there may be thousands.
    os._exit(0)


if __name__ == "__main__":
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    uvloop.run(attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
