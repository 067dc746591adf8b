"""What a client that comes and goes costs, with its POST and its DELETE: CPU time of the gateway's process.

Without a journal, with one, and with one that waits for the disk, in turn, in one run.
"""

import asyncio
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import uvloop

from benchmarks.rig import Rig, gateway

UNDER_WAY = 32
"""Clients that come and go at a time."""

CLOSE = b"\x88\x80\x00\x00\x00\x00"


async def come_and_go(rig: Rig, times: int) -> None:
    """Connect and close `times` clients, one after the other."""
    for _ in range(times):
        client = await rig.connect(lambda _: None)
        client.transport.write(CLOSE)
        client.transport.close()


async def measure(clients: int, settings: dict[str, str]) -> tuple[float, float]:
    """Return the CPU time per client in microseconds, and clients per second."""
    async with gateway(tls=False, **settings) as rig:
        await asyncio.gather(*(come_and_go(rig, 10) for _ in range(UNDER_WAY)))
        cpu, begin = rig.cpu(), time.perf_counter()
        await asyncio.gather(*(come_and_go(rig, clients // UNDER_WAY) for _ in range(UNDER_WAY)))
        return (rig.cpu() - cpu) / clients * 1e6, clients / (time.perf_counter() - begin)


async def repeat(clients: int, repeats: int) -> None:
    """Print the medians of `repeats` runs, the cases in turn."""
    with TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal")
        cases = {
            "no journal": {},
            "`JOURNAL`": {"JOURNAL": journal},
            "`JOURNAL`, `JOURNAL_SYNC=full`": {"JOURNAL": journal, "JOURNAL_SYNC": "full"},
        }
        results: dict[str, list[tuple[float, float]]] = {case: [] for case in cases}
        for _ in range(repeats):
            for case, settings in cases.items():
                results[case].append(await measure(clients, settings))
    print("| | CPU per client | clients per second |\n| --- | --- | --- |")
    for case, values in results.items():
        cpu, rate = (median(column) for column in zip(*values, strict=True))
        print(f"| {case} | {cpu:.0f} µs | {rate:.0f} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    parser = ArgumentParser(prog="python -m benchmarks connects", description="CPU per client that comes and goes.")
    parser.add_argument("--clients", type=int, default=6400)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args(arguments)
    uvloop.run(repeat(chosen.clients, chosen.repeats))
