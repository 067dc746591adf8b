"""How cost grows: with clients, with the size of messages, with connections to and from the backend, with its latency.

Closed loops, as in the other comparisons; each value is the median of the repeats.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import Series, arguments_of, finish, markdown, parser_of, prepare, present
from benchmarks.measure import Measurement
from benchmarks.plots import grown

MEBIBYTE = 1 << 20
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
        "connections of and to the backend",
        ("push", "message"),
        tuple(
            {"connections": number, "api_connections": number, "window": number}
            for number in (1, 10, 32, 100, 300, 1000)
        ),
    ),
    "delay": (
        "seconds that the backend takes",
        ("message", "echo"),
        tuple(
            {"delay": seconds, "connections": 1000, "api_connections": 1000, "window": 1000}
            for seconds in (0, 0.001, 0.01, 0.1, 1)
        ),
    ),
}
"""What grows: its name, the cases, and the options of each step, of which the first names the step."""

HEADS = ("CPU each", "per second", "p50", "p99", "memory", "target busy", "load busy")


def step_of(options: dict[str, Any]) -> tuple[str, float]:
    """Return what names a step: the first of its options."""
    name, value = next(iter(options.items()))
    return name, float(value)


def cells(some: Sequence[Measurement]) -> list[str]:
    """Return the medians of the runs of one step."""
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
    """Return what was measured in one series: by case and target, by step."""
    sorted_out: dict[tuple[str, str], dict[float, list[Measurement]]] = {}
    for one in results:
        if f"series {name}" in one.extra:
            steps_of_one = sorted_out.setdefault((one.case, one.target), {})
            steps_of_one.setdefault(one.extra[f"series {name}"], []).append(one)
    return sorted_out


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
    """Draw each series: CPU time, and p99."""
    for name, (axis, _, _) in SERIES.items():
        found = steps(results, name)
        for value, unit in (("cpu", "CPU time each (µs)"), ("p99", "p99 (µs)"), ("rate", "a second")):
            lines = {
                f"{target}, {case}": [(x, median(getattr(one, value) for one in some)) for x, some in by_step.items()]
                for (case, target), by_step in found.items()
            }
            if lines:
                grown(folder / f"growth-{name}-{value}.svg", lines, axis, unit)


def main(arguments: Sequence[str]) -> None:
    """Run the series."""
    parser = parser_of("growth", __doc__ or "")
    parser.add_argument("--series", default=",".join(SERIES), help=f"of {','.join(SERIES)}")
    parser.set_defaults(repeats=3, seconds=2.0)
    chosen = parser.parse_args(arguments)
    names = chosen.series.split(",")
    if unknown := set(names) - set(SERIES):
        parser.error(f"no series is called {', '.join(sorted(unknown))}")
    prepare()
    targets = present(chosen.target)
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
        before = len(series.results)
        series.add(target, case, arguments_of(case, Namespace(**{**vars(chosen), **options})), turn)
        for one in series.results[before:]:
            one.extra[f"series {name}"] = step_of(options)[1]
    print(tables(series.results, names))
    finish(chosen, targets, series, draw)
