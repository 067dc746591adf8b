"""Requests to a backend that is down while clients wait for it, and how soon all is delivered once it is back.

Each client has one message waiting. A backend that is down answers 503 here, so that its requests can be counted.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence

import uvloop

from benchmarks.machine import raise_descriptor_limit
from benchmarks.rig import gateway
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import OK, response, text

RECOVERY_TIMEOUT_S = 60


async def measure(clients: int, seconds: int) -> None:
    """Print requests per second while the backend is down for `seconds`, and how long the delivery takes then."""
    down_since = time.perf_counter()
    requests: Counter[int] = Counter()
    missing = clients
    delivered = asyncio.Event()

    def refused() -> None:
        requests[int(time.perf_counter() - down_since)] += 1

    def arrived() -> None:
        nonlocal missing
        missing -= 1
        if not missing:
            delivered.set()

    async with gateway(Wsaas(settings={"WS_TIMEOUT": "0"})) as rig:
        opened = await rig.connect_many(clients)
        rig.state.answer, rig.state.on_put = response(503), refused
        down_since, cpu = time.perf_counter(), rig.cpu()
        for client in opened:
            client.transport.write(text(100))
        await asyncio.sleep(seconds)
        cpu = rig.cpu() - cpu
        rig.state.answer, rig.state.on_put = OK, arrived
        up_since = time.perf_counter()
        await asyncio.wait_for(delivered.wait(), RECOVERY_TIMEOUT_S)
        took = time.perf_counter() - up_since
    rates = ", ".join(str(requests[second]) for second in range(seconds))
    print(f"{clients} clients, each with a message waiting; requests in each second of the outage: {rates}")
    print(f"CPU time of the gateway in the outage: {cpu:.2f} s; all messages delivered {took:.2f} s after its end")


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks outage", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=10, help="length of the outage")
    chosen = parser.parse_args(arguments)
    raise_descriptor_limit()
    uvloop.run(measure(chosen.clients, chosen.seconds))
