"""Hundreds of clients send and receive while backend and gateway are killed and restarted; then the books are audited.

There are three phases, each of which ends when its clients are gone and all DELETEs were sent. In the first, both are
killed, in all ways. In the second and third the backend alone is killed: the difference between the gateway's memory
after the second and after the third is what it never gives back.
"""

import asyncio
import json
import random
import shutil
import sqlite3
import ssl
import sys
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.audit import Findings, Ledger, audit
from tests.chaos.clients import HonestClients
from tests.chaos.hostile import HostileClients
from tests.support.certificate_authority import CertificateAuthority
from tests.support.ports import port_for_restarts
from tests.support.program import Program, gateway_program, has_flag

SETTLE_TIMEOUT_S = 45.0
"""Seconds in which all DELETEs have to be sent: retries are up to ten seconds apart."""

MAX_GROWTH_BYTES = 5 * 1024 * 1024
"""Bytes by which the gateway may grow between two moments without clients. It has its level after some thousands of
connections and keeps it, give or take 2 MiB: Python's arenas of which a part is used, the C library's heap, the page
cache of the journal (2 MiB). The second phase brings it to that level: the third shows what is kept for good."""

PHASES = (0.5, 0.25, 0.25)
"""Shares of the time."""

WARM_UP_S = 12
"""Seconds of the second phase at least: in these the gateway gets about all the memory that it will need."""

SETTINGS = {
    "api_timeout": 1500,
    "api_retry": 3000,
    "api_connections": 64,
    "ws_timeout": 4000,
    "handshake_timeout": 4000,
    "drain_timeout": 1000,
}


MAX_MEMORY = 64 * 1024 * 1024
"""Bytes that the gateway may take, where it has such a setting."""

MEMORY_SLACK = 1.1
"""Share of that which it may have resident at its most: it acts when it notices."""

ANSWER_TIMEOUT_S = 10
"""Seconds for the gateway to say who is connected."""

SAMPLE_INTERVAL_S = 0.1
"""Seconds between two looks at the gateway's memory, and at who is connected."""


class UnsettledError(Exception):
    """Something is still owed after the timeout: the audit says what."""


