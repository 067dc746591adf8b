"""The metrics of a gateway as a test reads them: parsed by the library that Prometheus offers for that."""

from collections.abc import Mapping

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Exposition:
    """One scrape. `values`: by the name of the sample and its labels."""

    def __init__(self, body: bytes, content_type: str = TEXT) -> None:
        self.text = body.decode()
        parse = parse_openmetrics if "openmetrics" in content_type else parse_text
        self.families = {family.name: family for family in parse(self.text)}
        self.values = {
            (sample.name, frozenset(sample.labels.items())): float(sample.value)
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the value of one sample. Raises `KeyError` without one."""
        return self.values[f"wsaas_{name}", frozenset(labels.items())]

    def has(self, name: str) -> bool:
        """Return whether there is any sample with a name."""
        return any(each == f"wsaas_{name}" for each, _ in self.values)

    def labelled(self, name: str, label: str) -> Mapping[str, float]:
        """Return the values of the samples with a name that are not 0, by one of their labels."""
        found = {dict(labels)[label]: value for (each, labels), value in self.values.items() if each == f"wsaas_{name}"}
        return {key: value for key, value in found.items() if value}
