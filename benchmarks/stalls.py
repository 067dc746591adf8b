"""What connections that send half a handshake and stall cost all others, and how soon they are gone."""

import asyncio
import ssl
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from statistics import quantiles
from typing import cast

import uvloop

from benchmarks.rig import AT_ONCE, HANDSHAKE, HOST, Rig, gateway

HALF = HANDSHAKE[: len(HANDSHAKE) // 2]
PATIENCE = 120
ROUNDS = 200
MEBIBYTE = 1 << 20


class Stalled(asyncio.Protocol):
    """Sends `half` a handshake, and nothing more. `left`: how many there are; `gone`: whether there are none."""

    left = 0
    gone = asyncio.Event()

    def __init__(self, half: bytes) -> None:
        """Know what to send."""
        self._half = half

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send half."""
        Stalled.left += 1
        Stalled.gone.clear()
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._half)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The gateway had enough."""
        Stalled.left -= 1
        if not Stalled.left:
            Stalled.gone.set()


async def stall(rig: Rig, number: int) -> float:
    """Open `number` connections; return how many seconds that took."""
    loop = asyncio.get_running_loop()
    half = HALF if rig.tls is None else client_hello(rig.tls)
    start = time.perf_counter()
    for first in range(0, number, AT_ONCE):
        some = min(AT_ONCE, number - first)
        await asyncio.gather(*(loop.create_connection(lambda: Stalled(half), HOST, rig.port) for _ in range(some)))
    return time.perf_counter() - start


def client_hello(context: ssl.SSLContext) -> bytes:
    """Return what a client of TLS says first, which is what the gateway has the most work with."""
    outgoing = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=HOST).do_handshake()
    return outgoing.read()


async def come_and_go(rig: Rig) -> list[float]:
    """Return the seconds from connecting to the 101 of `ROUNDS` honest clients, one after the other."""
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        client = await rig.connect(lambda _: None)
        took.append(time.perf_counter() - start)
        client.transport.close()
    return took


def tell(when: str, took: Sequence[float]) -> None:
    """Print how honest clients fared."""
    cuts = quantiles(took, n=100)
    print(f"an honest client's handshake {when}: p50 {cuts[49] * 1e6:.0f} us, p99 {cuts[98] * 1e6:.0f} us")


async def all_gone() -> float:
    """Return how many seconds it takes until the last is gone."""
    start = time.perf_counter()
    await asyncio.wait_for(Stalled.gone.wait(), PATIENCE)
    return time.perf_counter() - start


async def measure(number: int, timeout: int, *, tls: bool) -> None:
    """Print what the stalled ones do to an honest one, and when they are gone; twice, as memory is used again."""
    async with gateway(tls=tls, HANDSHAKE_TIMEOUT=str(timeout)) as rig:
        await come_and_go(rig)
        tell("before", await come_and_go(rig))
        before = rig.memory()
        for _ in range(2):
            took = await stall(rig, number)
            tell(f"beside {number} that stall", await come_and_go(rig))
            there, most = Stalled.left, rig.memory()
            last = await all_gone()
            print(f"{number} opened in {took:.1f} s; {there} still there after the honest ones")
            print(f"none left {last:.1f} s later, with HANDSHAKE_TIMEOUT={timeout}")
            print(f"memory {(most - before) / MEBIBYTE:+.1f} MiB, {(rig.memory() - before) / MEBIBYTE:+.1f} in the end")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks stalls", description="Connections that send half a handshake.")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--timeout", type=int, default=10_000, help="HANDSHAKE_TIMEOUT in milliseconds")
    parser.add_argument("--tls", action="store_true", help="they stall in the handshake of TLS")
    chosen = parser.parse_args(arguments)
    uvloop.run(measure(chosen.connections, chosen.timeout, tls=chosen.tls))
