"""The metrics are described in full, and whatever uses them knows their names."""

import json
import re
from pathlib import Path

import pytest
import yaml

from wsaas.metrics.encode import BUILD_HELP, WORKERS_HELP
from wsaas.metrics.metric import HISTOGRAM
from wsaas.metrics.table import METRICS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "metrics.md").read_text()
ALERTS = (ROOT / "docs" / "alerts.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "wsaas.json").read_text())


def section(title: str, page: str = PAGE) -> str:
    """Return the text under a heading of a page, up to the next heading."""
    text = re.split(rf"^##+ {title}\n", page, flags=re.MULTILINE)[1]
    return re.split(r"^##+ ", text, flags=re.MULTILINE)[0]


def exported() -> set[str]:
    """Return the names of all samples."""
    names = {"wsaas_build_info", "wsaas_workers"}
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is HISTOGRAM else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return names


def used(text: str) -> set[str]:
    """Return the names of metrics in expressions."""
    return set(re.findall(r"\b(?:wsaas|process)_\w+", text))


def described_rows() -> list[str]:
    """Return the rows of the table in the docs that the code asks for."""
    rows = [
        f"| `wsaas_build_info` | gauge | `version`, `build`, `python` | {BUILD_HELP} |",
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


def test_the_rules_use_exported_names():
    names = {name for rule in RULES for name in used(rule["expr"])}
    assert len(names) > 10
    assert names <= exported()


def test_there_is_a_rule_for_each_question():
    assert len(RULES) == 8
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_each_alert_is_explained_where_it_says(rule):
    name = rule["alert"]
    assert rule["annotations"]["runbook_url"].endswith(f"docs/alerts.md#{name.lower()}")
    text = section(name, ALERTS)
    for part in ("**What it means.**", "**What to do.**", "**How not to silence it.**"):
        assert part in text
    row = next(line for line in ALERTS.splitlines() if line.startswith(f"| [{name}]"))
    assert row.endswith(f"| {rule['labels']['severity']} |")


def test_no_other_alert_is_explained():
    assert re.findall(r"^## (\w+)$", ALERTS, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_explanations_use_exported_names():
    assert {name for name in used(ALERTS) if name.startswith("wsaas_")} <= exported() | {
        metric.name for metric in METRICS
    }


def expressions() -> list[str]:
    """Return the expressions of the dashboard."""
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def test_the_dashboard_uses_exported_names():
    names = {name for expression in expressions() for name in used(expression)}
    names |= {name for each in DASHBOARD["templating"]["list"] for name in used(json.dumps(each["query"]))}
    assert names <= exported()


def test_each_metric_is_on_the_dashboard():
    names = {re.sub("_(?:bucket|sum|count)$", "", name) for expression in expressions() for name in used(expression)}
    assert {metric.name for metric in METRICS} <= names


def test_the_dashboard_has_a_panel_for_each_alert():
    shown = " ".join(panel.get("description", "") for panel in DASHBOARD["panels"] if panel["type"] == "stat")
    for rule in RULES:
        assert f"{rule['alert']}." in shown


def test_the_panels_of_the_dashboard_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
