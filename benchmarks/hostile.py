"""What hostile clients cost everybody else: latencies of a healthy client, and of `/healthz`, alone and beside them.

The gateway has a core of its own. The hostile clients (`benchmarks.attackers`) and this process, which is the backend,
the healthy client and the probes, share the other one; the hostile ones run only when nothing else wants it. They flood
as fast as the gateway reads. So a latency is the time for which the gateway held the others up.
"""

import asyncio
import json
import math
import os
import resource
import sys
import time
from argparse import ArgumentParser, Namespace
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from benchmarks import processes
from benchmarks.attacks import FAILING, FULL, KINDS, Kind, request
from benchmarks.compare import markdown, tell
from benchmarks.measure import cores
from benchmarks.rig import HANDSHAKE, HERE, Launch, Rig, gateway
from benchmarks.targets import named
from benchmarks.targets.wsaas import Wsaas
from benchmarks.victims import ECHOES, FEW, Closer, Echo, Fresh, Judge, Latencies, Lateness

ALONE_SECONDS = 2.0
"""Most seconds that are measured before the hostile clients come."""

SAMPLE_PAUSE = 0.05
"""Seconds between two looks at the gateway's memory."""

REST = 1.0
"""Seconds from the end of an attack that ends by itself to the look at what it left in memory."""

TRIES = 3
"""Most runs for one that nobody disturbed."""

PRIORITY = -10
"""Of the gateway and of this process, where the system allows it: other programs are not to be measured."""

MEBIBYTE = 1 << 20
Probe = Echo | Fresh


@dataclass
class Measurement:
    """One kind of hostile clients against one target. Latencies are in seconds, by probe; memory is in bytes."""

    target: str
    kind: str
    group: str
    clients: int
    alone: dict[str, list[float]] = field(default_factory=dict)
    beside: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    closed: int = 0
    """How often the healthy client was closed."""
    target_busy: float = 0.0
    load_busy: float = 0.0
    """Share of a core that the hostile clients had; `own_busy`: that this process had."""
    own_busy: float = 0.0
    others: float = 0.0
    """Share of a core that other programs had, of whichever core they had more of."""
    lateness: float = 0.0
    """Seconds by which this process was late itself, the 99th percentile."""
    written: float = 0.0
    """Bytes a second that the hostile clients got rid of."""
    connections: int = 0
    """Connections that they made."""
    growth: int = 0
    """Resident memory at its most beside them, less what it was before."""
    kept: int = 0
    """The same at the end."""
    error: str = ""


@asynccontextmanager
async def attacking(kind: str, clients: int, port: int, sink: str) -> AsyncIterator[Process]:
    """Let the hostile clients work."""
    command = (sys.executable, "-m", "benchmarks.attackers", kind, str(port), str(clients), sink)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=HERE, env={**os.environ, "PYTHONPATH": str(HERE)}, stdin=PIPE, stdout=PIPE
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
    """Ask the hostile clients to end; return what they did."""
    cast(asyncio.StreamWriter, process.stdin).close()
    line = await asyncio.wait_for(cast(asyncio.StreamReader, process.stdout).readline(), 30)
    if not line:
        raise ConnectionError("the hostile clients gave up")
    done: dict[str, int] = json.loads(line)
    return done


