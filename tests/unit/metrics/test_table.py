"""The table of all metrics, and the rows of their values."""

import pytest

from tests.support.fakes import make_metrics
from wsaas.counters import FIRST_BOUND, Counters
from wsaas.events import Message
from wsaas.metrics.metric import COUNTER, GAUGE, HISTOGRAM, Metric
from wsaas.metrics.row import IS_MONOTONIC, ROW_LENGTH, merge_rows
from wsaas.metrics.table import METRICS

SUFFIXES = {COUNTER: "_total", GAUGE: "", HISTOGRAM: "_seconds"}


def values_of(row, name):
    at = 0
    for metric in METRICS:
        if metric.name == name:
            return row[at : at + metric.width]
        at += metric.width
    raise AssertionError(name)


def row_with(name, *values):
    """Return a row that is zero but for the values of one metric."""
    row: list[float | None] = []
    for metric in METRICS:
        row += values if metric.name == name else [0.0] * metric.width
    return row


@pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])
def test_a_metric_is_named_after_its_kind_and_says_what_to_do(metric: Metric):
    assert metric.name.startswith(("wsaas_", "process_"))
    assert metric.name.endswith(SUFFIXES[metric.kind])
    assert metric.name.endswith("_total") is (metric.kind is COUNTER)
    assert metric.help.endswith(".")
    assert len(metric.help) > 30
    assert all(len(labels) == len(metric.labels) for labels in metric.series)


def test_names_are_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_a_row_has_a_value_for_each_place():
    row = make_metrics(Counters()).read()
    assert len(row) == ROW_LENGTH == len(IS_MONOTONIC)


def test_a_message_that_did_not_wait_counts_in_both_histograms_and_as_a_request():
    counters = Counters()
    counters.direct.observe(0.02)
    counters.direct.first += 1
    counters.direct.sum += FIRST_BOUND
    counters.requests[Message].durations.observe(3.0)
    counters.requests[Message].results["timeout"] += 1
    counters.delayed.observe(4.0)
    row = make_metrics(counters).read()
    requests = values_of(row, "wsaas_backend_requests_total")
    assert requests[8:16] == [2, 0, 0, 0, 0, 0, 1, 0]
    durations = values_of(row, "wsaas_backend_request_duration_seconds")[13:26]
    assert durations == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, pytest.approx(3.025)]
    delivery = values_of(row, "wsaas_delivery_seconds")
    assert delivery == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, pytest.approx(4.025)]


def test_clients_are_connecting_until_they_are_open():
    counters = Counters()
    counters.open, counters.closing = 5, 1
    assert values_of(make_metrics(counters, clients=8).read(), "wsaas_connections") == [2, 5, 1]
    # The sockets of some are closed.
    assert values_of(make_metrics(counters, clients=5).read(), "wsaas_connections") == [0, 5, 1]


def test_the_backend_is_up_while_the_circuit_breaker_is_closed():
    for state, expected in (("closed", 1), ("half-open", 0), ("open", 0)):
        row = make_metrics(Counters(), circuit_breaker_state=state).read()
        assert values_of(row, "wsaas_backend_up") == [expected]


def test_the_row_of_a_single_process_is_that_of_the_node():
    row = make_metrics(Counters()).read()
    assert merge_rows([row]) is row


@pytest.mark.parametrize(
    ("name", "values", "merged"),
    [
        ("wsaas_pool_waiting", (1.0, 2.0), 3.0),
        ("wsaas_backend_up", (1.0, 0.0), 0.0),
        ("wsaas_journal_writable", (1.0, None), 1.0),
        ("wsaas_cluster_nodes", (3.0, 2.0), 3.0),
        ("wsaas_cluster_unreplicated", (None, None), None),
    ],
)
def test_the_values_of_workers_are_merged_as_the_metric_says(name, values, merged):
    assert merge_rows([row_with(name, each) for each in values]) == row_with(name, merged)
