"""Many runs of several targets in turn: options, progress, and what to do with the results."""

import json
import platform
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.comparison.measurement import Measurement, problems
from benchmarks.comparison.workloads import USUAL, WORKLOADS, Workload, run_once
from benchmarks.load_generator import LoadError, NoCompilerError, build
from benchmarks.machine import raise_descriptor_limit, undisturbed
from benchmarks.report import progress
from benchmarks.targets import TARGETS, targets_named
from benchmarks.targets.base import Target, TargetError

TRIES = 10
"""Maximum number of attempts to get a run that other programs do not disturb."""


def parser_of(program: str, description: str) -> ArgumentParser:
    """Return a parser of the options that all comparisons have."""
    parser = ArgumentParser(prog=f"python -m benchmarks {program}", description=description)
    add = parser.add_argument
    names = f"any of {','.join(TARGETS)}, and wsaas@FOLDER for another checkout"
    add("--target", dest="targets", type=targets_named, default="wsaas", help=names)
    add("--clients", type=int, help="default 1,000; for idle, fanout and beside 10,000, for large 100")
    add("--size", type=int, help="bytes of a message; default 128, for large 1 MiB")
    add("--window", type=int, help="messages under way; default 32, for large 8")
    add("--connections", type=int, help="of the backend, for pushes; default: the window")
    add("--repeats", type=int, default=5)
    add("--seconds", type=float, default=3, help="length of a run")
    add("--warmup", type=float, default=1, help="seconds of load before a run")
    add("--api-connections", type=int, default=128, help="maximum number of connections from the target to the backend")
    add("--rate", type=float, default=0, help="messages a second, sent without waiting for answers (open loop)")
    add("--delay", type=float, default=0, help="seconds that the backend takes to answer")
    add("--calm", type=float, default=1, help="repeat a run in which other programs had more than this share of a core")
    add("--json", type=Path, help="file for everything that was measured")
    add("--plots", type=Path, help="folder for pictures")
    return parser


def with_defaults(workload: Workload, chosen: Namespace) -> Namespace:
    """Return the options with the defaults of this workload."""
    own = Namespace(**vars(chosen))
    for name, value in {**USUAL, **workload.defaults}.items():
        if getattr(own, name) is None:
            setattr(own, name, value)
    if own.connections is None:
        own.connections = own.window
    return own


def prepare(targets: Sequence[Target]) -> list[Target]:
    """Build the load generator; return those of `targets` that are installed."""
    try:
        build()
    except NoCompilerError as error:
        raise SystemExit(str(error)) from None
    raise_descriptor_limit()
    for target in targets:
        if target.missing():
            progress(f"{target.name} is not installed, and skipped; to install it: {target.install}")
    return [target for target in targets if not target.missing()]


class Series:
    """Runs and their results. `failed`: a run failed, or a target lost, damaged or reordered a message."""

    def __init__(self, runs: int, workloads: Mapping[str, Workload] = WORKLOADS) -> None:
        """Expect `runs` runs. `workloads`: those of the cases."""
        self.results: list[Measurement] = []
        self.failed = False
        self._runs = runs
        self._workloads = workloads
        self._done = 0

    def add(self, target: Target, case: str, chosen: Namespace, turn: int) -> list[Measurement]:
        """Do one run, repeat it while other programs disturb it, and show its result."""
        self._done += 1
        head = f"[{self._done}/{self._runs}] {target.name}"
        try:
            measured = undisturbed(
                lambda: run_once(target, self._workloads[case], chosen),
                lambda measured: max(one.others for one in measured),
                chosen.calm,
                TRIES,
            )
        except (LoadError, TargetError) as error:
            progress(f"{head} {case}: {error}")
            self.failed = True
            return []
        for one in measured:
            one.turn = turn
            self.failed = self.failed or bool(one.faults)
            progress(
                f"{head} {one.case}, {one.clients} clients, {one.size} B: {one.cpu:.1f} us, {one.rate:.0f}/s, "
                f"p50 {one.p50:.0f} us, p99 {one.p99:.0f} us, "
                f"target {one.target_busy:.0%}, load {one.load_busy:.0%}, others {one.others:.0%}"
            )
        for problem in problems(measured):
            progress(f"{head} {case}: {problem.upper()}")
        self.results += measured
        return measured


def describe(chosen: Namespace, targets: Sequence[Target], results: Sequence[Measurement]) -> dict[str, Any]:
    """Return everything that was measured, and on what machine."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "options": {name: str(value) for name, value in vars(chosen).items()},
        "machine": {"processor": model[0].partition(": ")[2] if model else "", "kernel": platform.release()},
        "versions": {target.name: target.version() for target in targets},
        "measurements": [asdict(one) for one in results],
    }


def finish(
    chosen: Namespace,
    targets: Sequence[Target],
    series: Series,
    draw: Callable[[Path, Sequence[Measurement]], None],
) -> None:
    """Write the files that were asked for. Ends the program with status 1 if a run failed."""
    if chosen.json:
        chosen.json.write_text(json.dumps(describe(chosen, targets, series.results)))
    if chosen.plots:
        chosen.plots.mkdir(parents=True, exist_ok=True)
        draw(chosen.plots, series.results)
    if series.failed:
        sys.exit("a run failed, or a target handled messages wrongly: see above")
