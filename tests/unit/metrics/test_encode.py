"""The exposition of a row."""

import pytest

from tests.support.exposition import OPENMETRICS, TEXT, Exposition
from tests.support.fakes import make_metrics
from wsaas import __version__
from wsaas.counters import Counters
from wsaas.metrics.encode import encode
from wsaas.metrics.table import METRICS
from wsaas.statistics import ClusterStatistics


def exposition(counters=None, accept=TEXT, workers=(1, 0), **gauges):
    body, content_type = encode(make_metrics(counters or Counters(), **gauges).read(), workers, accept)
    return Exposition(body, content_type)


def test_the_format_follows_the_accept_header():
    row = make_metrics(Counters()).read()
    text, text_type = encode(row, (1, 0), "")
    assert text_type.startswith("text/plain; version=")
    assert not text.endswith(b"# EOF\n")
    metrics, metrics_type = encode(row, (1, 0), OPENMETRICS)
    assert metrics_type.startswith("application/openmetrics-text; version=")
    assert metrics.endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
def test_each_metric_is_exported_with_its_type_and_help(accept):
    found = exposition(
        accept=accept,
        memory_limit=1.0,
        journal_writable=True,
        certificate_expires=1.0,
        cluster_connected=True,
        cluster_nodes=2,
        cluster=ClusterStatistics(is_in_contact=True, unreplicated=0, adopted=3, since_renewal_ms=0),
    ).families
    for metric in METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind.value, metric.help)
        assert family.unit == (metric.unit if accept is OPENMETRICS else "")
        if metric.name != "process_open_fds":
            assert family.samples


def test_what_is_not_in_use_has_no_series():
    found = exposition()
    for name in ("journal_writable", "certificate_expiry_timestamp_seconds", "cluster_nodes", "memory_limit_bytes"):
        assert not found.has(name)


def test_the_buckets_of_a_histogram_are_cumulative():
    counters = Counters()
    for value in (0.5, 5.0, 5.0, 1e6):
        counters.connection_durations.observe(value)
    found = exposition(counters)
    buckets = {
        bound: found.value("connection_duration_seconds_bucket", le=bound)
        for bound in ("1.0", "10.0", "86400.0", "+Inf")
    }
    assert buckets == {"1.0": 1, "10.0": 3, "86400.0": 3, "+Inf": 4}
    assert found.value("connection_duration_seconds_count") == 4
    assert found.value("connection_duration_seconds_sum") == 1000010.5


def test_the_version_and_the_workers_are_exported():
    found = exposition(workers=(3, 1))
    assert {dict(labels).get("version") for name, labels in found.values if name == "wsaas_build_info"} == {__version__}
    assert found.labelled("workers", "state") == {"answered": 3, "missing": 1}


def test_the_number_of_series_does_not_depend_on_clients():
    assert 130 <= len(exposition().values) <= 175
