import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.delivery.trace import RecordedTrace, Trace
from wsaas.http.trace_context import TraceContext

CONTEXT = TraceContext("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1")
ID = "prefix__0123456789012345678901"


def test_the_post_has_the_headers_of_the_handshake():
    assert Trace(CONTEXT, ID).headers(0) == CONTEXT.lines()


def test_each_later_event_is_a_child_with_a_span_of_its_own():
    trace = Trace(CONTEXT, ID)
    numbers = [*range(1, 1000), "end"]
    lines = [trace.headers(number) for number in numbers]
    spans = set()
    for each in lines:
        found = re.fullmatch(
            r"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-([0-9a-f]{16})-01\r\ntracestate: a=1\r\n", each
        )
        assert found is not None
        spans.add(found[1])
    assert len(spans) == len(numbers)
    assert CONTEXT.parent_id not in spans


def test_another_process_uses_the_same_spans():
    # They are promised across versions: a DELETE that is sent again has the same bytes.
    assert Trace(CONTEXT, ID).headers("end") == Trace(CONTEXT, ID).headers("end")
    assert [f"{Trace(CONTEXT, ID).span_id(number):016x}" for number in (0, 1, "end")] == [
        "8e2533f372009773",
        "2c5cadacf14b1388",
        "efedba39f2b61b5e",
    ]


def test_two_connections_of_one_trace_have_different_spans():
    one, other = Trace(CONTEXT, ID), Trace(CONTEXT, ID[::-1])
    assert {one.span_id(number) for number in range(100)}.isdisjoint(other.span_id(number) for number in range(100))


@examples(100)
@given(st.text(max_size=30), st.integers(0, 2**70))
def test_a_span_id_is_never_zero(connection_id, number):
    assert 0 < Trace(CONTEXT, connection_id).span_id(number) < 2**64


@pytest.mark.parametrize("context", [CONTEXT, TraceContext(f"cc-{'0' * 31}1-{'b' * 16}-00-more")])
def test_the_lines_of_a_child_are_those_of_its_context(context):
    for kind in (Trace, RecordedTrace):
        trace = kind(context, ID)
        for number in (1, 2, "end"):
            assert trace.headers(number) == context.child(trace.span_id(number))


def test_the_post_of_a_recorded_trace_is_a_child_too():
    trace = RecordedTrace(CONTEXT, ID)
    assert trace.headers(0) == CONTEXT.child(trace.span_id(0))


def test_a_span_id_that_would_be_zero_is_one():
    trace = Trace(CONTEXT, ID)
    trace._seed = 0
    assert trace.span_id(0) == 1
