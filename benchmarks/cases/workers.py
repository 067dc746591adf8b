"""What workers cost, and what they bring.

Cost: CPU time of all processes of the gateway for a message, with all of them on one core. A push is answered by the
worker that holds the client, or is passed on to it. On a port that all workers share, that is decided by the kernel. On
ports of their own, the load generator decides: each push goes to the right worker, or each to a wrong one.

Benefit: messages per second where each worker has a CPU quota, so that two cores are enough to measure.
"""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks import processes
from benchmarks.comparison.measurement import Measurement, measure
from benchmarks.comparison.plots import draw_cpu, draw_growth
from benchmarks.comparison.ratios import table
from benchmarks.comparison.series import Series, finish, parser_of, prepare, with_defaults
from benchmarks.comparison.workloads import Workload, options, warm_up
from benchmarks.cpu_quota import QuotaError, cpu_quota
from benchmarks.load_generator import LoadGenerator
from benchmarks.targets.workers import Workers
from benchmarks.targets.wsaas import Wsaas

QUOTA = 0.2
"""Share of a core that each worker may use. Four workers then fit on one core."""

MESSAGE, PUSH, RIGHT, WRONG = "message", "push", "push to the right worker", "push to a wrong worker"
LIMITED = "message under a quota"


def shared(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure messages in each direction, on ports that all workers share."""
    load.open(chosen.clients)
    results = []
    for case in (MESSAGE, PUSH):
        warm_up(load, case, chosen)
        results.append(measure(load, root, name, case, options(chosen)))
    return results


def named(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure pushes to the port that the `ws_uri` names, and to that of another worker."""
    load.open(chosen.clients)
    results = []
    for misdirect, case in enumerate((RIGHT, WRONG)):
        load.run("push", **options(chosen, seconds=chosen.warmup, rate=0, misdirect=misdirect))
        one = measure(load, root, name, "push", options(chosen, misdirect=misdirect))
        one.case = case
        results.append(one)
    return results


def limited(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure messages to the backend while each worker has a quota. The supervisor has none."""
    load.open(chosen.clients)
    workers = processes.tree(root)[1:] or [root]
    with cpu_quota(workers, chosen.quota / 100):
        warm_up(load, "message", chosen)
        one = measure(load, root, name, "message", options(chosen))
    one.case = LIMITED
    one.extra["workers"] = len(workers)
    return [one]


SHARED, NAMED = "shared ports", "a port for each worker"
WORKLOADS = {
    SHARED: Workload("messages in each direction, on ports that all workers share", shared),
    NAMED: Workload("pushes to the port of the right worker, and to that of a wrong one", named),
    # Enough messages under way for each worker to use up its quota while others wait for their next period.
    LIMITED: Workload(
        "messages to the backend, with a quota for each worker", limited, {"clients": 4000, "window": 4000}
    ),
}


def draw(folder: Path, results: Sequence[Measurement]) -> None:
    """Draw the CPU time of each case, and messages per second under a quota over the number of workers."""
    draw_cpu(folder / "workers-cpu.svg", [one for one in results if one.case != LIMITED])
    rates: dict[str, dict[float, list[float]]] = {}
    for one in results:
        if one.case == LIMITED:
            checkout = " ".join(("measured", *one.target.split("@")[1:]))
            rates.setdefault(checkout, {}).setdefault(one.extra["workers"], []).append(one.rate)
    if rates:
        lines = {name: [(workers, median(some)) for workers, some in by.items()] for name, by in rates.items()}
        first, rate = next(iter(lines.values()))[0]
        lines["in proportion to the workers"] = [(x, rate * x / first) for x, _ in next(iter(lines.values()))]
        draw_growth(folder / "workers-quota.svg", lines, "workers", "messages per second")


def counts(text: str) -> list[int]:
    """Parse numbers of workers, separated by commas."""
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise ArgumentTypeError("numbers of workers, with commas")
    return numbers


def check_quotas() -> None:
    """End the program if no quotas can be set here."""
    try:
        with cpu_quota([], QUOTA):
            pass
    except QuotaError as error:
        raise SystemExit(f"error: {error}; --no-quota leaves out what needs them") from None


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = parser_of("workers", __doc__ or "")
    parser.add_argument("--workers", type=counts, default="1,2,4", help="numbers of workers; default 1,2,4")
    parser.add_argument("--quota", type=float, default=QUOTA * 100, help="per cent of a core for each; default 20")
    parser.add_argument("--no-quota", action="store_true", help="leave out what needs control groups")
    chosen = parser.parse_args(arguments)
    if not all(isinstance(target, Wsaas) for target in chosen.targets):
        parser.error("this case measures only wsaas, wsaas+compiled and wsaas@FOLDER")
    if not chosen.no_quota:
        check_quotas()
    prepare(chosen.targets)
    parts = [name for name in WORKLOADS if name != LIMITED or not chosen.no_quota]
    runs = [
        (Workers(number, target, named=part == NAMED), part, turn)
        for part in parts
        for turn in range(chosen.repeats)
        for target in chosen.targets
        for number in chosen.workers
    ]
    series = Series(len(runs), WORKLOADS)
    for target, part, turn in runs:
        series.add(target, part, with_defaults(WORKLOADS[part], chosen), turn)
    print(table(series.results, (MESSAGE, PUSH, RIGHT, WRONG), "cpu"))
    if not chosen.no_quota:
        print(f"\n{table(series.results, (LIMITED,), 'rate')}")
    finish(chosen, chosen.targets, series, draw)
