"""What connections that send half a handshake and stall cost healthy clients, and how soon they are closed."""

import asyncio
import ssl
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from statistics import quantiles
from typing import cast

import uvloop

from benchmarks.machine import raise_descriptor_limit
from benchmarks.report import MEBIBYTE
from benchmarks.rig import AT_ONCE, Rig, gateway
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import HANDSHAKE, HOST

HALF = HANDSHAKE[: len(HANDSHAKE) // 2]
CLOSED_TIMEOUT_S = 120
HEALTHY_CLIENTS = 200


class Stalling(asyncio.Protocol):
    """A connection that sends the start of a handshake and nothing more."""

    open = 0
    """Number of connections of this class that are open."""
    all_closed = asyncio.Event()

    def __init__(self, half: bytes) -> None:
        """Be ready to send `half` a handshake."""
        self._half = half

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send it."""
        Stalling.open += 1
        Stalling.all_closed.clear()
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._half)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that the gateway closed it."""
        Stalling.open -= 1
        if not Stalling.open:
            Stalling.all_closed.set()


async def stall(rig: Rig, number: int) -> float:
    """Open `number` connections that stall; return how many seconds that took."""
    loop = asyncio.get_running_loop()
    half = HALF if rig.tls is None else client_hello(rig.tls)
    start = time.perf_counter()
    for first in range(0, number, AT_ONCE):
        some = min(AT_ONCE, number - first)
        await asyncio.gather(*(loop.create_connection(lambda: Stalling(half), HOST, rig.port) for _ in range(some)))
    return time.perf_counter() - start


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return the ClientHello of a TLS handshake, which costs the gateway the most work of all its messages."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


async def connect_healthy(rig: Rig) -> list[float]:
    """Connect healthy clients one after the other; return the seconds from connecting to the 101 of each."""
    took = []
    for _ in range(HEALTHY_CLIENTS):
        start = time.perf_counter()
        client = await rig.connect()
        took.append(time.perf_counter() - start)
        client.transport.close()
    return took


def show(situation: str, took: Sequence[float]) -> None:
    """Print the latencies of the handshakes of healthy clients."""
    cuts = quantiles(took, n=100)
    print(f"handshake of a healthy client {situation}: p50 {cuts[49] * 1e6:.0f} us, p99 {cuts[98] * 1e6:.0f} us")


async def measure(number: int, timeout: int, *, tls: bool) -> None:
    """Measure twice, because the gateway uses the memory of the first time again."""
    async with gateway(Wsaas(settings={"HANDSHAKE_TIMEOUT": str(timeout)}), tls=tls) as rig:
        await connect_healthy(rig)
        show("alone", await connect_healthy(rig))
        before = rig.memory()
        for _ in range(2):
            took = await stall(rig, number)
            show(f"beside {number} that stall", await connect_healthy(rig))
            still_open, most = Stalling.open, rig.memory()
            start = time.perf_counter()
            await asyncio.wait_for(Stalling.all_closed.wait(), CLOSED_TIMEOUT_S)
            last = time.perf_counter() - start
            print(f"{number} opened in {took:.1f} s; {still_open} still open after the healthy clients")
            print(f"the last one closed {last:.1f} s later, with HANDSHAKE_TIMEOUT={timeout}")
            print(f"memory {(most - before) / MEBIBYTE:+.1f} MiB, then {(rig.memory() - before) / MEBIBYTE:+.1f} MiB")


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks stalls", description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--timeout", type=int, default=10_000, help="HANDSHAKE_TIMEOUT in milliseconds")
    parser.add_argument("--tls", action="store_true", help="they stall in the TLS handshake")
    chosen = parser.parse_args(arguments)
    raise_descriptor_limit()
    uvloop.run(measure(chosen.connections, chosen.timeout, tls=chosen.tls))
