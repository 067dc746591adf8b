"""What one run under the load generator measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import processes
from benchmarks.comparison.histogram import Histogram, percentile
from benchmarks.load_generator import LoadGenerator
from benchmarks.machine import CpuMeter, cores

FAULTS = ("lost", "reordered", "unexpected", "corrupted", "refused", "broken")
"""What the load generator counts of a gateway's errors, see its README."""

MOST_BEHIND_S = 0.1
MOST_LOAD_BUSY = 0.9


@dataclass
class Measurement:
    """One run of one target. Times are in microseconds, memory in bytes."""

    target: str
    case: str
    clients: int
    size: int
    """Bytes of a message."""
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
    """Share of a core that other programs had: of the target's or of the load generator's, whichever is more."""
    memory: int
    """Proportional set size at the end."""
    behind: float
    """Seconds by which an open loop was late at the end."""
    faults: dict[str, int]
    """The counts of `FAULTS` that are not zero."""
    turn: int = 0
    """Which of the repeats. The runs of one turn followed each other, so that the machine was much the same."""
    extra: dict[str, float] = field(default_factory=dict)
    """Further figures of this case, by what they are."""
    latency: Histogram = field(default=(), repr=False)


def measure(load: LoadGenerator, root: int, target: str, case: str, options: dict[str, float]) -> Measurement:
    """Do one run and measure what it costs the process `root` and its descendants.

    The latencies are those of the messages beside publishes, where the options ask for such.
    """
    tree = processes.tree(root)
    target_core, load_core = cores()
    user, system = processes.user_and_system(tree)
    meter = CpuMeter((target_core, tree), (load_core, [load.pid]))
    answer: dict[str, Any] = load.run(case, **options)
    usage = meter.read()
    user_after, system_after = processes.user_and_system(tree)
    ticks = user_after - user + system_after - system
    histogram = [(int(value), int(count)) for value, count in answer["beside" if options.get("beside") else "latency"]]
    return Measurement(
        target=target,
        case=case,
        clients=answer["clients"],
        size=int(options["size"]),
        cpu=usage.cpu[0] * 1e6 / max(answer["messages"], 1),
        user=(user_after - user) / ticks if ticks else 0.0,
        rate=answer["messages"] / answer["seconds"],
        p50=percentile(histogram, 0.5),
        p99=percentile(histogram, 0.99),
        p999=percentile(histogram, 0.999),
        target_busy=usage.cpu[0] / answer["seconds"],
        load_busy=answer["busy"],
        others=usage.others,
        memory=processes.memory(tree),
        behind=answer["behind"],
        faults={fault: answer[fault] for fault in FAULTS if answer[fault]},
        latency=histogram,
    )


def problems(measured: Sequence[Measurement]) -> list[str]:
    """Return the reasons why these figures cannot be believed."""
    found = []
    for one in measured:
        found += [f"{count} {fault}" for fault, count in one.faults.items()]
        if one.behind > MOST_BEHIND_S:
            found.append(f"{one.behind:.1f} s behind: the rate is too high")
        if one.load_busy > MOST_LOAD_BUSY:
            found.append("the load generator was busy all the time: the rate is its own")
    return found
