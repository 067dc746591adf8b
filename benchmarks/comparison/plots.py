"""Pictures of the measurements. They need matplotlib, which is in the dependency group `benchmarks`."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.comparison.histogram import Histogram, merged
from benchmarks.comparison.measurement import Measurement

NINES = (0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def _pyplot() -> Any:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only drawing needs it
    except ImportError:
        raise SystemExit("pictures need matplotlib: python -m pip install matplotlib") from None
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "wsaas"
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the choice of the renderer

    return plt


def _save(plt: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def draw_cpu(path: Path, results: Sequence[Measurement]) -> None:
    """Draw the CPU time of each case, a bar for each target."""
    plt = _pyplot()
    cases = list(dict.fromkeys(one.case for one in results))
    targets = list(dict.fromkeys(one.target for one in results))
    size = (8, 0.6 + (0.5 + 0.25 * len(targets)) * len(cases))
    figure, all_axes = plt.subplots(len(cases), 1, figsize=size, squeeze=False)
    for axes, case in zip(all_axes[:, 0], cases, strict=True):
        there = {one.target for one in results if one.case == case}
        shown = [target for target in reversed(targets) if target in there]
        widths = [median(one.cpu for one in results if (one.case, one.target) == (case, target)) for target in shown]
        axes.bar_label(axes.barh(shown, widths), fmt=" %.1f", fontsize=8)
        axes.set_title(f"{case}: CPU time each (µs)", fontsize=9, loc="left")
        axes.margins(x=0.12)
        axes.spines[["top", "right"]].set_visible(False)
    _save(plt, figure, path)


def draw_comparison(folder: Path, results: Sequence[Measurement]) -> None:
    """Draw the CPU time of each case, and the latencies of all targets for each case."""
    draw_cpu(folder / "cpu.svg", results)
    plt = _pyplot()
    cases = list(dict.fromkeys(one.case for one in results))
    targets = list(dict.fromkeys(one.target for one in results))
    for case in cases:
        figure, axes = plt.subplots(figsize=(7, 4))
        for target in targets:
            histogram = merged(one.latency for one in results if (one.case, one.target) == (case, target))
            if histogram:
                axes.plot(*_nines(histogram), label=target)
        axes.set_title(f"latency of {case}")
        axes.set_xscale("log")
        axes.set_xticks([1 / (1 - share) for share in NINES], [f"{share * 100:g} %" for share in NINES])
        axes.minorticks_off()
        axes.set_yscale("log")
        axes.set_ylabel("µs")
        axes.legend()
        _save(plt, figure, folder / f"latency-{case.replace(' ', '-')}.svg")


def _nines(histogram: Histogram) -> tuple[list[float], list[float]]:
    """Return 1 / (1 - share) for each share of all latencies, and the latency in µs that this share does not exceed."""
    total = sum(count for _, count in histogram)
    seen, across, up = 0, [], []
    for nanoseconds, count in histogram:
        across.append(total / (total - seen))
        up.append(nanoseconds / 1000)
        seen += count
    return across, up


def draw_growth(path: Path, lines: dict[str, list[tuple[float, float]]], axis: str, unit: str) -> None:
    """Draw `lines`, by their names, over a quantity that grows. Axes are logarithmic."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(7, 4))
    for name, points in lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axes.set_xscale("symlog" if any(x == 0 for points in lines.values() for x, _ in points) else "log")
    axes.set_yscale("log")
    axes.set_xlabel(axis)
    axes.set_ylabel(unit)
    axes.legend()
    _save(plt, figure, path)