class ChaosRun:
    """One run: the gateway, the backend, their clients, and the faults that are injected."""

    def __init__(self, folder: Path, clients: int, hostile: int, seed: int, *, tls: bool) -> None:
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.ledger = Ledger()
        self.peak = 0
        self._clients = clients
        self._hostile = hostile
        self._folder = folder
        self._seed = seed
        gateway, backend = port_for_restarts(), port_for_restarts()
        self._port = gateway
        self._books = folder / "books"
        self._read = 0
        self.journal = folder / "journal"
        script = str(Path(__file__).with_name("backend.py"))
        command = [sys.executable, script, str(backend), str(gateway), str(self._books)]
        self._tls: ssl.SSLContext | None = None
        settings: dict[str, object] = {**SETTINGS, "journal": self.journal}
        environment = {}
        if tls:
            authority = CertificateAuthority(folder)
            settings |= authority.issue()
            self._tls = authority.client()
            environment["CHAOS_CA"] = str(authority.path)
        self.is_bounded = has_flag("--max-memory")
        if self.is_bounded:
            settings["max_memory"] = MAX_MEMORY
        self.backend = Program(command, folder / "backend.log", environment)
        self.gateway = gateway_program(f"127.0.0.1:{backend}/hook", gateway, folder / "gateway.log", settings)
        self.honest = HonestClients(gateway, seed, self._tls)
        self.hostile = HostileClients(gateway, seed, self._tls)

    async def start_backend(self) -> None:
        await self.backend.start(str(self.backend.runs + 1), str(self._seed))

    # Faults.

    async def kill_backend(self) -> None:
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self._pause(0, 1)
        await self.start_backend()

    async def kill_backend_for_long(self) -> None:
        """Leave it dead for longer than messages are retried: then clients have to be told."""
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self._pause(3.5, 4)
        await self.start_backend()

    async def kill_gateway(self) -> None:
        self.counts["kills of the gateway"] += 1
        self.gateway.kill()
        await self._pause(0, 0.3)
        await self.gateway.start()
        while self.chance.random() < 0.3:
            # Again, while it tells of those it lost before.
            self.counts["kills of the gateway"] += 1
            await self._pause(0, 0.1)
            self.gateway.kill()
            await self.gateway.start()

    async def stop_gateway(self) -> None:
        self.counts["stops of the gateway"] += 1
        self.gateway.terminate()
        if self.chance.random() < 0.3:
            self.counts["kills of the gateway"] += 1
            await self._pause(0, 1)
            self.gateway.kill()
        else:
            status = await self.gateway.wait()
            assert status in (0, 1), f"a stop ended with {status}"
        await self.gateway.start()

    async def kill_both(self) -> None:
        """Let clients talk, and go, while the backend is dead, then end the gateway too: it has much to remember."""
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self._pause(0, 1)
        await self.chance.choice((ChaosRun.kill_gateway, ChaosRun.stop_gateway))(self)
        await self._pause(0, 0.5)
        await self.start_backend()

    async def _pause(self, least: float, most: float) -> None:
        await asyncio.sleep(self.chance.uniform(least, most))

    # Acts.

    async def phase(self, seconds: float, *faults: "Callable[[ChaosRun], Awaitable[None]]") -> None:
        """Let clients come for a while, and faults happen, each at least once; then wait until all is at rest."""
        loop = asyncio.get_running_loop()
        self.honest.start(self._clients)
        self.hostile.start(self._hostile)
        watching = asyncio.ensure_future(self._watch())
        end = loop.time() + seconds
        first = self.chance.sample(sorted(set(faults), key=lambda fault: fault.__name__), len(set(faults)))
        while first or loop.time() < end:
            await self._pause(0.2, 1.2)
            self.honest.check()
            self.hostile.check()
            if watching.done():
                watching.result()
            fault = first.pop() if first else self.chance.choice(faults)
            await fault(self)
        await self.honest.stop()
        await self.hostile.stop()
        watching.cancel()
        await self._rest()

    async def _watch(self) -> None:
        """Note the gateway's memory at its most, and ids of clients for those who park bodies there."""
        turns = 0
        while True:
            self.peak = max(self.peak, self.gateway.resident())
            turns += 1
            if turns % 10 == 0:
                with suppress(OSError, ValueError):
                    listed = await asyncio.to_thread(self._listed, 5)
                    self.hostile.live = [each["id"] for each in listed["connections"]]
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def _rest(self) -> None:
        # The books of a long phase are not read in a moment.
        self._read_books()
        deadline = asyncio.get_running_loop().time() + SETTLE_TIMEOUT_S
        while not await self._is_at_rest():
            if asyncio.get_running_loop().time() > deadline:
                raise UnsettledError
            await asyncio.sleep(0.1)
        # For what repeats though it should not.
        await asyncio.sleep(0.5)

    async def _is_at_rest(self) -> bool:
        """Return whether the backend is owed nothing, nobody is connected, and the journal is empty."""
        if self._read_books().unsettled:
            return False
        return not (await asyncio.to_thread(self._connected) or self._journalled())

    def _connected(self) -> int:
        try:
            total: int = self._listed(1)["total"]
        except OSError:
            # It does not answer: it is not at rest.
            return 1
        return total

    def _listed(self, limit: int) -> Any:
        """Return what the gateway says of who is connected."""
        scheme = "https" if self._tls else "http"
        url = f"{scheme}://127.0.0.1:{self._port}/connections?limit={limit}"
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S, context=self._tls) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def _journalled(self) -> int:
        """Return how many are in the journal, from a copy of it: nobody else may open a journal in use."""
        copy = self._folder / "copy"
        copy.unlink(missing_ok=True)
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.journal}{suffix}", f"{copy}{suffix}")
        return count(copy)

    def _read_books(self) -> Ledger:
        with self._books.open("rb") as file:
            file.seek(self._read)
            # By and by: hostile clients make them long.
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self.ledger.read([line[:-1].decode()])
        return self.ledger

    async def end(self) -> Findings:
        """Stop the gateway as a user would, and audit."""
        self.gateway.terminate()
        status = await self.gateway.wait()
        self.backend.kill()
        findings = audit(self._read_books(), self.honest.lives)
        if status != 0:
            findings.violations.append(f"the last stop ended with {status}")
        if left := count(self.journal):
            findings.violations.append(f"{left} connections are in the journal still")
        if self.is_bounded and self.peak > MAX_MEMORY * MEMORY_SLACK:
            findings.violations.append(f"the gateway took {self.peak} bytes of memory, and may take {MAX_MEMORY}")
        for program in (self.gateway, self.backend):
            said = program.said()
            if "Traceback" in said:
                findings.violations.append("a traceback: " + said[said.index("Traceback") :][:3000])
        return findings


