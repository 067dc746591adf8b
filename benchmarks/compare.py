"""Gateways side by side under one load: `python -m benchmarks push,message,echo --target wsaas,nchan`.

Each run starts its target afresh, on a core of its own; the runs of the targets take turns. A run that lost, reordered,
repeated or damaged a message is wrong however fast it was: the program then ends with status 1.
"""

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import processes
from benchmarks.histogram import Histogram, percentile
from benchmarks.load import Load, LoadError, NoCompilerError
from benchmarks.targets import TARGETS, named
from benchmarks.targets.base import CASES, Target, TargetError, place, running

FAULTS = ("lost", "reordered", "unexpected", "corrupted", "refused", "broken")
MEBIBYTE = 1 << 20


@dataclass
class Measurement:
    """One run of one target. Times are in microseconds, memory in bytes."""

    target: str
    case: str
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
    """Share of the time in which the target was running."""
    load_busy: float
    """Share of the time in which the load generator found something to do."""
    memory: int
    faults: dict[str, int]
    behind: float
    """Seconds by which an open loop was late in the end."""
    latency: Histogram = field(repr=False)


def measure(load: Load, root: int, options: dict[str, float], name: str, case: str) -> Measurement:
    """Do one run and return what it cost the processes below `root`."""
    tree = processes.tree(root)
    cpu, (user, system) = processes.cpu(tree), processes.user_and_system(tree)
    answer = load.run(case, **options)
    spent, (user_after, system_after) = processes.cpu(tree) - cpu, processes.user_and_system(tree)
    ticks = user_after - user + system_after - system
    histogram = [(int(value), int(count)) for value, count in answer["latency"]]
    return Measurement(
        target=name,
        case=case,
        cpu=spent / 1000 / max(answer["messages"], 1),
        user=(user_after - user) / ticks if ticks else 0.0,
        rate=answer["messages"] / answer["seconds"],
        p50=percentile(histogram, 0.5),
        p99=percentile(histogram, 0.99),
        p999=percentile(histogram, 0.999),
        target_busy=spent / 1e9 / answer["seconds"],
        load_busy=answer["busy"],
        memory=processes.memory(tree),
        faults={fault: answer[fault] for fault in FAULTS if answer[fault]},
        behind=answer["behind"],
        latency=histogram,
    )


def once(target: Target, case: str, chosen: Namespace) -> list[Measurement]:
    """Start `target` and measure it once."""
    target_core, load_core = cores()
    with place(chosen.api_connections) as where:
        settings = [f"core={load_core}", *target.load_settings(where)]
        with closing(Load(settings)) as load, running(target, where, target_core) as root:
            return RUNS[case](load, root, target.name, chosen)


def options(chosen: Namespace, **others: float) -> dict[str, float]:
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


def plain(case: str) -> Callable[[Load, int, str, Namespace], list[Measurement]]:
    """Return what warms up and then measures one case."""

    def run(load: Load, root: int, name: str, chosen: Namespace) -> list[Measurement]:
        if case != "connect":
            load.open(chosen.clients)
        load.run(case, **options(chosen, seconds=chosen.warmup, rate=0))
        return [measure(load, root, options(chosen), name, case)]

    return run


RUNS: dict[str, Callable[[Load, int, str, Namespace], list[Measurement]]] = {
    case: plain(case) for case in ("push", "message", "echo", "connect")
}


