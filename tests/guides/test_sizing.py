"""The figures of docs/sizing.md are measured ones, and its example is calculated correctly."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SIZING = (ROOT / "docs" / "sizing.md").read_text()
MEASURED = " ".join((ROOT / "docs" / name).read_text() for name in ("performance.md", "operations.md"))


def test_each_figure_is_measured() -> None:
    text = SIZING.partition("## Connections to the backend")[0]
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| [^|]*(?:benchmarks|calculation|likewise)[^|]* \|$", text, re.MULTILINE)
    figures = {figure for row in rows for figure in re.findall(r"\d[\d,.]*\d", row)}
    assert len(figures) > 12
    assert {figure for figure in figures if figure not in MEASURED} == set()


def test_the_products_and_the_sum_of_the_example_are_right() -> None:
    example = SIZING.partition("## A worked example")[2]
    rows = re.findall(r"\| ([\d,]+) \u00d7 ([\d.]+) (µs|KB) \| (\d+) (ms|MB) \|", example)
    assert len(rows) == 9
    for count, factor, _unit, product, _sum_unit in rows:
        assert round(float(count.replace(",", "")) * float(factor) / 1000) == int(product), (count, factor)
    assert f"That is {sum(int(row[3]) for row in rows if row[4] == 'ms')} ms in each second" in example
