"""Gateways side by side under one load: `python -m benchmarks push,message,echo --target wsaas,nchan`.

Each run starts its target afresh, on a core of its own; the targets take turns. A target that lost, reordered, repeated
or damaged a message is wrong, however fast it was: the program then ends with status 1.
"""

from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.comparison.measurement import Measurement
from benchmarks.comparison.plots import draw_comparison
from benchmarks.comparison.series import Series, finish, parser_of, prepare, with_defaults
from benchmarks.comparison.workloads import WORKLOADS
from benchmarks.report import MEBIBYTE, markdown, progress

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


def table(results: Sequence[Measurement]) -> str:
    """Return Markdown tables of the medians, and of the CPU time the least and the most as well.

    The last column is the median of the ratios within a turn: it says the most where a machine's speed drifts.
    """
    heads = ["case", "target", *(name for name, _, _ in COLUMNS), "CPU least", "most", "times the first"]
    rows, extras = [], []
    for case, target in dict.fromkeys((one.case, one.target) for one in results):
        own = [one for one in results if (one.case, one.target) == (case, target)]
        cells = [form.format(median(value(one) for one in own)) for _, value, form in COLUMNS]
        cpu = [one.cpu for one in own]
        first = {one.turn: one.cpu for one in results if (one.case, one.target) == (case, results[0].target)}
        ratios = [one.cpu / first[one.turn] for one in own if one.turn in first]
        ratio = f"{median(ratios):.3f}" if ratios else ""
        rows.append([case, target, *cells, f"{min(cpu):.1f}", f"{max(cpu):.1f}", ratio])
        extras += [[case, target, name, f"{median(one.extra[name] for one in own):,.0f}"] for name in own[0].extra]
    text = markdown(heads, rows)
    return f"{text}\n\n{markdown(['case', 'target', '', ''], extras)}" if extras else text


def main(arguments: Sequence[str], workloads: Sequence[str]) -> None:
    """Run `workloads`."""
    chosen = parser_of(",".join(workloads), __doc__ or "").parse_args(arguments)
    targets = prepare(chosen.targets)
    runs = []
    for case in workloads:
        own = with_defaults(WORKLOADS[case], chosen)
        able = [target for target in targets if WORKLOADS[case].suits(target) and own.size <= target.largest]
        for target in targets:
            if not WORKLOADS[case].suits(target):
                progress(f"{target.name} has no such request, and is left out of {case}")
            elif target not in able:
                progress(f"{target.name} takes messages of {target.largest} bytes at most, and is left out of {case}")
        runs += [(target, case, own, turn) for turn in range(chosen.repeats) for target in able]
    series = Series(len(runs))
    for run in runs:
        series.add(*run)
    print(table(series.results))
    finish(chosen, targets, series, draw_comparison)
