"""The counters of a process."""

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsaas.counters import FIRST_BOUND, REQUEST_BOUNDS, Counters, Histogram

BOUNDS = (0.1, 1.0, 10.0)


@given(st.lists(st.floats(0, 100)))
def test_a_histogram_counts_each_value_in_the_bucket_of_the_first_bound_that_it_does_not_exceed(values):
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    expected = [0] * (len(BOUNDS) + 1)
    for value in values:
        expected[bisect_left(BOUNDS, value)] += 1
    assert histogram.counts == expected
    assert histogram.count == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_a_value_that_equals_a_bound_belongs_to_its_bucket():
    histogram = Histogram(BOUNDS)
    histogram.observe(1.0)
    assert histogram.counts == [0, 1, 0, 0]


def test_values_that_were_counted_without_a_call_are_counted():
    histogram = Histogram(REQUEST_BOUNDS)
    histogram.first += 2
    histogram.observe(FIRST_BOUND)
    assert histogram.count == 3


def test_a_handshake_with_an_unexpected_status_is_counted_as_another_one():
    counters = Counters()
    counters.count_handshake(503)
    counters.count_handshake(418)
    assert {status: count for status, count in counters.handshakes.items() if count} == {503: 1, 1: 1}
