"""What a cluster costs: CPU time of all its nodes, on one core, for pushes and messages of clients of the first node.

A push goes to the node of its client, or to another one, which forwards it. Needs NATS, whose CPU time is not counted.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.comparison.measurement import Measurement, measure
from benchmarks.comparison.plots import draw_cpu
from benchmarks.comparison.ratios import table
from benchmarks.comparison.series import Series, finish, parser_of, prepare, with_defaults
from benchmarks.comparison.workloads import Workload, options, warm_up
from benchmarks.load_generator import LoadGenerator
from benchmarks.nats_server import INSTALL, nats_server
from benchmarks.targets.nodes import Nodes
from benchmarks.targets.wsaas import Wsaas

MESSAGE, RIGHT, WRONG = "message", "push to the node of the client", "push to another node"


def all_cases(load: LoadGenerator, root: int, name: str, chosen: Namespace) -> list[Measurement]:
    """Measure messages, and pushes to either node."""
    load.open(chosen.clients)
    warm_up(load, MESSAGE, chosen)
    results = [measure(load, root, name, MESSAGE, options(chosen))]
    for misdirect, case in enumerate((RIGHT, WRONG)):
        load.run("push", **options(chosen, seconds=chosen.warmup, rate=0, misdirect=misdirect))
        one = measure(load, root, name, "push", options(chosen, misdirect=misdirect))
        one.case = case
        results.append(one)
    return results


CASE = "nodes"
WORKLOADS = {CASE: Workload("messages, and pushes to the node of the client and to another one", all_cases)}


def draw(folder: Path, results: Sequence[Measurement]) -> None:
    """Draw the CPU time of each case."""
    draw_cpu(folder / "nodes-cpu.svg", results)


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    parser = parser_of(CASE, __doc__ or "")
    chosen = parser.parse_args(arguments)
    if not all(isinstance(target, Wsaas) for target in chosen.targets):
        parser.error("this case measures only wsaas and wsaas@FOLDER")
    prepare(chosen.targets)
    with TemporaryDirectory() as folder, nats_server(Path(folder)) as nats:
        if nats is None:
            raise SystemExit(f"error: this case needs a NATS server; to install it: {INSTALL}")
        runs = [
            (Nodes(number, target, nats), turn)
            for turn in range(chosen.repeats)
            for target in chosen.targets
            for number in (1, 2)
        ]
        series = Series(len(runs), WORKLOADS)
        for target, turn in runs:
            series.add(target, CASE, with_defaults(WORKLOADS[CASE], chosen), turn)
    print(table(series.results, (MESSAGE, RIGHT, WRONG), "cpu"))
    finish(chosen, chosen.targets, series, draw)
