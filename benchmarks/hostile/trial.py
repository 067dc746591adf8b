"""One trial: a gateway, its backend, the probes, and hostile clients of one kind."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

from benchmarks.hostile.attacks import FAILING, FULL, KINDS, Kind
from benchmarks.hostile.backend import Closer, TreatingBackend
from benchmarks.hostile.probes import ECHO_RATE, LOW_RATE, Echo, Latencies, Lateness, RequestProbe
from benchmarks.machine import CpuMeter
from benchmarks.rig import Rig, gateway
from benchmarks.targets.base import TargetError
from benchmarks.targets.wsaas import ROOT, Wsaas
from benchmarks.wire import HANDSHAKE, path_of, push, request

ALONE_S = 2.0
"""How long the probes run before the hostile clients come, at most."""

SAMPLE_INTERVAL_S = 0.05
"""Between two samples of the gateway's memory."""

RELEASE_TIME_S = 1.0
"""From the end of an attack to the sample of the memory that it left behind, for attacks that end by themselves."""

COUNTS_TIMEOUT_S = 30
Probe = Echo | RequestProbe


@dataclass
class Measurement:
    """One kind of hostile clients against one target. Latencies are in seconds, by probe; memory is in bytes."""

    target: str
    kind: str
    group: str
    clients: int
    alone: dict[str, list[float]] = field(default_factory=dict)
    """Latencies before the hostile clients came."""
    beside: dict[str, list[float]] = field(default_factory=dict)
    """Latencies beside them."""
    failed: dict[str, int] = field(default_factory=dict)
    """Requests beside them that failed, by probe."""
    closed: int = 0
    """How often the healthy client was closed."""
    target_busy: float = 0.0
    """Share of a core that the gateway had."""
    load_busy: float = 0.0
    """Share of a core that the hostile clients had."""
    own_busy: float = 0.0
    """Share of a core that this process had."""
    others: float = 0.0
    """Share of a core that other programs had, of whichever core they had more of."""
    lateness: float = 0.0
    """Seconds by which this process was late itself, the 99th percentile."""
    written: float = 0.0
    """Bytes a second that the hostile clients wrote."""
    connections: int = 0
    """Connections that they made."""
    growth: int = 0
    """Peak of the resident memory beside them, less that before."""
    kept: int = 0
    """The same at the end."""
    error: str = ""
    """Why the gateway could not be measured."""


@asynccontextmanager
async def attacking(kind: str, clients: int, port: int, path: str) -> AsyncIterator[Process]:
    """Run the hostile clients inside the block. Raises `ConnectionError` if they do not start."""
    command = (sys.executable, "-m", "benchmarks.hostile.attackers", kind, str(port), str(clients), path)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=PIPE, stdout=PIPE
    )
    try:
        if not await cast(asyncio.StreamReader, process.stdout).readline():
            raise ConnectionError("the hostile clients did not start")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def counts(process: Process) -> dict[str, int]:
    """End the hostile clients; return their counts. Raises `ConnectionError` if they ended before."""
    cast(asyncio.StreamWriter, process.stdin).close()
    line = await asyncio.wait_for(cast(asyncio.StreamReader, process.stdout).readline(), COUNTS_TIMEOUT_S)
    if not line:
        raise ConnectionError("the hostile clients failed")
    found: dict[str, int] = json.loads(line)
    return found


async def run_probes(probes: Mapping[str, Probe], seconds: float) -> dict[str, Latencies]:
    """Run all probes at the same time."""
    found = await asyncio.gather(*(probe.run(seconds) for probe in probes.values()))
    return dict(zip(probes, found, strict=True))


class Trial:
    """One measurement of what `clients` of a kind do to a target."""

    def __init__(self, checkout: Wsaas, cores: tuple[int, int], name: str, clients: int, seconds: float) -> None:
        """Run the gateway of `checkout` on the first of `cores`. The hostile clients are of kind `name`."""
        self._cores = cores
        self.kind: Kind = KINDS[name]
        self.result = Measurement(checkout.name, name, self.kind.group, clients)
        self._target = Wsaas(
            checkout.checkout, separate_control=self.kind.separate_control, settings=self.kind.settings
        )
        self._target.descriptors = self.kind.descriptors
        self._seconds = seconds

    async def run(self) -> Measurement:
        """Measure. If the gateway cannot be measured any more, the `error` of the result says why."""
        try:
            async with gateway(self._target, TreatingBackend, core=self._cores[0]) as rig:
                await self._measure(rig)
                if (status := rig.process.poll()) is not None:
                    self.result.error = f"the gateway ended with status {status}"
                elif "Traceback" in rig.log():
                    self.result.error = "a traceback in the log"
        except (OSError, asyncio.TimeoutError, LookupError, TargetError) as error:
            self.result.error = str(error) or type(error).__name__
        return self.result

    async def _measure(self, rig: Rig) -> None:
        result = self.result
        echo = Echo(rig, LOW_RATE if self.kind.group == FAILING else ECHO_RATE)
        await echo.open()
        await rig.connect()
        path = path_of(rig.state.ws_uris[1])
        closer = Closer(rig)
        rig.state.on_close = closer.close
        probes: dict[str, Probe] = {"echo": echo, **self._request_probes(rig, path)}
        alone = await run_probes(probes, min(ALONE_S, self._seconds))
        result.alone = {name: found.taken for name, found in alone.items()}
        before, closed = rig.resident(), echo.times_closed
        async with attacking(result.kind, result.clients, rig.port, path) as attackers:
            Lateness.taken.clear()
            sampling = asyncio.create_task(self._sample_memory(rig, before))
            target_core, load_core = self._cores
            meter = CpuMeter((target_core, [rig.process.pid]), (load_core, [attackers.pid]), (load_core, [os.getpid()]))
            beside = await run_probes(probes, self._seconds)
            usage = meter.read()
            done = await counts(attackers)
            if self.kind.attack.rate:
                await asyncio.sleep(RELEASE_TIME_S)
                result.kept = rig.resident() - before
            sampling.cancel()
        result.target_busy, result.load_busy, result.own_busy = (cpu / usage.seconds for cpu in usage.cpu)
        result.others = usage.others
        result.written = done["written"] / usage.seconds
        result.connections = done["connections"]
        if not result.connections:
            result.error = "no hostile client could connect"
        result.closed = echo.times_closed - closed
        result.beside = {name: found.taken for name, found in beside.items()}
        result.failed = {name: found.failed for name, found in beside.items()}
        lateness = Latencies()
        lateness.taken = Lateness.taken
        result.lateness = lateness.percentile(0.99)
        echo.close()
        closer.stop()

    def _request_probes(self, rig: Rig, path: str) -> dict[str, Probe]:
        probes: dict[str, Probe] = {"/healthz": RequestProbe(rig.control_port, request("GET", "/healthz"))}
        if self.kind.group == FULL:
            probes["push"] = RequestProbe(rig.control_port, push(path, 5))
        if self.kind.group == FAILING and not self.kind.attack.once:
            probes["handshake"] = RequestProbe(rig.port, HANDSHAKE, b"HTTP/1.1 101", LOW_RATE)
        return probes

    async def _sample_memory(self, rig: Rig, before: int) -> None:
        with suppress(OSError):
            while True:
                self.result.growth = max(self.result.growth, rig.resident() - before)
                await asyncio.sleep(SAMPLE_INTERVAL_S)
