"""Tables that compare targets with the first one, turn by turn."""

from collections.abc import Sequence
from statistics import median

from benchmarks.comparison.measurement import Measurement
from benchmarks.report import MEBIBYTE, markdown

HEADS = {"cpu": "CPU each, µs", "rate": "per second"}
FORMS = {"cpu": "{:.1f}", "rate": "{:,.0f}"}


def in_words(values: Sequence[float], form: str) -> str:
    """Return the median of `values`, the least and the most; nothing if there are none."""
    if not values:
        return ""
    return f"{form.format(median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def ratios(some: Sequence[Measurement], first: Sequence[Measurement], value: str) -> list[float]:
    """Return how many times the `value` of `first` that of `some` is, turn by turn."""
    base = {one.turn: getattr(one, value) for one in first}
    return [getattr(one, value) / base[one.turn] for one in some if one.turn in base]


def cells(some: Sequence[Measurement], first: Sequence[Measurement], value: str) -> list[str]:
    """Return the cells about one case and target: the `value`, the other one of CPU time and rate, and the rest."""
    rest = "rate" if value == "cpu" else "cpu"
    return [
        in_words([getattr(one, value) for one in some], FORMS[value]),
        in_words(ratios(some, first, value), "{:.2f}"),
        FORMS[rest].format(median(getattr(one, rest) for one in some)),
        f"{median(one.target_busy for one in some):.0%}",
        f"{median(one.load_busy for one in some):.0%}",
        f"{median(one.others for one in some):.0%}",
        f"{median(one.memory for one in some) / MEBIBYTE:.0f} MiB",
    ]


def table(results: Sequence[Measurement], cases: Sequence[str], value: str) -> str:
    """Return a Markdown table with the `value` of each target, and how many times that of the first target it is."""
    rows = []
    for case in cases:
        by_target: dict[str, list[Measurement]] = {}
        for one in results:
            if one.case == case:
                by_target.setdefault(one.target, []).append(one)
        for target, some in by_target.items():
            rows.append([case, target, *cells(some, next(iter(by_target.values())), value)])
    names = [HEADS[value], "times the first", HEADS["rate" if value == "cpu" else "cpu"]]
    return markdown(["case", "target", *names, "target busy", "load busy", "others", "memory"], rows)
