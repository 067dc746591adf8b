"""What a backend that is down gets to see of the clients that wait for it, and how fast all is well when it is back.

Each client has one message waiting. While it is down the backend answers 503 to whatever comes, so that it can count.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence

import uvloop

from benchmarks.framing import frame
from benchmarks.rig import OK, gateway

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
PATIENCE = 60


async def measure(clients: int, seconds: int) -> None:
    """Print requests per second while the backend is down for `seconds`, and how long the rest takes."""
    down_since = time.perf_counter()
    requests: Counter[int] = Counter()
    arrived = 0
    everything = asyncio.Event()

    def refused() -> None:
        requests[int(time.perf_counter() - down_since)] += 1

    def taken() -> None:
        nonlocal arrived
        arrived += 1
        if arrived == clients:
            everything.set()

    async with gateway(WS_TIMEOUT="0") as rig:
        opened = await rig.connect_many(clients, lambda _: None)
        rig.seen.answer, rig.seen.on_put = UNAVAILABLE, refused
        down_since, cpu = time.perf_counter(), rig.cpu()
        for client in opened:
            client.transport.write(frame(100))
        await asyncio.sleep(seconds)
        used = rig.cpu() - cpu
        rig.seen.answer, rig.seen.on_put = OK, taken
        back = time.perf_counter()
        await asyncio.wait_for(everything.wait(), PATIENCE)
        took = time.perf_counter() - back
    rates = ", ".join(str(requests[second]) for second in range(seconds))
    print(f"{clients} clients with a message waiting; requests in each second of the outage: {rates}")
    print(f"(CPU time of the gateway meanwhile: {used:.2f} s); all delivered {took:.2f} s after its end")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks outage", description="Requests to a backend that is down.")
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=10)
    chosen = parser.parse_args(arguments)
    uvloop.run(measure(chosen.clients, chosen.seconds))
