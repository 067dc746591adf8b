"""The workloads that gateways are compared under, and one run of one target.

A new workload is a function here, registered in `WORKLOADS`; the command line finds it there.
"""

from argparse import Namespace
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from benchmarks import processes
from benchmarks.comparison.histogram import percentile
from benchmarks.comparison.measurement import Measurement, measure
from benchmarks.load_generator import LoadGenerator
from benchmarks.machine import cores
from benchmarks.report import MEBIBYTE
from benchmarks.targets.base import Target, TargetError, placement, running

FEW = 100
"""Clients that pushes are timed with, to compare them alone and beside many idle ones."""

SUBSCRIBERS = (100, 1000, 10_000)
"""Clients that a publish reaches."""

BATCH = 100
"""Clients that one request to `/send` names."""

MESSAGES_PER_S = 1000
"""Beside publishes."""

Run = Callable[[LoadGenerator, int, str, Namespace], list[Measurement]]
"""Called with the load generator, the target's process id and name, and the chosen options."""


@dataclass(frozen=True)
class Workload:
    """A kind of load. `defaults`: of the options `clients`, `size` and `window`, where they differ from the usual.

    `needs`: the attribute without which a target cannot be measured. `grouped`: all clients join one group.
    """

    summary: str
    run: Run
    defaults: dict[str, int] = field(default_factory=dict)
    needs: str = ""
    grouped: bool = False

    def suits(self, target: Target) -> bool:
        """Return whether `target` can be measured."""
        return not self.needs or bool(getattr(target, self.needs))


USUAL = {"clients": 1000, "size": 128, "window": 32}


def options(chosen: Namespace, **others: float) -> dict[str, float]:
    """Return the options of a run of the load generator."""
    return {
        "seconds": chosen.seconds,
        "window": chosen.window,
        "connections": chosen.connections,
        "size": chosen.size,
        "rate": chosen.rate,
        "delay": chosen.delay,
        **others,
    }


def warm_up(load: LoadGenerator, case: str, chosen: Namespace) -> None:
    """Run for a while without measuring, in the closed loop."""
    load.run(case, **options(chosen, seconds=chosen.warmup, rate=0))


def plain(case: str) -> Run:
    """Return a run that warms up and then measures one case of the load generator."""

    def run(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
        if case != "connect":
            load.open(chosen.clients)
        warm_up(load, case, chosen)
        return [measure(load, root, name, case, options(chosen))]

    return run


def large(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure large messages in both directions."""
    load.open(chosen.clients)
    results = []
    for case in ("push", "message"):
        warm_up(load, case, chosen)
        one = measure(load, root, name, case, options(chosen))
        one.case = f"large {case}"
        one.extra["MiB a second"] = one.rate * chosen.size / MEBIBYTE
        results.append(one)
    return results


def idle(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure what many idle clients cost: in memory, and in the latency of pushes to a few others."""

    def time_pushes(clients: int) -> Measurement:
        load.open(clients)
        warm_up(load, "push", chosen)
        one = measure(load, root, name, "push", options(chosen, active=FEW, rate=chosen.rate or 1000))
        one.case = f"push to {FEW} of {clients}"
        return one

    def exchange_messages(clients: int) -> None:
        for case in ("message", "push"):
            load.run(case, **options(chosen, count=clients, rate=0))

    few = time_pushes(FEW)
    exchange_messages(FEW)
    before = processes.memory(processes.tree(root))
    load.open(chosen.clients)
    opened = processes.memory(processes.tree(root))
    many = time_pushes(chosen.clients)
    exchange_messages(chosen.clients)
    talked = processes.memory(processes.tree(root))
    more = chosen.clients - FEW
    many.extra = {
        "bytes of an idle client": (opened - before) / more,
        "the same after a message each way": (talked - before) / more,
    }
    return [few, many]


def fanout(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure publishes to more and more clients. Each delivery counts; the latency ends with the last frame."""
    results = []
    for clients in [number for number in SUBSCRIBERS if number < chosen.clients] + [chosen.clients]:
        load.open(clients)
        warm_up(load, "fanout", chosen)
        one = measure(load, root, name, "fanout", options(chosen))
        one.case = f"fanout to {clients}"
        results.append(one)
    return results


def beside(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure the latency of messages to the backend: alone, beside publishes to all clients now and then, and always.

    The CPU time is that of one message or delivery.
    """
    rate = chosen.rate or MESSAGES_PER_S
    load.open(chosen.clients)
    warm_up(load, "message", chosen)
    alone = measure(load, root, name, "message", options(chosen, rate=rate))
    alone.case = "message alone"
    results = [alone]
    for what, publishes_per_s in (("a publish each second", 1), ("publishes without a pause", 0)):
        case = options(chosen, rate=publishes_per_s, beside=rate)
        one = measure(load, root, name, "fanout", case)
        one.case = f"message beside {what}"
        results.append(one)
    for one in results:
        one.extra["longest latency, µs"] = percentile(one.latency, 1)
    return results


def send(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure messages to many clients in one request, beside the same number of single pushes."""
    load.open(chosen.clients)
    results = []
    for case, what, more in (
        ("push", "push", {}),
        ("send", f"send one text to {BATCH}", {"batch": BATCH}),
        ("send", f"send {BATCH} lines", {"batch": BATCH, "lines": 1}),
    ):
        load.run(case, **options(chosen, seconds=chosen.warmup, rate=0, **more))
        one = measure(load, root, name, case, options(chosen, **more))
        one.case = what
        results.append(one)
    return results


WORKLOADS: dict[str, Workload] = {
    "push": Workload("the backend sends PUT ws_uri, the client gets a frame", plain("push")),
    "message": Workload("a client sends a frame, the backend gets a PUT", plain("message")),
    "echo": Workload("a client sends a frame, and the backend pushes it back", plain("echo")),
    "connect": Workload("a client connects and disconnects, the backend gets a POST and a DELETE", plain("connect")),
    "idle": Workload("memory of idle clients, and pushes to a few beside them", idle, {"clients": 10_000}),
    "large": Workload(
        "push and message with messages of 1 MiB", large, {"clients": 100, "size": MEBIBYTE, "window": 8}
    ),
    "fanout": Workload(
        "one publish reaches 100, 1,000 and 10,000 clients", fanout, {"clients": 10_000}, needs="publish", grouped=True
    ),
    "beside": Workload(
        "messages of clients beside publishes to all of them",
        beside,
        {"clients": 10_000},
        needs="publish",
        grouped=True,
    ),
    "send": Workload(f"one request to {BATCH} clients, beside single pushes", send, needs="send"),
}


def run_once(target: Target, workload: Workload, chosen: Namespace) -> list[Measurement]:
    """Start `target`, measure it once and stop it. Raises `TargetError` if it does not start or ends meanwhile."""
    target_core, load_core = cores()
    chosen = Namespace(**{**vars(chosen), "clients": min(chosen.clients, target.most)})
    with placement(chosen.api_connections) as where:
        settings = [f"core={load_core}", *target.load_settings(where, grouped=workload.grouped)]
        with closing(LoadGenerator(settings)) as load, running(target, where, target_core) as process:
            try:
                return workload.run(load, process.pid, target.name, chosen)
            except (FileNotFoundError, ProcessLookupError) as error:
                raise TargetError("it ended while it was measured") from error