def cores() -> tuple[int, int]:
    """Return the target's core and the load generator's."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:  # noqa: PLR2004 - two of them
        raise SystemExit("this needs two processor cores: one for the target, one for the load")
    return mine[0], mine[1]


def tell(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def present(names: Sequence[str]) -> list[Target]:
    """Return the targets that are installed; say how to install the others."""
    targets = []
    for name in names:
        target = named(name)
        if target.missing():
            tell(f"{name} is not installed, and skipped; to install it: {target.install}")
        else:
            targets.append(target)
    return targets


def compare(case: str, targets: Sequence[Target], chosen: Namespace) -> tuple[list[Measurement], bool]:
    """Measure `case` of each of `targets` in turn; return what was measured, and whether all went well."""
    results: list[Measurement] = []
    fine = True
    for repeat in range(chosen.repeats):
        for target in targets:
            if case not in target.cases:
                continue
            head = f"{case} {repeat + 1}/{chosen.repeats} {target.name}"
            try:
                measured = once(target, case, chosen)
            except (LoadError, TargetError) as error:
                tell(f"{head}: {error}")
                fine = False
                continue
            for one in measured:
                faults = "".join(f"; {count} {fault.upper()}" for fault, count in one.faults.items())
                late = f"; {one.behind:.2f} s BEHIND" if one.behind > chosen.seconds / 100 else ""
                tell(
                    f"{head} {one.case}: {one.cpu:.1f} us, {one.rate:.0f}/s, "
                    f"p50 {one.p50:.0f} us, p99 {one.p99:.0f} us, target busy {one.target_busy:.0%}, "
                    f"load busy {one.load_busy:.0%}{faults}{late}"
                )
                fine = fine and not one.faults
            results += measured
    return results, fine


COLUMNS: tuple[tuple[str, Callable[[Measurement], float], str], ...] = (
    ("CPU each", lambda one: one.cpu, "{:.1f} µs"),
    ("of it user", lambda one: one.user * 100, "{:.0f} %"),
    ("per second", lambda one: one.rate, "{:,.0f}"),
    ("p50", lambda one: one.p50, "{:,.0f} µs"),
    ("p99", lambda one: one.p99, "{:,.0f} µs"),
    ("p99.9", lambda one: one.p999, "{:,.0f} µs"),
    ("memory", lambda one: one.memory / MEBIBYTE, "{:.1f} MiB"),
    ("target busy", lambda one: one.target_busy * 100, "{:.0f} %"),
    ("load busy", lambda one: one.load_busy * 100, "{:.0f} %"),
)


def table(results: Sequence[Measurement]) -> str:
    """Return a Markdown table of the medians; of the CPU time the least and the most, too."""
    lines = [
        f"| case | target | {' | '.join(name for name, _, _ in COLUMNS)} | CPU from | to |",
        "| --- " * (len(COLUMNS) + 4) + "|",
    ]
    for case, target in dict.fromkeys((one.case, one.target) for one in results):
        mine = [one for one in results if (one.case, one.target) == (case, target)]
        cells = [form.format(median(value(one) for one in mine)) for _, value, form in COLUMNS]
        cpus = [one.cpu for one in mine]
        lines.append(f"| {case} | {target} | {' | '.join(cells)} | {min(cpus):.1f} | {max(cpus):.1f} |")
    return "\n".join(lines)


def parse(arguments: Sequence[str], cases: Sequence[str]) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(prog=f"python -m benchmarks {','.join(cases)}", description=__doc__)
    parser.add_argument("--target", default="wsaas", help=f"of {','.join(TARGETS)}, and wsaas@FOLDER: another checkout")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128, help="bytes of a message")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of a run")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before a run")
    parser.add_argument("--window", type=int, default=32, help="messages under way")
    parser.add_argument("--connections", type=int, default=32, help="of the backend, to push")
    parser.add_argument("--api-connections", type=int, default=128, help="most of the target to the backend")
    parser.add_argument("--rate", type=float, default=0, help="messages a second, whatever is answered (open loop)")
    parser.add_argument("--delay", type=float, default=0, help="seconds that the backend takes to answer")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    return parser.parse_args(arguments)


def main(cases: Sequence[str], arguments: Sequence[str]) -> None:
    """Run the cases."""
    chosen = parse(arguments, cases)
    try:
        targets = present(chosen.target.split(","))
    except KeyError as error:
        sys.exit(f"no target is called {error}")
    results: list[Measurement] = []
    fine = True
    for case in cases:
        try:
            more, well = compare(case, targets, chosen)
        except NoCompilerError as error:
            sys.exit(str(error))
        results += more
        fine = fine and well
    print(table(results))
    if chosen.json:
        described: dict[str, Any] = {
            "options": {name: str(value) for name, value in vars(chosen).items()},
            "versions": {target.name: target.version() for target in targets},
            "measurements": [asdict(one) for one in results],
        }
        chosen.json.write_text(json.dumps(described))
    if not fine:
        sys.exit("not all went well: see above")


__all__ = ["CASES", "main"]
