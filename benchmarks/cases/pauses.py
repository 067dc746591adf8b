"""How long the event loop is ever blocked with many clients, on a whole gateway without sockets.

Clients connect, disconnect, send and receive messages and answer pings; clients are listed and counted, and each second
a message is published to all of them: with `--group`, as the members of one group. Meanwhile a timer that is due each
millisecond measures how late it is: everything else waited for that long. Before that, it measures how late it is when
the loop has nothing else to do: such pauses are those of the machine. There are no sockets because a process may not
have enough descriptors for as many clients.
"""

import asyncio
import gc
import random
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.in_process.gateway import InProcessGateway, Loop, MemoryTransport, descriptors, start
from benchmarks.report import markdown
from benchmarks.targets import add_checkouts_option
from benchmarks.wire import JSON, NO_CONTENT, OK, PONG, close, frame, push, request, response, text

TICK_S = 0.001
"""Between two looks at the clock."""

MAX_IDLE_S = 10.0
"""How long the idle loop is measured at most."""

SETTLING_S = 0.5
"""Seconds after all clients have connected, to free what only their connects needed."""

BUCKETS_MS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, float("inf"))
"""Upper bounds of the buckets in which pauses are counted."""

PING_BYTES = b"\x89\x00"
MESSAGE, PONG_FRAME, CLOSE_FRAME = text(128), frame(opcode=PONG), close()
IN_GROUP = response(200, JSON, b'{"code":"OK","groups":["all"]}')
SETTINGS = {"KEEP_ALIVE_TIMEOUT": "3600000", "API_CONNECTION_AGE": "0", "API_CONNECTIONS": "32"}


class PingWatch(list[bytes]):
    """What is written to a client: nothing is kept, but `pinged` is called for each ping."""

    def __init__(self, pinged: Callable[[], None]) -> None:
        """Start empty."""
        self._pinged = pinged

    def append(self, data: bytes) -> None:
        """Take `data`."""
        if data == PING_BYTES:
            self._pinged()


class Crowd:
    """The clients of a gateway, and everything that they and the backend do."""

    def __init__(self, gateway: InProcessGateway, page: int, *, in_group: bool) -> None:
        """Start without clients. `page`: how many of them a page of their list has. `in_group`: join all to a group."""
        self._accept = IN_GROUP if in_group else OK
        self._gateway = gateway
        self._page = page
        self._path = "/groups/all" if in_group else "/connections"
        self._api = gateway.accept()
        self._publisher = gateway.accept()
        self._clients: deque[tuple[MemoryTransport, str]] = deque()
        self._pinged: deque[MemoryTransport] = deque()

    async def connect(self) -> None:
        """Connect a client."""
        client, path = await self._gateway.connect(accept=self._accept)
        client.written = PingWatch(lambda: self._pinged.append(client))
        self._clients.append((client, path))

    async def disconnect(self) -> None:
        """Disconnect the client that connected first."""
        client, _ = self._clients.popleft()
        self._gateway.disconnect(client, CLOSE_FRAME)

    async def send(self) -> None:
        """Let any client send a message."""
        client, _ = random.choice(self._clients)
        client.receive(MESSAGE)
        self._gateway.answer(NO_CONTENT)

    async def push(self) -> None:
        """Push a message to any client."""
        _, path = random.choice(self._clients)
        self._call(push(path, 128))

    async def pong(self) -> None:
        """Let one client answer its ping."""
        if self._pinged:
            self._pinged.popleft().receive(PONG_FRAME)

    async def list(self) -> None:
        """Read a page of the list of clients, behind any client."""
        _, path = random.choice(self._clients)
        prefix = path.rpartition("/")[2][:8]
        after = f"{prefix}{random.randrange(1, len(self._clients))}"
        self._call(request("GET", f"{self._path}?after={after}&limit={self._page}"))

    async def publish(self) -> None:
        """Publish a message to all clients, behind the publishes that are not answered yet."""
        self._publisher.written.clear()
        self._publisher.receive(push(self._path, 128))

    async def count(self) -> None:
        """Ask for the number of clients."""
        self._call(request("HEAD", self._path))

    def _call(self, data: bytes) -> None:
        self._api.receive(data)
        self._api.written.clear()


class TickMeter:
    """Measures by how much each of its ticks is late. `late`: milliseconds, one for each tick.

    `busy`: how much of that the thread itself may have used, by its CPU time. The rest is the machine: other programs,
    or a hypervisor that took the processor away.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start."""
        self._loop = loop
        self.busy: list[float] = []
        self.late: list[float] = []
        self._used = time.thread_time()
        self._due = loop.time() + TICK_S
        self._timer = loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        """Stop."""
        self._timer.cancel()

    def _tick(self) -> None:
        now, used = time.monotonic(), time.thread_time()
        late = max(0.0, now - self._due)
        self.late.append(1000 * late)
        self.busy.append(1000 * min(late, used - self._used))
        self._used = used
        self._due = now + TICK_S
        self._timer = self._loop.call_at(self._due, self._tick)


