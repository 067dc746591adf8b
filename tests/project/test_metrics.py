"""The metrics are described in full."""

import re
from pathlib import Path

from wsaas.metrics.encode import BUILD_HELP, WORKERS_HELP
from wsaas.metrics.table import METRICS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()


def section(title: str) -> str:
    """Return the text under a heading of the page, up to the next heading."""
    text = re.split(rf"^##+ {title}\n", PAGE, flags=re.MULTILINE)[1]
    return re.split(r"^##+ ", text, flags=re.MULTILINE)[0]


def described_rows() -> list[str]:
    """Return the rows of the table in the docs that the code asks for."""
    rows = [
        f"| `wsaas_build_info` | gauge | `version`, `python` | {BUILD_HELP} |",
        f"| `wsaas_workers` | gauge | `state`: `answered`, `missing` | {WORKERS_HELP} |",
    ]
    for metric in METRICS:
        labels = []
        for place, label in enumerate(metric.labels):
            values = dict.fromkeys(labels_of[place] for labels_of in metric.series)
            labels.append(f"`{label}`: " + ", ".join(f"`{value}`" for value in values))
        kind = metric.kind.value
        if metric.bounds:
            kind += ", up to " + ", ".join(f"{bound:g}" for bound in metric.bounds)
        rows.append(f"| `{metric.name}` | {kind} | {'; '.join(labels) or 'none'} | {metric.help} |")
    return rows


def test_the_table_of_metrics_is_that_of_the_code():
    expected = described_rows()
    assert section("All metrics").strip().splitlines()[-len(expected) :] == expected
