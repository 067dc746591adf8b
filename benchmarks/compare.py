"""Gateways side by side under one load: `python -m benchmarks push,message,echo --target wsaas,nchan`.

Each run starts its target afresh, on a core of its own; the runs of the targets take turns. A run that lost, reordered,
repeated or damaged a message is wrong however fast it was: the program then ends with status 1.
"""

import json
import platform
import resource
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.load import LoadError, NoCompilerError, build
from benchmarks.measure import Measurement, once, problems, wait_for_calm
from benchmarks.targets import TARGETS, named
from benchmarks.targets.base import Target, TargetError

MEBIBYTE = 1 << 20
TRIES = 10
"""Most runs for one that nobody disturbed."""
PATIENCE = 60
"""Seconds to wait before a run for others to be done."""

DEFAULTS: dict[str, dict[str, int]] = {
    "idle": {"clients": 10_000},
    "large": {"clients": 100, "size": MEBIBYTE, "window": 8},
}
ORDINARY = {"clients": 1000, "size": 128, "window": 32}
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
    ("others", lambda one: one.others * 100, "{:.0f} %"),
)


def tell(text: str) -> None:
    """Show progress."""
    print(text, file=sys.stderr, flush=True)


def present(names: str) -> list[Target]:
    """Return the targets that are installed, of `names` with commas; say how to install the others."""
    targets = []
    for name in names.split(","):
        try:
            target = named(name)
        except KeyError:
            sys.exit(f"no target is called {name}; there are {', '.join(TARGETS)}")
        if target.missing():
            tell(f"{name} is not installed, and skipped; to install it: {target.install}")
        else:
            targets.append(target)
    return targets


def prepare() -> None:
    """Build the load generator and allow as many connections as the system does."""
    try:
        build()
    except NoCompilerError as error:
        sys.exit(str(error))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Series:
    """Runs, what they measured, and whether all went `well`."""

    def __init__(self, runs: int) -> None:
        """Expect so many runs."""
        self.results: list[Measurement] = []
        self.well = True
        self._runs = runs
        self._done = 0

    def add(self, target: Target, case: str, chosen: Namespace, turn: int) -> None:
        """Do one run, again while others disturb it, and show how it went."""
        self._done += 1
        head = f"[{self._done}/{self._runs}] {target.name}"
        measured: list[Measurement] = []
        for left in reversed(range(TRIES)):
            if chosen.calm < 1:
                wait_for_calm(chosen.calm, PATIENCE)
            try:
                measured = once(target, case, chosen)
            except (LoadError, TargetError) as error:
                tell(f"{head} {case}: {error}")
                self.well = False
                return
            others = max(one.others for one in measured)
            if others <= chosen.calm:
                break
            tell(f"{head} {case}: others had {others:.0%} of a core{', again' if left else ''}")
        for one in measured:
            one.turn = turn
            tell(
                f"{head} {one.case}, {one.clients} clients, {one.size} B: {one.cpu:.1f} us, {one.rate:.0f}/s, "
                f"p50 {one.p50:.0f} us, p99 {one.p99:.0f} us, "
                f"target {one.target_busy:.0%}, load {one.load_busy:.0%}, others {one.others:.0%}"
            )
            self.well = self.well and not one.faults
        for problem in problems(measured):
            tell(f"{head} {case}: {problem.upper()}")
        self.results += measured