def count(journal: Path) -> int:
    """Return how many connections are in a journal that nobody has open."""
    with closing(sqlite3.connect(journal)) as connection:
        number: int = connection.execute("SELECT count(*) FROM connections").fetchone()[0]
        return number


BACKEND_FAULTS = [*[ChaosRun.kill_backend] * 8, ChaosRun.kill_backend_for_long]
FAULTS = [
    *BACKEND_FAULTS,
    *[ChaosRun.kill_gateway] * 7,
    *[ChaosRun.stop_gateway] * 3,
    *[ChaosRun.kill_both] * 2,
]


async def run_chaos(run: ChaosRun, seconds: float) -> tuple[Findings, int, int, int]:
    """Return what was found, the gateway's memory before the third phase and after it, and how many came in it."""
    try:
        await run.start_backend()
        await run.gateway.start()
        before = after = came = 0
        with suppress(UnsettledError):
            await run.phase(PHASES[0] * seconds, *FAULTS)
            await run.phase(max(WARM_UP_S, PHASES[1] * seconds), *BACKEND_FAULTS)
            before, came = run.gateway.memory(), len(run.honest.lives)
            await run.phase(PHASES[2] * seconds, *BACKEND_FAULTS)
            after, came = run.gateway.memory(), len(run.honest.lives) - came
        return await run.end(), before, after, came
    finally:
        run.gateway.kill()
        run.backend.kill()


def table(run: ChaosRun, findings: Findings, before: int, after: int) -> str:
    """Return the summary, for people."""
    counts = findings.counts + run.counts
    rows = [
        ("connections", counts["lives"]),
        *[(f"  {name[5:]}", number) for name, number in sorted(counts.items()) if name.startswith("end: ")],
        ("  connects while nobody listened", run.honest.refused_connects),
        ("messages sent by clients", counts["sent"]),
        ("  in the backend's books", counts["taken"]),
        ("  replies received", counts["replies"]),
        *[(name, number) for name, number in sorted(counts.items()) if name.startswith("pushes")],
        *[(name, run.counts[name]) for name in sorted(run.counts)],
        ("requests to the backend", counts["requests"]),
        ("  repeats, each with its ce-id", counts["repeats"]),
        ("lost, the client or the DELETE says so", counts["messages lost, and told so"]),
        ("cut off by their own client", counts["messages that their client cut off"]),
        ("lost, untold", counts["messages lost, untold"]),
        ("accepted POSTs", counts["accepted"]),
        ("  DELETEs, by ce-id", counts["DELETEs"]),
        ("    that a later gateway sent for a lost one", counts["DELETEs of a lost gateway"]),
        ("  DELETEs missing", counts["DELETEs missing"]),
        ("hostile connections", sum(run.hostile.counts.values())),
        *[(f"  {name}", number) for name, number in sorted(run.hostile.counts.items())],
        ("  known to the backend", counts["hostile connections"]),
        ("  their messages, repeats counted", counts["hostile messages"]),
        ("gateway's memory before and after (KiB)", f"{before >> 10} {after >> 10}"),
        ("  at its most, resident (KiB)", run.peak >> 10),
        ("  MAX_MEMORY (KiB)", MAX_MEMORY >> 10 if run.is_bounded else "none"),
        ("violations", len(findings.violations)),
    ]
    return "\n".join(f"{name:48}{number:>12}" for name, number in rows)


def test_the_books_are_right_whatever_dies(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seconds = pytestconfig.getoption("--chaos-seconds")
    seed = pytestconfig.getoption("--chaos-seed") or random.randrange(1, 10**6)
    clients, hostile = pytestconfig.getoption("--chaos-clients"), pytestconfig.getoption("--chaos-hostile")
    run = ChaosRun(tmp_path, clients, hostile, seed, tls=pytestconfig.getoption("--chaos-tls"))
    print(f"\nchaos for {seconds:g} s and until all is at rest, --chaos-seed {seed}, in {tmp_path}", flush=True)
    findings, before, after, came = asyncio.run(run_chaos(run, seconds))
    print(table(run, findings, before, after), flush=True)
    assert not findings.violations, "\n".join(findings.violations[:50])
    assert after - before < MAX_GROWTH_BYTES, f"the gateway grew by {after - before} bytes while {came} clients came"
    assert findings.counts["taken"] > seconds, "a run in which next to nothing happened shows nothing"
