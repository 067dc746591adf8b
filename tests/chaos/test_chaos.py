"""Hundreds of clients send and receive while backend and gateway are killed and restarted; then the log is audited.

There are three phases. Each ends when its clients are gone and all DELETEs were sent. In the first phase, backend and
gateway are killed. In the second and third phase, only the backend is killed: the memory of the gateway must not grow
from the end of the second phase to the end of the third.

With `--chaos-workers`, single workers are killed too in the first phase, and the supervisor alone.
"""

import asyncio
import json
import pickle
import random
import ssl
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.audit import Findings, Ledger, audit
from tests.chaos.fan_out_audit import audit_fan_out
from tests.chaos.run import SETTINGS, ChaosRun, Load, UnsettledError, count, count_in_use, table, tracebacks
from tests.chaos.workers import Workers, wait_for_end
from tests.support.certificate_authority import CertificateAuthority
from tests.support.ports import free_port
from tests.support.program import gateway_program, has_flag

MAX_GROWTH_BYTES = 5 * 1024 * 1024
"""Bytes by which the gateway may grow in the third phase. After some thousands of connections, its memory varies by
about 2 MiB: partly used arenas of Python, the heap of the C library, the page cache of the journal (2 MiB). The second
phase reaches that level, so growth in the third phase is a leak."""

PHASES = (0.5, 0.25, 0.25)
"""The share of each phase in the time of the run."""

WARM_UP_S = 12
"""The shortest second phase in seconds: enough for the gateway's memory to reach its level."""

MAX_MEMORY = 64 * 1024 * 1024
"""`MAX_MEMORY` of the gateway in bytes, if it has this setting."""

MEMORY_SLACK = 1.1
"""The largest resident memory, as a multiple of `MAX_MEMORY`: the gateway samples its memory only now and then."""

ANSWER_TIMEOUT_S = 10
"""Seconds for the gateway to list its connections."""

SAMPLE_INTERVAL_S = 0.1
"""Seconds between two samples of the gateway's memory."""


class GatewayRun(ChaosRun):
    """A run with one gateway, which may have several workers."""

    def __init__(self, folder: Path, load: Load, *, tls: bool, workers: int) -> None:
        self.peak = 0
        gateway, backend = free_port(), free_port()
        self._port = gateway
        self._tls: ssl.SSLContext | None = None
        self.journal = folder / "journal"
        settings: dict[str, object] = {**SETTINGS, "journal": self.journal}
        environment = {}
        if tls:
            authority = CertificateAuthority(folder)
            settings |= authority.issue()
            self._tls = authority.client()
            environment["CHAOS_CA"] = str(authority.path)
        super().__init__(folder, load, [("127.0.0.1", gateway)], ledger=Ledger(), tls=self._tls)
        self.is_bounded = has_flag("--max-memory")
        if self.is_bounded:
            settings["max_memory"] = MAX_MEMORY * workers
        if workers > 1:
            assert has_flag("--workers"), "this gateway has no workers"
            settings["workers"] = workers
        self.make_backend(backend, self.addresses, environment)
        self.gateway = gateway_program(f"127.0.0.1:{backend}/hook", gateway, folder / "gateway.log", settings)
        self.workers = Workers(self.gateway, workers)

    # Faults.

    async def kill_gateway(self) -> None:
        self.counts["kills of the gateway"] += 1
        self.workers.kill()
        await self.pause(0, 0.3)
        await self.gateway.start()
        while self.chance.random() < 0.3:
            # Once more, during the recovery.
            self.counts["kills of the gateway"] += 1
            await self.pause(0, 0.1)
            self.workers.kill()
            await self.gateway.start()

    async def kill_workers(self) -> None:
        """Kill some workers, one soon after another or at once. The supervisor starts their successors."""
        for _ in range(self.chance.randrange(2, 8)):
            self.counts["kills of single workers"] += self.workers.kill_some(self.chance)
            await self.pause(0, 1)

    async def kill_supervisor(self) -> None:
        """Kill the supervisor: its workers drain. It is started again at once, or when they have ended."""
        self.counts["kills of the supervisor"] += 1
        orphans = self.workers.kill_supervisor()
        if self.chance.random() < 0.5:
            await wait_for_end(orphans)
        await self.gateway.start()
        await wait_for_end(orphans)

    async def stop_gateway(self) -> None:
        self.counts["stops of the gateway"] += 1
        self.gateway.terminate()
        if self.chance.random() < 0.3:
            self.counts["kills of the gateway"] += 1
            await self.pause(0, 1)
            self.workers.kill()
        else:
            status = await self.gateway.wait()
            assert status in (0, 1), f"a stop ended with {status}"
        await self.gateway.start()

    async def kill_both(self) -> None:
        """Kill the backend; kill or stop the gateway after a while, so that it has many events to journal."""
        self.counts["kills of the backend"] += 1
        self.backend.kill()
        await self.pause(0, 1)
        await self.chance.choice((GatewayRun.kill_gateway, GatewayRun.stop_gateway))(self)
        await self.pause(0, 0.5)
        await self.start_backend()

    # Phases.

    def check_up(self, fault: str) -> None:
        assert self.gateway.is_up, f"the gateway ended by itself after {fault}: {self.gateway.said()[-2000:]}"

    async def watch(self) -> None:
        """Record the gateway's peak memory, and ids of clients for hostile pushes."""
        turns = 0
        while True:
            self.peak = max(self.peak, self.workers.resident())
            turns += 1
            if turns % 10 == 0:
                with suppress(OSError, ValueError):
                    listed = await asyncio.to_thread(self._listed, 5)
                    self.hostile.live = [each["id"] for each in listed["connections"]]
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def is_idle(self) -> bool:
        return not (await asyncio.to_thread(self._connected) or self._journaled())

    def _connected(self) -> int:
        try:
            total: int = self._listed(1)["total"]
        except OSError:
            # Without an answer, it may still have connections.
            return 1
        return total

    def _listed(self, limit: int) -> Any:
        """Return the gateway's list of connections."""
        scheme = "https" if self._tls else "http"
        url = f"{scheme}://127.0.0.1:{self._port}/connections?limit={limit}"
        with urllib.request.urlopen(url, timeout=ANSWER_TIMEOUT_S, context=self._tls) as answer:  # noqa: S310 - a URL of this test
            return json.load(answer)

    @property
    def _journals(self) -> list[Path]:
        """The journals: one, or one for each worker."""
        paths = [self.journal, *(Path(f"{self.journal}.{index + 1}") for index in range(self.workers.number))]
        return [path for path in paths if path.exists()]

    def _journaled(self) -> int:
        """Return the number of entries in copies of the journals, because the journals themselves are locked."""
        return sum(count_in_use(journal, self._folder / "copy") for journal in self._journals)

    async def end(self) -> Findings:
        """Stop the gateway by a signal, and audit the log."""
        self.gateway.terminate()
        status = await self.gateway.wait()
        self.backend.kill()
        has_workers = self.workers.number > 1
        findings = audit(self.read_log(), self.honest.lives, has_workers=has_workers)
        # For a later look: the audit can be repeated with this and the log.
        (self._folder / "lives").write_bytes(pickle.dumps(self.honest.lives))
        fan_out = audit_fan_out(self.ledger, self.honest.lives, has_workers=has_workers)
        findings.violations += fan_out.violations
        self.fan_out = fan_out.counts
        if status != 0:
            findings.violations.append(f"the last stop ended with {status}")
        if left := sum(map(count, self._journals)):
            findings.violations.append(f"{left} connections are still in the journal")
        allowed = MAX_MEMORY * self.workers.number
        if self.is_bounded and self.peak > allowed * MEMORY_SLACK:
            findings.violations.append(f"the gateway used {self.peak} bytes of memory; MAX_MEMORY is {allowed}")
        findings.violations += tracebacks(self.gateway, self.backend)
        return findings


