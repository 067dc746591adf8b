"""What docs/troubleshooting.md quotes is what the gateway says: log lines, sentences of responses, and metrics."""

import re
from pathlib import Path

from wsaas.metrics.table import METRICS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
QUOTED = re.findall(r"\b([Ll]og|[Bb]ody): `([^`]+)`", PAGE)
SHOWN = re.findall(r"\b[Mm]etric: `(\w+)(?:\{(\w+)=\"(\w+)\"\})?`", PAGE)


def source() -> str:
    """Return the source of the gateway without its docstrings, with strings in one piece that span several lines."""
    text = "\n".join(path.read_text() for path in (ROOT / "wsaas").rglob("*.py"))
    code = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    return re.sub(r'"\s*\n\s*[rf]*"', "", code).replace('\\"', '"')


def test_each_quotation_of_the_log_and_of_a_response_is_in_the_source() -> None:
    assert len(QUOTED) > 60
    parts = {part.strip() for _, text in QUOTED for part in text.split("…") if part.strip(" .,:()")}
    code = source()
    assert {part for part in parts if part not in code} == set()


def test_each_metric_exists_with_its_label() -> None:
    assert len(SHOWN) > 10
    metrics = {metric.name: metric for metric in METRICS}
    for name, label, value in SHOWN:
        metric = metrics[name]
        if label:
            place = metric.labels.index(label)
            assert value in {values[place] for values in metric.series}, (name, label, value)


def test_no_quotation_lacks_its_kind() -> None:
    """Sentences and lines in code spans are compared only if they are marked."""
    spans = re.findall(
        r"(?<!og: )(?<!ody: )(?<!etric: )`([^`\n]+)`",
        re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE),
    )
    assert [span for span in spans if re.match(r"(?:[Tt]he|This|[Aa]) ", span)] == []
