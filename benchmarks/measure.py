"""One run of one target: start it, load it, and say what that cost."""

import os
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from benchmarks import processes
from benchmarks.histogram import Histogram, percentile
from benchmarks.load import Load
from benchmarks.targets.base import Target, TargetError, place, running

FAULTS = ("lost", "reordered", "unexpected", "corrupted", "refused", "broken")
FEW = 100
"""Clients beside which a push is timed, to compare with many idle ones."""

Options = dict[str, float]


@dataclass
class Measurement:
    """One run of one target. Times are in microseconds, memory in bytes."""

    target: str
    case: str
    clients: int
    size: int
    cpu: float
    """CPU time of the target for one message."""
    user: float
    """The share of it that was user time."""
    rate: float
    """Messages a second."""
    p50: float
    p99: float
    p999: float
    target_busy: float
    """Share of the time in which the target was running: at most 1, as it has one core."""
    load_busy: float
    """Share of the time in which the load generator found something to do."""
    others: float
    """Share of the time that others had, of the target's core or of the load generator's, whichever is more."""
    memory: int
    """Proportional set size at the end."""
    behind: float
    """Seconds by which an open loop was late in the end."""
    faults: dict[str, int]
    turn: int = 0
    """Which of the repeats: the runs of one turn followed each other, so that the machine was much the same."""
    extra: dict[str, float] = field(default_factory=dict)
    """Further figures of this case, by what they are."""
    latency: Histogram = field(default=(), repr=False)


Run = Callable[[Load, int, str, Namespace], list[Measurement]]


def cores() -> tuple[int, int]:
    """Return the target's core and the load generator's."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:  # noqa: PLR2004 - two of them
        raise SystemExit("this needs two processor cores: one for the target, one for the load")
    return mine[0], mine[1]


def wait_for_calm(share: float, patience: float) -> None:
    """Return when both cores were left alone for a second, but for `share` of it, or after `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = [processes.core_busy(core) for core in cores()]
        time.sleep(1)
        if max(processes.core_busy(core) - was for core, was in zip(cores(), before, strict=True)) <= share:
            return


def measure(load: Load, root: int, name: str, case: str, options: Options) -> Measurement:
    """Do one run and return what it cost the processes below `root`."""
    tree, both = processes.tree(root), cores()
    busy = [processes.core_busy(core) for core in both]
    cpu, mine = processes.cpu(tree), processes.cpu([load.pid])
    (user, system), begin = processes.user_and_system(tree), time.monotonic()
    answer = load.run(case, **options)
    spent, mine = processes.cpu(tree) - cpu, processes.cpu([load.pid]) - mine
    user_after, system_after = processes.user_and_system(tree)
    ticks, took = user_after - user + system_after - system, time.monotonic() - begin
    busy = [processes.core_busy(core) - before for core, before in zip(both, busy, strict=True)]
    histogram = [(int(value), int(count)) for value, count in answer["latency"]]
    return Measurement(
        target=name,
        case=case,
        clients=answer["clients"],
        size=int(options["size"]),
        cpu=spent / 1000 / max(answer["messages"], 1),
        user=(user_after - user) / ticks if ticks else 0.0,
        rate=answer["messages"] / answer["seconds"],
        p50=percentile(histogram, 0.5),
        p99=percentile(histogram, 0.99),
        p999=percentile(histogram, 0.999),
        target_busy=spent / 1e9 / answer["seconds"],
        load_busy=answer["busy"],
        others=max(0.0, busy[0] - spent / 1e9, busy[1] - mine / 1e9) / took,
        memory=processes.memory(tree),
        behind=answer["behind"],
        faults={fault: answer[fault] for fault in FAULTS if answer[fault]},
        latency=histogram,
    )


def options(chosen: Namespace, **others: float) -> Options:
    """Return the options of a run."""
    return {
        "seconds": chosen.seconds,
        "window": chosen.window,
        "connections": chosen.connections,
        "size": chosen.size,
        "rate": chosen.rate,
        "delay": chosen.delay,
        **others,
    }


def warm_up(load: Load, case: str, chosen: Namespace) -> None:
    """Run for a while without measuring, in the closed loop."""
    load.run(case, **options(chosen, seconds=chosen.warmup, rate=0))


def plain(case: str) -> Run:
    """Return what warms up and then measures one case."""

    def run(load: Load, root: int, name: str, chosen: Namespace) -> list[Measurement]:
        if case != "connect":
            load.open(chosen.clients)
        warm_up(load, case, chosen)
        return [measure(load, root, name, case, options(chosen))]

    return run


def large(load: Load, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure large messages, each way."""
    load.open(chosen.clients)
    results = []
    for case in ("push", "message"):
        warm_up(load, case, chosen)
        one = measure(load, root, name, case, options(chosen))
        one.case = f"large {case}"
        one.extra["MiB a second"] = one.rate * chosen.size / (1 << 20)
        results.append(one)
    return results


def idle(load: Load, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure what many idle clients cost: in memory, and in the latency of pushes to a few others."""

    def timed(clients: int) -> Measurement:
        load.open(clients)
        warm_up(load, "push", chosen)
        one = measure(load, root, name, "push", options(chosen, active=FEW, rate=chosen.rate or 1000))
        one.case = f"push to {FEW} of {clients}"
        return one

    def talk(clients: int) -> None:
        for case in ("message", "push"):
            load.run(case, **options(chosen, count=clients, rate=0))

    few = timed(FEW)
    talk(FEW)
    before = processes.memory(processes.tree(root))
    load.open(chosen.clients)
    opened = processes.memory(processes.tree(root))
    many = timed(chosen.clients)
    talk(chosen.clients)
    talked = processes.memory(processes.tree(root))
    more = chosen.clients - FEW
    many.extra = {"bytes of an idle client": (opened - before) / more, "after it talked": (talked - before) / more}
    return [few, many]


RUNS: dict[str, Run] = {
    "push": plain("push"),
    "message": plain("message"),
    "echo": plain("echo"),
    "connect": plain("connect"),
    "idle": idle,
    "large": large,
}


def once(target: Target, case: str, chosen: Namespace) -> list[Measurement]:
    """Start `target`, measure it once and stop it. TargetError: it did not start, or ended."""
    target_core, load_core = cores()
    chosen = Namespace(**{**vars(chosen), "clients": min(chosen.clients, target.most)})
    with place(chosen.api_connections) as where:
        settings = [f"core={load_core}", *target.load_settings(where)]
        with closing(Load(settings)) as load, running(target, where, target_core) as root:
            try:
                return RUNS[case](load, root, target.name, chosen)
            except (FileNotFoundError, ProcessLookupError) as error:
                raise TargetError("it ended while it was measured") from error


def problems(measured: Sequence[Measurement]) -> list[str]:
    """Return why these figures cannot be believed."""
    found = []
    for one in measured:
        found += [f"{count} {fault}" for fault, count in one.faults.items()]
        if one.behind > 0.1:  # noqa: PLR2004 - seconds
            found.append(f"{one.behind:.1f} s behind: the rate is too high")
        if one.load_busy > 0.9:  # noqa: PLR2004 - share
            found.append("the load generator had no time left: the rate is its own")
    return found