BACKEND_FAULTS = [*[GatewayRun.kill_backend] * 8, GatewayRun.kill_backend_for_long]
FAULTS = [
    *BACKEND_FAULTS,
    *[GatewayRun.kill_gateway] * 7,
    *[GatewayRun.stop_gateway] * 3,
    *[GatewayRun.kill_both] * 2,
]
WORKER_FAULTS = [*FAULTS, *[GatewayRun.kill_workers] * 16, GatewayRun.kill_supervisor]


async def run_chaos(run: GatewayRun, seconds: float) -> tuple[Findings, int, int, int]:
    """Return the findings, the gateway's memory before and after the third phase, and the number of clients in it."""
    try:
        await run.start_backend()
        await run.gateway.start()
        before = after = came = 0
        with suppress(UnsettledError):
            await run.phase(PHASES[0] * seconds, *(WORKER_FAULTS if run.workers.number > 1 else FAULTS))
            await run.phase(max(WARM_UP_S, PHASES[1] * seconds), *BACKEND_FAULTS)
            before, came = run.workers.memory(), len(run.honest.lives)
            await run.phase(PHASES[2] * seconds, *BACKEND_FAULTS)
            after, came = run.workers.memory(), len(run.honest.lives) - came
        return await run.end(), before, after, came
    finally:
        run.workers.kill()
        run.backend.kill()


def test_every_promise_is_kept_through_kills_and_restarts(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seconds = pytestconfig.getoption("--chaos-seconds")
    seed = pytestconfig.getoption("--chaos-seed") or random.randrange(1, 10**6)
    clients, hostile = pytestconfig.getoption("--chaos-clients"), pytestconfig.getoption("--chaos-hostile")
    workers = pytestconfig.getoption("--chaos-workers")
    load = Load(clients, hostile, seed)
    run = GatewayRun(tmp_path, load, tls=pytestconfig.getoption("--chaos-tls"), workers=workers)
    print(f"\nchaos for {seconds:g} s and until all is settled, --chaos-seed {seed}, in {tmp_path}", flush=True)
    findings, before, after, came = asyncio.run(run_chaos(run, seconds))
    memory = [
        ("memory before and after the third phase (KiB)", f"{before >> 10} {after >> 10}"),
        ("  peak, resident (KiB)", run.peak >> 10),
        ("  MAX_MEMORY (KiB)", MAX_MEMORY * run.workers.number >> 10 if run.is_bounded else "none"),
    ]
    print(table(run, findings, memory), flush=True)
    assert not findings.violations, "\n".join(findings.violations[:50])
    assert after - before < MAX_GROWTH_BYTES * workers, (
        f"the gateway grew by {after - before} bytes during {came} connections"
    )
    assert findings.counts["taken"] > seconds, "too few messages to show anything"
    assert run.fan_out["publishes to members that certainly stayed"] > seconds, "too few publishes to show anything"
