"""What a message costs on either path: CPU time of the gateway's process for each, over real sockets.

Clients and backend share one process, in a closed loop, so that messages per second are those of the slower side;
the CPU time per message is the gateway's alone.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import cycle
from statistics import median
from typing import cast

import uvloop

from benchmarks.framing import frame
from benchmarks.rig import HOST, Client, Rig, gateway

UNDER_WAY = 32
"""Messages under way at any time."""


class Run:
    """Counts the messages of one run; `finished` is set by the last."""

    def __init__(self, messages: int) -> None:
        """Expect `messages`."""
        self.left = messages
        self.finished = asyncio.Event()

    def count(self) -> bool:
        """One more is done; return whether the run goes on."""
        self.left -= 1
        if self.left <= 0:
            self.finished.set()
        return self.left > 0


class Pusher(asyncio.Protocol):
    """A keep-alive connection of the backend that sends the next request when the one before was answered."""

    def __init__(self, requests: Iterator[bytes], run: Run) -> None:
        """Take from `requests`."""
        self.requests = requests
        self.run = run

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        """Go on."""
        if not data.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(data)
        if self.run.count():
            self.transport.write(next(self.requests))


async def push(rig: Rig, _clients: list[Client], size: int, run: Run) -> None:
    """PUT ws_uri to client."""
    head = f"Host: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n"
    paths = [uri.partition("/")[2] for uri in rig.seen.ws_uris]
    requests = cycle([f"PUT /{path} HTTP/1.1\r\n{head}{'x' * size}".encode() for path in paths])
    for _ in range(UNDER_WAY):
        await rig.reach(lambda: Pusher(requests, run))
    await run.finished.wait()


async def message(rig: Rig, clients: list[Client], size: int, run: Run) -> None:
    """Client to PUT API_URI: each message that arrives lets the next client send one."""
    data = frame(size)
    senders = cycle(clients)

    def again() -> None:
        if run.count():
            next(senders).transport.write(data)

    rig.seen.on_put = again
    for _ in range(UNDER_WAY):
        next(senders).transport.write(data)
    await run.finished.wait()


CASES: dict[str, Callable[[Rig, list[Client], int, Run], Awaitable[None]]] = {"push": push, "message": message}


async def measure(case: str, clients: int, size: int, messages: int, *, tls: bool) -> tuple[float, float]:
    """Return the gateway's CPU time per message in microseconds, and messages per second."""
    async with gateway(tls=tls) as rig:
        opened = await rig.connect_many(clients, lambda _: None)
        await CASES[case](rig, opened, size, Run(messages // 10))
        cpu, begin = rig.cpu(), time.perf_counter()
        await CASES[case](rig, opened, size, Run(messages))
        return (rig.cpu() - cpu) / messages * 1e6, messages / (time.perf_counter() - begin)


async def repeat(clients: int, size: int, messages: int, repeats: int, *, tls: bool) -> None:
    """Print the medians of `repeats` runs, the cases in turn."""
    print("| path | CPU per message | messages per second |\n| --- | --- | --- |")
    results: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
    for _ in range(repeats):
        for case, values in results.items():
            values.append(await measure(case, clients, size, messages, tls=tls))
    for case, values in results.items():
        cpu, rate = (median(column) for column in zip(*values, strict=True))
        print(f"| {case} | {cpu:.1f} µs | {rate:.0f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks paths", description="CPU per message on either path.")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tls", action="store_true", help="clients and pushes come by TLS")
    chosen = parser.parse_args(arguments)
    uvloop.run(repeat(chosen.clients, chosen.size, chosen.messages, chosen.repeats, tls=chosen.tls))