class CollectionMeter:
    """Measures the garbage collections. `longest`: milliseconds, by generation."""

    def __init__(self) -> None:
        """Start."""
        self.longest: dict[str, float] = {}
        self._begin = 0.0
        gc.callbacks.append(self._observe)

    def stop(self) -> None:
        """Stop."""
        gc.callbacks.remove(self._observe)

    def _observe(self, phase: str, information: dict[str, int]) -> None:
        if phase == "start":
            self._begin = time.perf_counter()
            return
        name = f"generation {information['generation']}"
        self.longest[name] = max(self.longest.get(name, 0.0), 1000 * (time.perf_counter() - self._begin))


async def act(crowd: Crowd, seconds: float) -> None:
    """Let everything happen for `seconds`."""
    rates: dict[Callable[[], Awaitable[None]], float] = {
        crowd.send: 2000,
        crowd.push: 2000,
        crowd.connect: 200,
        crowd.disconnect: 200,
        crowd.pong: 20_000,
        crowd.list: 1,
        crowd.count: 1,
        crowd.publish: 1,
    }
    # Not all in the same turn of the loop, once per second.
    early: dict[Callable[[], Awaitable[None]], float] = {crowd.list: 1 / 3, crowd.count: 2 / 3}
    done: Counter[Callable[[], Awaitable[None]]] = Counter()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while (elapsed := loop.time() - begin) < seconds:
        for action, rate in rates.items():
            # Only a few at once: more of them would be a pause themselves.
            for _ in range(min(max(8, int(rate * TICK_S)), int(elapsed * rate + early.get(action, 0)) - done[action])):
                await action()
                done[action] += 1
        await asyncio.sleep(0.0005)


async def measure_idle(loop: Loop, seconds: float) -> TickMeter:
    """Return how late the ticks of an idle loop are."""
    ticks = TickMeter(loop)
    await asyncio.sleep(seconds)
    ticks.stop()
    return ticks


async def measure(loop: Loop, chosen: Namespace) -> tuple[TickMeter, dict[str, float]]:
    """Return how late the ticks were, and the longest collection (ms) of each generation."""
    clients = chosen.clients
    limit = str(2 * clients)
    with descriptors(4 * clients + 1000):
        gateway = await start(loop, time.perf_counter, MAX_CONNECTIONS=limit, **SETTINGS)
    from wsaas.memory.gc_scheduler import stop_full_collections  # noqa: PLC0415 - of the target, now on the path

    crowd = Crowd(gateway, chosen.page, in_group=chosen.group)
    for number in range(clients):
        await crowd.connect()
        if number % 100 == 0:
            await asyncio.sleep(0)
    if not chosen.plain:
        stop_full_collections()
    await asyncio.sleep(SETTLING_S)
    collections, ticks = CollectionMeter(), TickMeter(loop)
    await act(crowd, chosen.seconds)
    ticks.stop()
    collections.stop()
    return ticks, collections.longest


def table(late: Sequence[float], busy: Sequence[float]) -> str:
    """Return the histograms as a Markdown table."""
    rows = []
    below = used = 0
    for bound in BUCKETS_MS:
        count, own = (sum(each <= bound for each in times) for times in (late, busy))
        if count > below or own > used:
            name = f"{bound:g} ms" if bound < BUCKETS_MS[-1] else "more"
            rows.append([name, f"{count - below:,}", f"{(count - below) / len(late):.4%}", f"{own - used:,}"])
        below, used = count, own
    return markdown(["late by up to", "ticks", "share", "of its own"], rows)


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks pauses", description=__doc__)
    parser.add_argument("--clients", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--page", type=int, default=100, help="clients of each page of the list (default: %(default)s)")
    parser.add_argument("--group", action="store_true", help="list and publish to one group, with all clients")
    add_checkouts_option(parser)
    parser.add_argument("--plain", action="store_true", help="leave the garbage collector as Python sets it up")
    chosen = parser.parse_args(arguments)
    if len(chosen.targets) > 1:
        parser.error("this case measures one target at a time, in its own process")
    sys.path.insert(0, str(chosen.targets[0].checkout))
    loop = Loop()
    asyncio.set_event_loop(loop)
    idle_seconds = min(MAX_IDLE_S, chosen.seconds)
    idle = loop.run_until_complete(measure_idle(loop, idle_seconds))
    ticks, collections = loop.run_until_complete(measure(loop, chosen))
    print(
        f"{chosen.clients:,} clients without sockets, {chosen.seconds:g} s, longest pause {max(ticks.late):.1f} ms, "
        f"longest of its own {max(ticks.busy):.1f} ms; longest pause of the idle loop before that, {idle_seconds:g} s: "
        f"{max(idle.late):.1f} ms\n"
    )
    print(table(ticks.late, ticks.busy))
    for name, longest in sorted(collections.items()):
        print(f"\nlongest collection of {name}: {longest:.1f} ms")
