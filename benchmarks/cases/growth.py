"""How costs grow with the number of clients, the size of messages, the connections of the backend, and its latency.

Each step is a closed loop, as in the other comparisons; each figure is the median of the repeats.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.comparison.measurement import Measurement
from benchmarks.comparison.plots import draw_growth
from benchmarks.comparison.series import Series, finish, parser_of, prepare, with_defaults
from benchmarks.comparison.workloads import WORKLOADS
from benchmarks.report import MEBIBYTE, markdown

SERIES: dict[str, tuple[str, tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    "clients": (
        "clients",
        ("push", "message"),
        tuple({"clients": number} for number in (1, 10, 100, 1000, 5000, 10_000, 19_000)),
    ),
    "size": (
        "bytes of a message",
        ("push", "message"),
        tuple(
            {"size": 1 << power, "clients": 100, "window": 8 if power > 16 else 32}  # noqa: PLR2004 - 64 KiB
            for power in (4, 6, 8, 10, 12, 14, 16, 18, 20)
        ),
    ),
    "connections": (
        "connections from and to the backend",
        ("push", "message"),
        tuple(
            {"connections": number, "api_connections": number, "window": number}
            for number in (1, 10, 32, 100, 300, 1000)
        ),
    ),
    "delay": (
        "seconds that the backend takes to answer",
        ("message", "echo"),
        tuple(
            {"delay": seconds, "connections": 1000, "api_connections": 1000, "window": 1000}
            for seconds in (0, 0.001, 0.01, 0.1, 1)
        ),
    ),
}
"""By the name of what grows: a heading, the workloads, and the options of each step. The first option is what grows."""

HEADS = ("CPU each", "per second", "p50", "p99", "memory", "target busy", "load busy")


def value_of(options: dict[str, Any]) -> float:
    """Return the value of what grows in a step: the first of its options."""
    return float(next(iter(options.values())))


def cells(some: Sequence[Measurement]) -> list[str]:
    """Return the cells of one step: the medians of its runs."""
    return [
        f"{median(one.cpu for one in some):.1f} µs",
        f"{median(one.rate for one in some):,.0f}",
        f"{median(one.p50 for one in some):,.0f} µs",
        f"{median(one.p99 for one in some):,.0f} µs",
        f"{median(one.memory for one in some) / MEBIBYTE:.1f} MiB",
        f"{median(one.target_busy for one in some):.0%}",
        f"{median(one.load_busy for one in some):.0%}",
    ]


def steps(results: Sequence[Measurement], name: str) -> dict[tuple[str, str], dict[float, list[Measurement]]]:
    """Return the measurements of one series, by case and target and then by step."""
    found: dict[tuple[str, str], dict[float, list[Measurement]]] = {}
    for one in results:
        if f"series {name}" in one.extra:
            steps_of_one = found.setdefault((one.case, one.target), {})
            steps_of_one.setdefault(one.extra[f"series {name}"], []).append(one)
    return found


def tables(results: Sequence[Measurement], names: Sequence[str]) -> str:
    """Return one Markdown table for each series."""
    texts = []
    for name in names:
        rows = [
            [case, target, f"{value:,g}", *cells(some)]
            for (case, target), by_step in steps(results, name).items()
            for value, some in by_step.items()
        ]
        texts.append(markdown(["case", "target", SERIES[name][0], *HEADS], rows))
    return "\n\n".join(texts)


def draw(folder: Path, results: Sequence[Measurement]) -> None:
    """Draw the CPU time, the p99 and the rate of each series."""
    for name, (axis, _, _) in SERIES.items():
        by_case = steps(results, name)
        for value, unit in (("cpu", "CPU time each (µs)"), ("p99", "p99 (µs)"), ("rate", "a second")):
            lines = {
                f"{target}, {case}": [(x, median(getattr(one, value) for one in some)) for x, some in by_step.items()]
                for (case, target), by_step in by_case.items()
            }
            if lines:
                draw_growth(folder / f"growth-{name}-{value}.svg", lines, axis, unit)


def main(arguments: Sequence[str]) -> None:
    """Run the series."""
    parser = parser_of("growth", __doc__ or "")
    parser.add_argument("--series", default=",".join(SERIES), help=f"any of {','.join(SERIES)}")
    parser.set_defaults(repeats=3, seconds=2.0)
    chosen = parser.parse_args(arguments)
    names = chosen.series.split(",")
    if unknown := set(names) - set(SERIES):
        parser.error(f"unknown series {', '.join(sorted(unknown))}; known are {', '.join(SERIES)}")
    targets = prepare(chosen.targets)
    runs = [
        (target, case, name, options, turn)
        for name in names
        for options in SERIES[name][2]
        for case in SERIES[name][1]
        for turn in range(chosen.repeats)
        for target in targets
        if options.get("size", 0) <= target.largest and options.get("clients", 0) <= target.most
    ]
    series = Series(len(runs))
    for target, case, name, options, turn in runs:
        own = with_defaults(WORKLOADS[case], Namespace(**{**vars(chosen), **options}))
        for one in series.add(target, case, own, turn):
            one.extra[f"series {name}"] = value_of(options)
    print(tables(series.results, names))
    finish(chosen, targets, series, draw)
