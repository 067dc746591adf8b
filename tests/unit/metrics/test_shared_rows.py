"""The rows of the workers in shared memory."""

import os

import pytest

from tests.support.fakes import make_metrics
from wsaas.counters import Counters
from wsaas.metrics.own import OwnMetrics
from wsaas.metrics.row import IS_MONOTONIC, ROW_LENGTH
from wsaas.metrics.shared_rows import SharedRows, attach, create
from wsaas.metrics.table import METRICS

COUNTED, GAUGE = IS_MONOTONIC.index(True), IS_MONOTONIC.index(False)


@pytest.fixture
def descriptor():
    found = create(2)
    yield found
    os.close(found)


def row_of(value):
    return [value] * ROW_LENGTH


def test_another_worker_reads_what_is_counted_but_no_gauges(descriptor):
    first, second = SharedRows(descriptor, 0, 2), SharedRows(descriptor, 1, 2)
    assert second.others == [0]
    first.write(row_of(2.5))
    found = second.read_total(0)
    assert found[COUNTED] == 2.5
    assert found[GAUGE] is None
    first.close()
    second.close()


def test_memory_of_another_version_is_not_used(descriptor):
    assert attach(descriptor, 0, 3) is None
    rows = attach(descriptor, 1, 2)
    assert rows is not None
    rows.close()


def test_a_value_that_is_missing_is_zero(descriptor):
    rows = SharedRows(descriptor, 0, 2)
    rows.write(row_of(None))
    assert rows.read_total(0)[COUNTED] == 0
    rows.close()


def metrics(descriptor, index, counters):
    own = make_metrics(counters)
    return OwnMetrics(counters, own.statistics, SharedRows(descriptor, index, 2))


def messages(row):
    """Return how many messages came from clients."""
    names = [metric.name for metric in METRICS for _ in range(metric.width)]
    return row[names.index("wsaas_messages_total")]


def test_a_successor_goes_on_from_what_its_predecessor_has_counted(descriptor):
    counters = Counters()
    counters.messages_in = 7
    before = metrics(descriptor, 0, counters)
    assert messages(before.read()) == 7
    # Killed: it has not stored this one.
    counters.messages_in = 8
    successor = metrics(descriptor, 0, Counters())
    assert messages(successor.read()) == 7
    other = metrics(descriptor, 1, Counters())
    assert [messages(row) for row in other.stored({})] == [7]
    assert other.stored({0}) == []
    assert (other.index, other.workers) == (1, 2)
    for each in (before, successor, other):
        each.close()
        each.close()


def test_a_worker_stores_its_row_every_second_and_at_its_end(descriptor):
    counters = Counters()
    own, other = metrics(descriptor, 0, counters), metrics(descriptor, 1, Counters())
    counters.messages_in = 1
    own.store(0.0)
    assert [messages(row) for row in other.stored({})] == [1]
    counters.messages_in = 2
    own.close()
    assert [messages(row) for row in other.stored({})] == [2]
    other.close()


def test_a_single_process_stores_nothing():
    own = make_metrics(Counters())
    own.store(0.0)
    assert own.stored({}) == []
    assert (own.index, own.workers) == (0, 1)
    own.close()