class Trial:
    """One measurement: a gateway, its backend, the probes and the hostile clients."""

    def __init__(self, target: Wsaas, both: tuple[int, int], name: str, clients: int, seconds: float) -> None:
        """Measure what `clients` of kind `name` do to `target`, which runs on the first of `both` cores."""
        self._cores = both
        self.kind: Kind = KINDS[name]
        self.result = Measurement(target.name, name, self.kind.group, clients)
        self._target = target
        self._seconds = seconds

    async def run(self) -> Measurement:
        """Measure. A gateway that cannot be measured any more is an `error` of the result."""
        kind = self.kind
        launch = Launch(self._target.checkout, self._cores[0], kind.descriptors, kind.apart)
        try:
            async with gateway(launch, Judge, tls=False, **kind.settings) as rig:
                await self._measure(rig)
                if rig.process.returncode is not None:
                    self.result.error = f"the gateway ended with status {rig.process.returncode}"
                elif "Traceback" in rig.log.read_text(errors="replace"):
                    self.result.error = "a traceback in the log"
        except (OSError, asyncio.TimeoutError, LookupError) as error:
            self.result.error = str(error) or type(error).__name__
        return self.result

    async def _measure(self, rig: Rig) -> None:
        echo = Echo(rig, FEW if self.kind.group == FAILING else ECHOES)
        await echo.open()
        await rig.connect(lambda _: None)
        _, sink = (uri.partition("/")[2] for uri in rig.seen.ws_uris)
        closer = Closer(rig)
        rig.seen.on_close = closer.close
        probes: dict[str, Probe] = {"echo": echo, **self._fresh(rig, sink)}
        self.result.alone = {
            name: one.taken for name, one in (await run(probes, min(ALONE_SECONDS, self._seconds))).items()
        }
        before, closed = rig.resident(), echo.times_closed
        async with attacking(self.result.kind, self.result.clients, rig.port, f"/{sink}") as attackers:
            Lateness.taken.clear()
            sampling = asyncio.create_task(self._sample(rig, before))
            begin, busy = time.monotonic(), self._busy(rig, attackers)
            found = await run(probes, self._seconds)
            took, after = time.monotonic() - begin, self._busy(rig, attackers)
            done = await counts(attackers)
            if self.kind.attack.rate:
                await asyncio.sleep(REST)
                self.result.kept = rig.resident() - before
            sampling.cancel()
        target, load, own, *both = ((now - then) / took for now, then in zip(after, busy, strict=True))
        self.result.target_busy, self.result.load_busy, self.result.own_busy = target, load, own
        self.result.others = max(0.0, both[0] - target, both[1] - load - own)
        self.result.written = done["written"] / took
        self.result.connections = done["connections"]
        if not self.result.connections:
            self.result.error = "no hostile client could connect"
        self.result.closed = echo.times_closed - closed
        self.result.beside = {name: one.taken for name, one in found.items()}
        self.result.failed = {name: one.failed for name, one in found.items()}
        self.result.lateness = percentile(Lateness.taken, 0.99)
        echo.close()
        closer.stop()

    def _fresh(self, rig: Rig, sink: str) -> dict[str, Probe]:
        probes: dict[str, Probe] = {"/healthz": Fresh(rig.control, request("GET", "/healthz"))}
        if self.kind.group == FULL:
            push = request("PUT", f"/{sink}", "Content-Type: text/plain\r\nContent-Length: 5\r\n") + b"hello"
            probes["push"] = Fresh(rig.control, push)
        if self.kind.group == FAILING and not self.kind.attack.once:
            probes["handshake"] = Fresh(rig.port, HANDSHAKE, b"HTTP/1.1 101", FEW)
        return probes

    async def _sample(self, rig: Rig, before: int) -> None:
        with suppress(OSError):
            while True:
                self.result.growth = max(self.result.growth, rig.resident() - before)
                await asyncio.sleep(SAMPLE_PAUSE)

    def _busy(self, rig: Rig, attackers: Process) -> list[float]:
        """Return CPU time so far, in seconds: of the gateway, the hostile clients, this process, and of both cores."""
        theirs = [processes.cpu([each.pid]) / 1e9 for each in (rig.process, attackers)]
        return [*theirs, time.process_time(), *map(processes.core_busy, self._cores)]


async def run(probes: Mapping[str, Probe], seconds: float) -> dict[str, Latencies]:
    """Let all probes measure at the same time."""
    found = await asyncio.gather(*(probe.run(seconds) for probe in probes.values()))
    return dict(zip(probes, found, strict=True))


def percentile(taken: Sequence[float], share: float) -> float:
    """Return the latency that `share` of `taken` keep to; nan if there are none."""
    latencies = Latencies()
    latencies.taken = list(taken)
    return latencies.percentile(share)


def milliseconds(taken: Sequence[float], failed: int = 0) -> list[str]:
    """Return three cells: median, 99th percentile and most. What `failed` took longer than all that was answered."""
    cells = (percentile([*taken, *[math.inf] * failed], share) for share in (0.5, 0.99, 1))
    return ["-" if math.isnan(each) else "never" if math.isinf(each) else f"{each * 1e3:,.1f}" for each in cells]


def heads(probes: Sequence[str]) -> list[str]:
    """Return the heads of a table."""
    each = [f"{probe} {what}" for probe in probes for what in ("p50", "p99", "max", "failed")]
    return [
        "hostile clients",
        "target",
        *each,
        "gateway busy",
        "load busy",
        "others",
        "load late p99",
        "MB/s",
        "memory",
        "remarks",
    ]


def row(one: Measurement, probes: Sequence[str]) -> list[str]:
    """Return the cells of one measurement."""
    rate = KINDS[one.kind].attack.rate
    cells = [f"{rate} a second, `{one.kind}`" if rate else f"{one.clients} x `{one.kind}`", one.target]
    for probe in probes:
        failed = one.failed.get(probe, 0)
        cells += [*milliseconds(one.beside.get(probe, []), failed), str(failed) if probe in one.failed else "-"]
    cells += [
        f"{one.target_busy:.0%}",
        f"{one.load_busy + one.own_busy:.0%}",
        f"{one.others:.0%}",
        f"{one.lateness * 1e3:.1f}",
    ]
    return [*cells, f"{one.written / 1e6:.1f}", f"{one.growth / MEBIBYTE:+.1f} MiB", remarks(one)]


