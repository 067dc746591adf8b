"""The objects of an idle client: what each line of the gateway allocates for a client and keeps.

The clients have no sockets, so the objects of the event loop are missing: they are the difference to `idle`. Sizes are
those of Python's allocator, in steps of 16 bytes.
"""

import linecache
import tracemalloc
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.in_process.gateway import InProcessGateway, Loop, descriptors, start
from benchmarks.report import markdown
from benchmarks.wire import NO_CONTENT, text
from wsaas import __file__ as package

STEP = 16
"""Sizes of Python's allocator are multiples of this."""

LEAST = 1.0
"""Bytes for each client below which a line is left out."""

Line = tuple[str, int]


def kept() -> "Counter[Line]":
    """Return the bytes that each line of the gateway has allocated and keeps."""
    found: Counter[Line] = Counter()
    for trace in tracemalloc.take_snapshot().traces:
        frame = trace.traceback[-1]
        found[frame.filename, frame.lineno] += -(-trace.size // STEP) * STEP
    return found


async def add_clients(gateway: InProcessGateway, number: int, *, talk: bool) -> None:
    """Connect `number` clients that stay, and let each send a message if they `talk`."""
    for _ in range(number):
        client, _ = await gateway.connect()
        if talk:
            client.receive(text(16))
            gateway.answer(NO_CONTENT)


async def measure(loop: Loop, clients: int, *, talk: bool) -> "Counter[Line]":
    """Return the bytes of each line for `clients` clients."""
    gateway = await start(loop, WS_TIMEOUT="0")
    await add_clients(gateway, 100, talk=talk)
    before = kept()
    await add_clients(gateway, clients, talk=talk)
    return kept() - before


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks objects", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    parser.add_argument("--talk", action="store_true", help="each client first sends a short message")
    chosen = parser.parse_args(arguments)
    loop = Loop()
    tracemalloc.start()
    with descriptors(2 * chosen.clients + 1000):
        found = loop.run_until_complete(measure(loop, chosen.clients, talk=chosen.talk))
    folder = Path(package).parent
    own = {line: size / chosen.clients for line, size in found.most_common() if Path(line[0]).is_relative_to(folder)}
    rows = [
        [f"{size:.0f}", f"{Path(file).relative_to(folder)}:{number}", f"`{linecache.getline(file, number).strip()}`"]
        for (file, number), size in own.items()
        if size >= LEAST
    ]
    print(markdown(["bytes", "allocated in", "line"], [*rows, [f"{sum(own.values()):.0f}", "all of it", ""]]))
