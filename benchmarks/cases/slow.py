"""What a client that never reads costs a healthy one, while the backend pushes 100 MB to it.

Meanwhile one message after the other is pushed to the healthy client, and timed. The same is measured without the
pushes, and with 100 MB to a client that reads: the difference is what the slow client itself costs.
"""

import asyncio
import socket
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from statistics import quantiles

import uvloop

from benchmarks.report import MEBIBYTE
from benchmarks.rig import Caller, Rig, gateway
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import path_of, push

PUSH_SIZE = 16 * 1024
PAUSE_S = 0.002
"""Between two pushes to the healthy client."""

ALONE_S = 2
"""How long the healthy client is measured without other pushes."""


async def flood(rig: Rig, ws_uri: str, size: int) -> tuple[Counter[str], int]:
    """Push `size` bytes; return how often each status was answered, and the most memory that the gateway had."""
    caller = await rig.reach(Caller)
    request = push(path_of(ws_uri), PUSH_SIZE)
    statuses: Counter[str] = Counter()
    most = 0
    for number in range(size // PUSH_SIZE):
        response = await caller.call(request)
        statuses[response[9:12].decode()] += 1
        if number % 100 == 0:
            most = max(most, rig.memory())
    return statuses, most


class HealthyClient:
    """A client that reads, and pushes to it. `latencies`: seconds from sending the PUT to receiving the frame."""

    def __init__(self) -> None:
        """Start without any."""
        self.latencies: list[float] = []
        self._arrived = asyncio.Event()

    def received(self, _data: bytes) -> None:
        """Note that a message arrived."""
        self._arrived.set()

    async def push(self, rig: Rig, ws_uri: str) -> None:
        """Push until cancelled."""
        caller = await rig.reach(Caller)
        request = push(path_of(ws_uri), 5)
        while True:
            self._arrived.clear()
            start = time.perf_counter()
            response = asyncio.ensure_future(caller.call(request))
            await self._arrived.wait()
            self.latencies.append(time.perf_counter() - start)
            await response
            await asyncio.sleep(PAUSE_S)


async def measure(size: int) -> None:
    """Print the latencies of the healthy client in each of the three situations."""
    async with gateway(Wsaas(settings={"WS_TIMEOUT": "0"})) as rig:
        healthy = HealthyClient()
        await rig.connect(healthy.received)
        reading = await rig.connect()
        slow = await rig.connect()
        slow.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.transport.pause_reading()
        healthy_uri, reading_uri, slow_uri = rig.state.ws_uris
        before = rig.memory()
        situations = {"no other pushes": "", "a client that reads": reading_uri, "one that never reads": slow_uri}
        for name, uri in situations.items():
            healthy.latencies = []
            pushing = asyncio.ensure_future(healthy.push(rig, healthy_uri))
            statuses, most = Counter[str](), before
            if uri:
                statuses, most = await flood(rig, uri, size)
            else:
                await asyncio.sleep(ALONE_S)
            pushing.cancel()
            cuts = quantiles(healthy.latencies, n=100)
            answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())) or "none"
            print(
                f"{name:>20}: p50 {cuts[49] * 1e6:.0f} us, p99 {cuts[98] * 1e6:.0f} us "
                f"of {len(healthy.latencies)} pushes; "
                f"memory {(most - before) / MEBIBYTE:+.1f} MiB; answers to the other pushes: {answers}"
            )
        reading.transport.close()
        slow.transport.close()


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks slow", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100)
    chosen = parser.parse_args(arguments)
    uvloop.run(measure(chosen.megabytes * 1_000_000))