def table(results: Sequence[Measurement]) -> str:
    """Return Markdown tables of the medians; of the CPU time the least and the most, too.

    The last column is the median of the ratios within a turn: of a machine whose speed drifts it says the most.
    """
    heads = ["case", "target", *(name for name, _, _ in COLUMNS), "CPU least", "most", "times the first"]
    rows, extras = [], []
    for case, target in dict.fromkeys((one.case, one.target) for one in results):
        mine = [one for one in results if (one.case, one.target) == (case, target)]
        cells = [form.format(median(value(one) for one in mine)) for _, value, form in COLUMNS]
        cpus = [one.cpu for one in mine]
        first = {one.turn: one.cpu for one in results if (one.case, one.target) == (case, results[0].target)}
        ratios = [one.cpu / first[one.turn] for one in mine if one.turn in first]
        ratio = f"{median(ratios):.2f}" if ratios else ""
        rows.append([case, target, *cells, f"{min(cpus):.1f}", f"{max(cpus):.1f}", ratio])
        extras += [[case, target, name, f"{median(one.extra[name] for one in mine):,.0f}"] for name in mine[0].extra]
    text = markdown(heads, rows)
    return f"{text}\n\n{markdown(['case', 'target', '', ''], extras)}" if extras else text


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def describe(chosen: Namespace, targets: Sequence[Target], results: Sequence[Measurement]) -> dict[str, Any]:
    """Return all that was measured, and on what."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "options": {name: str(value) for name, value in vars(chosen).items()},
        "machine": {"processor": model[0].partition(": ")[2] if model else "", "kernel": platform.release()},
        "versions": {target.name: target.version() for target in targets},
        "measurements": [asdict(one) for one in results],
    }


def arguments_of(case: str, chosen: Namespace) -> Namespace:
    """Return the options with the defaults of this case."""
    own = Namespace(**vars(chosen))
    for name, value in {**ORDINARY, **DEFAULTS.get(case, {})}.items():
        if getattr(own, name) is None:
            setattr(own, name, value)
    if own.connections is None:
        own.connections = own.window
    return own


def parser_of(program: str, description: str) -> ArgumentParser:
    """Return a parser of the options that all comparisons have."""
    parser = ArgumentParser(prog=f"python -m benchmarks {program}", description=description)
    parser.add_argument("--target", default="wsaas", help=f"of {','.join(TARGETS)}, and wsaas@FOLDER: another checkout")
    parser.add_argument("--clients", type=int, help="default 1,000; for `idle` 10,000, for `large` 100")
    parser.add_argument("--size", type=int, help="bytes of a message; default 128, for `large` 1 MiB")
    parser.add_argument("--window", type=int, help="messages under way; default 32, for `large` 8")
    parser.add_argument("--connections", type=int, help="of the backend, to push; default as the window")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3, help="of a run")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before a run")
    parser.add_argument("--api-connections", type=int, default=128, help="most of the target to the backend")
    parser.add_argument("--rate", type=float, default=0, help="messages a second, whatever is answered (open loop)")
    parser.add_argument("--delay", type=float, default=0, help="seconds that the backend takes to answer")
    parser.add_argument(
        "--calm",
        type=float,
        default=1,
        help="wait for, and repeat a run without, others having less than this share of a core",
    )
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--plots", type=Path, help="folder for pictures")
    return parser


def finish(chosen: Namespace, targets: Sequence[Target], series: Series, plot: Callable[..., None]) -> None:
    """Write what was asked for, and end the program with 1 if not all went well."""
    if chosen.json:
        chosen.json.write_text(json.dumps(describe(chosen, targets, series.results)))
    if chosen.plots:
        chosen.plots.mkdir(parents=True, exist_ok=True)
        plot(chosen.plots, series.results)
    if not series.well:
        sys.exit("not all went well: see above")


def main(cases: Sequence[str], arguments: Sequence[str]) -> None:
    """Run the cases."""
    chosen = parser_of(",".join(cases), __doc__ or "").parse_args(arguments)
    prepare()
    targets = present(chosen.target)
    runs = []
    for case in cases:
        own = arguments_of(case, chosen)
        for target in targets:
            if own.size > target.largest:
                tell(f"{target.name} takes messages of {target.largest} bytes at most, and is left out of {case}")
        able = [target for target in targets if own.size <= target.largest]
        runs += [(target, case, own, turn) for turn in range(chosen.repeats) for target in able]
    series = Series(len(runs))
    for run in runs:
        series.add(*run)
    print(table(series.results))
    from benchmarks.plots import compared  # noqa: PLC0415 - needs matplotlib only to draw

    finish(chosen, targets, series, compared)