def remarks(one: Measurement) -> str:
    """Return what the figures do not say."""
    said = [one.error] if one.error else []
    if one.closed:
        said.append(f"the healthy client was closed {one.closed} times")
    if KINDS[one.kind].attack.rate and one.connections:
        said.append(f"{one.connections} clients ended, {one.kept / one.connections:,.0f} bytes kept for each")
    return "; ".join(said)


def progress(one: Measurement) -> str:
    """Return a measurement in one line."""
    said = []
    for probe, taken in one.beside.items():
        _, high, most = milliseconds(taken, one.failed[probe])
        said.append(f"{probe} p99 {high}, max {most} ms, {one.failed[probe]} failed")
    return "; ".join([*said, f"{one.growth / MEBIBYTE:+.1f} MiB", remarks(one)])


def alone(measured: Sequence[Measurement], target: str, probes: Sequence[str]) -> list[str]:
    """Return the row of a target without hostile clients: all that was measured before they came."""
    cells = ["none", target]
    for probe in probes:
        cells += [*milliseconds([each for one in measured for each in one.alone.get(probe, [])]), "-"]
    return [*cells, *["-"] * 6, ""]


def tables(results: Sequence[Measurement]) -> str:
    """Return one Markdown table for each group of kinds. Latencies are in milliseconds."""
    texts = []
    for group in dict.fromkeys(one.group for one in results):
        mine = [one for one in results if one.group == group]
        probes = list(dict.fromkeys(probe for one in mine for probe in one.alone))
        targets = dict.fromkeys(one.target for one in mine)
        rows = [alone([one for one in mine if one.target == target], target, probes) for target in targets]
        rows += [row(one, probes) for one in mine]
        texts.append(f"{group.capitalize()} (ms):\n\n{markdown(heads(probes), rows)}")
    return "\n\n".join(texts)


def parse(arguments: Sequence[str] | None) -> Namespace:
    """Return the options; `kinds` and `targets` are lists."""
    parser = ArgumentParser(prog="python -m benchmarks hostile", description="What hostile clients cost all others.")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of those that the default names")
    parser.add_argument("--target", default="wsaas", help="wsaas, and wsaas@FOLDER: another checkout; with commas")
    parser.add_argument("--seconds", type=float, default=5, help="beside the hostile clients, for each kind")
    parser.add_argument("--clients", type=int, help="hostile ones; default 50, 60 that fail, 1,000 that hold on")
    parser.add_argument("--calm", type=float, default=1, help="repeat a run in which others had more of a core")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    chosen = parser.parse_args(arguments)
    chosen.kinds = chosen.kinds.split(",")
    if unknown := [kind for kind in chosen.kinds if kind not in KINDS]:
        parser.error(f"no kind is called {', '.join(unknown)}; there are {', '.join(KINDS)}")
    try:
        chosen.targets = [named(name) for name in chosen.target.split(",")]
    except KeyError as error:
        parser.error(f"no target is called {error}")
    if not all(isinstance(target, Wsaas) for target in chosen.targets):
        parser.error("only wsaas and wsaas@FOLDER can be measured")
    return chosen


def calmest(chosen: Namespace, target: Wsaas, both: tuple[int, int], name: str, clients: int) -> Measurement:
    """Measure, again while other programs had more than their share of a core; return the least disturbed run."""
    tries: list[Measurement] = []
    while len(tries) < TRIES and all(one.others > chosen.calm for one in tries):
        tries.append(uvloop.run(Trial(target, both, name, clients, chosen.seconds).run()))
        if tries[-1].others > chosen.calm:
            tell(f"{target.name} {name}: others had {tries[-1].others:.0%} of a core")
    return min(tries, key=lambda one: one.others)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the case."""
    chosen = parse(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    both = cores()
    os.sched_setaffinity(0, {both[1]})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    results: list[Measurement] = []
    try:
        for name in chosen.kinds:
            clients = KINDS[name].clients if chosen.clients is None else chosen.clients
            for target in chosen.targets:
                one = calmest(chosen, target, both, name, clients)
                results.append(one)
                tell(f"{target.name} {name}: {progress(one)}")
    finally:
        # What was measured before an interrupt was measured.
        print(tables(results))
        if chosen.json:
            chosen.json.write_text(json.dumps([asdict(one) for one in results]))
