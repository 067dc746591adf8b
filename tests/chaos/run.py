"""What all chaos runs share: the backend, the clients, the phases, and the log that is audited in the end."""

import asyncio
import random
import shutil
import sqlite3
import ssl
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.audit import Findings, Ledger
from tests.chaos.clients import HonestClients
from tests.chaos.hostile import HostileClients
from tests.chaos.link import Address, show
from tests.support.program import Program

SETTLE_TIMEOUT_S = 45.0
"""Seconds within which all DELETEs have to be sent. Retries are up to ten seconds apart."""

SETTINGS: Mapping[str, object] = {
    "api_timeout": 1500,
    "api_retry": 3000,
    "api_connections": 64,
    "ws_timeout": 4000,
    "handshake_timeout": 4000,
    "drain_timeout": 1000,
    # Less than the flood sends to a client that does not read for a second.
    "send_buffer": 131_072,
}


class Load(NamedTuple):
    """How many clients of each kind there are at a time. `seed`: of all choices."""

    clients: int
    hostile: int
    seed: int


class UnsettledError(Exception):
    """DELETEs are still owed after the timeout; the audit lists them."""


class ChaosRun(ABC):
    """One run: the backend, the clients, and faults that are injected. `addresses`: where the gateway is now."""

    def __init__(
        self, folder: Path, load: Load, addresses: list[Address], *, ledger: Ledger, tls: ssl.SSLContext | None = None
    ) -> None:
        self.addresses = addresses
        self.chance = random.Random(load.seed)
        self.counts: Counter[str] = Counter()
        self.fan_out: Counter[str] = Counter()
        self.ledger = ledger
        self.honest = HonestClients(addresses, load.seed, tls)
        self.hostile = HostileClients(addresses, load.seed, tls)
        self._folder = folder
        self._load = load
        self._log = folder / "backend-log"
        self._read = 0

    def make_backend(self, port: int, gateways: Sequence[Address], environment: Mapping[str, str]) -> None:
        """Make the program of the backend. `gateways`: all addresses that the gateway ever has."""
        places = ",".join(map(show, gateways))
        command = [sys.executable, "-m", "tests.chaos.backend", str(port), places, str(self._log)]
        found = {"PYTHONPATH": str(Path(__file__).parents[2]), **environment}
        self.backend = Program(command, self._folder / "backend.log", found)

    async def start_backend(self) -> None:
        await self.backend.start(str(self.backend.runs + 1), str(self._load.seed))

    # What a kind of gateway does in its own way.

    @abstractmethod
    def check_up(self, fault: str) -> None:
        """Fail if a process that should run has ended by itself."""

    @abstractmethod
    async def watch(self) -> None:
        """Watch the gateway until this is cancelled."""

    @abstractmethod
    async def is_idle(self) -> bool:
        """Return whether the gateway has no connections, and remembers none."""

    # Faults.

    async def kill_backend(self) -> None:
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self.pause(0, 1)
        await self.start_backend()

    async def kill_backend_for_long(self) -> None:
        """Keep the backend down for longer than messages are retried, so that clients are closed."""
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self.pause(3.5, 4)
        await self.start_backend()

    async def pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.chance.uniform(least, most))

    # Phases.

    async def phase(self, seconds: float, *faults: Callable[[Any], Awaitable[None]]) -> None:
        """Run clients for `seconds` and inject each fault at least once; then wait until nothing is under way.

        `faults`: methods of this class.
        """
        loop = asyncio.get_running_loop()
        self.honest.start(self._load.clients)
        self.hostile.start(self._load.hostile)
        watching = asyncio.ensure_future(self.watch())
        end = loop.time() + seconds
        first = self.chance.sample(sorted(set(faults), key=faults.index), len(set(faults)))
        while first or loop.time() < end:
            await self.pause(0.2, 1.2)
            self.honest.check()
            self.hostile.check()
            if watching.done():
                watching.result()
            if not faults:
                continue
            fault = first.pop() if first else self.chance.choice(faults)
            name = getattr(fault, "__name__", "")
            self.note(name)
            await fault(self)
            self.note("done")
            self.check_up(name)
        await self.honest.stop()
        await self.hostile.stop()
        watching.cancel()
        await self.settle()

    def note(self, what: str) -> None:
        """Write what happens to a file, with the time as in the logs of gateways and of the backend."""
        with (self._folder / "faults").open("a") as file:
            file.write(f"{datetime.now(timezone.utc).time()} {time.monotonic_ns()} {what}\n")

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        # Reading the log of a long phase takes a while, so it is done before the deadline is set.
        self.read_log()
        deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT_S
        while self.read_log().unsettled or not await self.is_idle():
            if asyncio.get_running_loop().time() > deadline:
                raise UnsettledError
            await asyncio.sleep(0.1)
        # Wait for wrong repetitions.
        await asyncio.sleep(0.5)

    def read_log(self) -> Ledger:
        """Read what is new in the log of the backend."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            # Line by line, because hostile clients make the log long.
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self.ledger.read([line[:-1].decode()])
        return self.ledger


def tracebacks(*programs: Program) -> list[str]:
    """Return a violation for each program that has written a traceback."""
    outputs = (program.said() for program in programs)
    return ["a traceback: " + output[output.index("Traceback") :][:1500] for output in outputs if "Traceback" in output]


def table(run: ChaosRun, findings: Findings, more: Sequence[tuple[str, Any]] = ()) -> str:
    """Return a summary for people. `more`: further rows."""
    counts = findings.counts + run.counts
    rows = [
        ("connections", counts["lives"]),
        *[(f"  {name[5:]}", number) for name, number in sorted(counts.items()) if name.startswith("end: ")],
        ("  connects while no gateway listened", run.honest.refused_connects),
        ("messages sent by clients", counts["sent"]),
        ("  in the backend's log", counts["taken"]),
        ("  replies received", counts["replies"]),
        *[(name, number) for name, number in sorted(counts.items()) if name.startswith("pushes")],
        *[(name, run.counts[name]) for name in sorted(run.counts)],
        ("requests to the backend", counts["requests"]),
        ("  repeats, each with its ce-id", counts["repeats"]),
        ("lost, known to the client or reported", counts["messages lost, reported"]),
        ("cut off by their own client", counts["messages cut off by their client"]),
        ("lost, unreported", counts["messages lost, unreported"]),
        ("accepted POSTs", counts["accepted"]),
        ("  DELETEs, by ce-id", counts["DELETEs"]),
        ("    sent by a later gateway for a lost one", counts["DELETEs of a lost gateway"]),
        ("  DELETEs missing", counts["DELETEs missing"]),
        *sorted(run.fan_out.items()),
        ("hostile connections", sum(run.hostile.counts.values())),
        *[(f"  {name}", number) for name, number in sorted(run.hostile.counts.items())],
        ("  known to the backend", counts["hostile connections"]),
        ("  their messages, including repeats", counts["hostile messages"]),
        *more,
        ("violations", len(findings.violations)),
    ]
    return "\n".join(f"{name:48}{number:>12}" for name, number in rows)


def count(journal: Path) -> int:
    """Return the number of connections in a journal that no process has open."""
    with closing(sqlite3.connect(journal)) as connection:
        number: int = connection.execute("SELECT count(*) FROM connections").fetchone()[0]
        return number


def count_in_use(journal: Path, copy: Path) -> int:
    """Return the number of connections in a journal that a process has locked. `copy`: a file for a copy of it."""
    copy.unlink(missing_ok=True)
    for suffix in ("", "-wal"):
        shutil.copy(f"{journal}{suffix}", f"{copy}{suffix}")
    return count(copy)
