"""CPU time of the gateway's process for a message on either path, over real sockets and optionally TLS.

Clients and backend share this process, in a closed loop. So messages per second are those of the slower side, but the
CPU time per message is the gateway's alone.
"""

import asyncio
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import cycle

from benchmarks.report import markdown, medians
from benchmarks.rig import Caller, Client, Rig, gateway, loops_in_turn
from benchmarks.targets import add_checkouts_option
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import path_of, push, text

UNDER_WAY = 32
"""Messages under way at any time."""


async def run_push(rig: Rig, _clients: list[Client], size: int, messages: int) -> None:
    """PUT ws_uri to client: `UNDER_WAY` connections of the backend, each with one request at a time."""
    requests = cycle([push(path_of(uri), size) for uri in rig.state.ws_uris])

    async def keep_pushing(times: int) -> None:
        caller = await rig.reach(Caller)
        for _ in range(times):
            response = await caller.call(next(requests))
            if not response.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(f"a push was answered {response[:60]!r}")

    await asyncio.gather(*(keep_pushing(messages // UNDER_WAY) for _ in range(UNDER_WAY)))


async def run_message(rig: Rig, clients: list[Client], size: int, messages: int) -> None:
    """Client to PUT API_URI: each message that arrives lets the next client send one."""
    data = text(size)
    senders = cycle(clients)
    missing = messages
    finished = asyncio.Event()

    def arrived() -> None:
        nonlocal missing
        missing -= 1
        if missing > 0:
            next(senders).transport.write(data)
        else:
            finished.set()

    rig.state.on_put = arrived
    for _ in range(UNDER_WAY):
        next(senders).transport.write(data)
    await finished.wait()


PATHS: dict[str, Callable[[Rig, list[Client], int, int], Awaitable[None]]] = {
    "push": run_push,
    "message": run_message,
}


async def measure(path: str, target: Wsaas, chosen: Namespace) -> tuple[float, float]:
    """Return the gateway's CPU time per message in microseconds, and messages per second."""
    async with gateway(Wsaas(target.checkout), tls=chosen.tls) as rig:
        clients = await rig.connect_many(chosen.clients)
        await PATHS[path](rig, clients, chosen.size, chosen.messages // 10)
        cpu, begin = rig.cpu(), time.perf_counter()
        await PATHS[path](rig, clients, chosen.size, chosen.messages)
        return (rig.cpu() - cpu) / chosen.messages * 1e6, chosen.messages / (time.perf_counter() - begin)


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks paths", description=__doc__)
    add_checkouts_option(parser)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128, help="bytes of a message")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tls", action="store_true", help="clients and backend connect over TLS")
    chosen = parser.parse_args(arguments)
    runs = {(path, target.name): partial(measure, path, target, chosen) for path in PATHS for target in chosen.targets}
    results = loops_in_turn(runs, chosen.repeats)
    rows = []
    for names, values in results.items():
        cpu, rate = medians(values)
        rows.append([*names, f"{cpu:.1f} µs", f"{rate:.0f}"])
    print(markdown(["path", "target", "CPU per message", "messages per second"], rows))
