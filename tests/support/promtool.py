"""Prometheus' own tool: it checks expositions and rules, and evaluates rules over the scrapes of a gateway."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.exposition import Exposition

PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"

TARGET = {"job": "wsaas", "instance": "node-1:8080"}


def promtool(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run promtool."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=30)


def series_of(scrapes: Sequence[Exposition]) -> dict[str, str]:
    """Return the values of each series, as promtool takes them."""
    found = {}
    for name, labels in dict.fromkeys(key for scrape in scrapes for key in scrape.values):
        text = ", ".join(f"{label}={json.dumps(value)}" for label, value in {**TARGET, **dict(labels)}.items())
        values = [scrape.values.get((name, labels)) for scrape in scrapes]
        found[f"{name}{{{text}}}"] = " ".join("_" if value is None else f"{value:.9f}" for value in values)
    return found


def alerts_expected(folder: Path, series: dict[str, str], minutes: int, expected: Sequence[str], among: str) -> str:
    """Evaluate the rules over `series`, which have a value each minute.

    Return what is wrong, empty if just the alerts `expected` have fired of those that the pattern `among` matches.
    """
    fired = f'max_over_time(ALERTS{{alertstate="firing",alertname=~"{among}"}}[{minutes}m])'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f"group by (alertname) ({fired})", "eval_time": f"{minutes}m", "exp_samples": samples}
        ],
    }
    # JSON is YAML, too.
    file = folder / "alerts.test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = promtool("test", "rules", str(file))
    return "" if done.returncode == 0 else done.stdout + done.stderr
