"""What a client that never reads costs all others: 100 MB are pushed to it, as fast as the gateway answers.

Beside it, one message after the other is pushed to a client that reads, and timed. The same with nobody else there,
and with the 100 MB pushed to a client that reads, tell what is due to the load and what to the slow client.
"""

import asyncio
import socket
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from statistics import quantiles
from typing import cast

import uvloop

from benchmarks.rig import HOST, Rig, gateway

PIECE = 16 * 1024
PAUSE = 0.002
MEBIBYTE = 1 << 20


class Pusher(asyncio.Protocol):
    """A backend's connection to the REST surface, with one request on it at a time. `status`: of the last answer."""

    def __init__(self) -> None:
        """Be ready for the first request."""
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take an answer; each arrives whole."""
        if self._answered is not None:
            self._answered.set_result(data[9:12])

    async def push(self, ws_uri: str, body: bytes) -> bytes:
        """Push `body`; return the status."""
        self._answered = asyncio.get_running_loop().create_future()
        target = ws_uri.partition("/")[2]
        head = f"PUT /{target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)
        return await self._answered


async def pusher(rig: Rig) -> Pusher:
    """Open a connection to the REST surface."""
    _, protocol = await asyncio.get_running_loop().create_connection(Pusher, HOST, rig.port)
    return protocol


async def flood(rig: Rig, ws_uri: str, size: int) -> tuple[Counter[bytes], int]:
    """Push `size` bytes; return how often each status was answered, and the most memory that the gateway had."""
    link = await pusher(rig)
    statuses: Counter[bytes] = Counter()
    most = 0
    for number in range(size // PIECE):
        statuses[await link.push(ws_uri, b"x" * PIECE)] += 1
        if number % 100 == 0:
            most = max(most, rig.memory())
    return statuses, most


class Calm:
    """A client that reads, and a backend that pushes to it now and then. `latencies`: seconds from PUT to frame."""

    def __init__(self) -> None:
        """Start without any."""
        self.latencies: list[float] = []
        self._arrived = asyncio.Event()

    def arrived(self, _data: bytes) -> None:
        """A message came."""
        self._arrived.set()

    async def talk(self, rig: Rig, ws_uri: str) -> None:
        """Push until cancelled."""
        link = await pusher(rig)
        while True:
            self._arrived.clear()
            start = time.perf_counter()
            answered = asyncio.ensure_future(link.push(ws_uri, b"hello"))
            await self._arrived.wait()
            self.latencies.append(time.perf_counter() - start)
            await answered
            await asyncio.sleep(PAUSE)


async def measure(size: int) -> None:
    """Print how the calm client fares in each of the three cases."""
    async with gateway(WS_TIMEOUT="0") as rig:
        calm = Calm()
        await rig.connect(calm.arrived)
        busy = await rig.connect(lambda _: None)
        lazy = await rig.connect(lambda _: None)
        lazy.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.transport.pause_reading()
        calm_uri, busy_uri, lazy_uri = rig.seen.ws_uris
        before = rig.memory()
        for name, uri in (("nobody else", ""), ("a client that reads", busy_uri), ("one that never reads", lazy_uri)):
            calm.latencies = []
            talking = asyncio.ensure_future(calm.talk(rig, calm_uri))
            statuses, most = await flood(rig, uri, size) if uri else (Counter[bytes](), rig.memory())
            if not uri:
                await asyncio.sleep(2)
            talking.cancel()
            cuts = quantiles(calm.latencies, n=100)
            answers = ", ".join(f"{count} x {status.decode()}" for status, count in sorted(statuses.items())) or "none"
            print(
                f"{name:>20}: p50 {cuts[49] * 1e6:.0f} us, p99 {cuts[98] * 1e6:.0f} us of {len(calm.latencies)}; "
                f"memory {(most - before) / MEBIBYTE:+.1f} MiB; answers: {answers}"
            )
        busy.transport.close()
        lazy.transport.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks slow", description="A client that never reads, and the others.")
    parser.add_argument("--megabytes", type=int, default=100)
    chosen = parser.parse_args(arguments)
    uvloop.run(measure(chosen.megabytes * 1_000_000))
