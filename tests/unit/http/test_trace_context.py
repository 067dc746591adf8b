import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.strategies import examples
from wsaas.http.trace_context import MAX_MEMBERS, MAX_STATE, TraceContext, from_text, parse, read

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def state_of(tracestate):
    found = parse(TRACEPARENT.encode(), tracestate)
    assert found is not None
    assert found.traceparent == TRACEPARENT
    return found.tracestate


def test_a_traceparent_says_trace_parent_and_whether_it_is_sampled():
    found = parse(TRACEPARENT.encode(), b"")
    assert found == TraceContext(TRACEPARENT)
    assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, PARENT, True)


def test_the_headers_of_a_request_are_read():
    headers = {b"traceparent": TRACEPARENT.encode(), b"tracestate": b"a=1"}
    assert read(headers) == TraceContext(TRACEPARENT, "a=1")
    assert read({b"tracestate": b"a=1"}) is None
    assert read({b"traceparent": TRACEPARENT.encode()}) == TraceContext(TRACEPARENT)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        TRACEPARENT[:-1].encode(),
        f"{TRACEPARENT}-what".encode(),
        f"{TRACEPARENT}-".encode(),
        f"{TRACEPARENT}.".encode(),
        f"{TRACEPARENT}\n".encode(),
        f" {TRACEPARENT}".encode(),
        TRACEPARENT.upper().encode(),
        f"ff-{TRACE}-{PARENT}-01".encode(),
        f"0-{TRACE}-{PARENT}-01".encode(),
        f"0x-{TRACE}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}-1".encode(),
        f"00-{TRACE}-{PARENT}-0x".encode(),
        f"00-{TRACE[:-1]}-{PARENT}-01".encode(),
        f"00-{TRACE}-{PARENT}0-01".encode(),
        f"00-{'0' * 32}-{PARENT}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"00_{TRACE}_{PARENT}_01".encode(),
        f"{TRACEPARENT}, {TRACEPARENT}".encode(),
        f"cc-{TRACE}-{PARENT}-01, {TRACEPARENT}".encode(),
        f"cc-{TRACE}-{PARENT}-01.what".encode(),
        f"cc-{TRACE}-{PARENT}-01-".encode() + b"x" * 256,
        f"cc-{TRACE}-{PARENT}-01-\xe9".encode(),
    ],
)
def test_an_invalid_traceparent_is_ignored_with_its_tracestate(value):
    assert parse(value, b"a=1") is None


@pytest.mark.parametrize("more", ["", "-", "-what-the-future-will-be-like", "-" + "x" * 255])
def test_a_later_version_may_have_more_fields(more):
    value = f"cc-{TRACE}-{PARENT}-01{more}"
    found = parse(value.encode(), b"")
    assert found == TraceContext(value)
    assert (found.trace_id, found.parent_id, found.is_sampled) == (TRACE, PARENT, True)
    assert found.lines() == f"traceparent: {value}\r\n"
    # A child has the version that this module knows.
    assert found.child(1) == f"traceparent: 00-{TRACE}-0000000000000001-01\r\n"


@pytest.mark.parametrize(
    ("flags", "kept", "sampled"),
    [("00", "00", False), ("01", "01", True), ("02", "02", False), ("03", "03", True), ("ff", "03", True)],
)
def test_a_child_keeps_the_flags_that_are_known(flags, kept, sampled):
    found = parse(f"00-{TRACE}-{PARENT}-{flags}".encode(), b"")
    assert found is not None
    assert found.is_sampled is sampled
    assert found.child(0xABC) == f"traceparent: 00-{TRACE}-0000000000000abc-{kept}\r\n"


def test_a_child_has_the_tracestate():
    found = TraceContext(TRACEPARENT, "a=1,b=2")
    assert found.lines() == f"traceparent: {TRACEPARENT}\r\ntracestate: a=1,b=2\r\n"
    assert found.child(1) == f"traceparent: 00-{TRACE}-0000000000000001-01\r\ntracestate: a=1,b=2\r\n"


@pytest.mark.parametrize(
    "value",
    [
        b"a=1",
        b"a=1,b=2",
        b"a=1, b=2",
        b"a=1 \t,\tb=2",
        b"a=1,,b=2",
        b"fw529a3039@dt=FfffffffF",
        b"0tenant_-*/@sys_-*/=!~+ -",
        b"k=" + b"v" * 256,
        b"k" * 256 + b"=1",
        b"0" * 241 + b"@" + b"s" * 14 + b"=1",
        b",".join(b"k%d=1" % number for number in range(MAX_MEMBERS)),
    ],
)
def test_a_valid_tracestate_is_passed_on_unchanged(value):
    assert state_of(value) == value.decode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" , ,",
        b"a",
        b"a=",
        b"=1",
        b"A=1",
        b"_a=1",
        b"0a=1",
        b"a@0=1",
        b"a@b@c=1",
        b"@b=1",
        b"t" * 242 + b"@s=1",
        b"t@" + b"s" * 15 + b"=1",
        b"a =1",
        b"a=1=2",
        b"a=1,b",
        b"a=1,a=2",
        b"a=\x00",
        b"a=\xe9",
        b"a=1;b=2\x7f",
        b"k=" + b"v" * 257,
        b"k" * 257 + b"=1",
        b",".join(b"k%d=1" % number for number in range(MAX_MEMBERS + 1)),
    ],
)
def test_an_invalid_tracestate_is_dropped_alone(value):
    assert state_of(value) == ""


def test_a_long_tracestate_loses_its_large_members_first():
    small, large = b"s=1", b"l=" + b"v" * 127
    last = b",".join(b"k%d=%s" % (number, b"v" * 90) for number in range(5))
    assert state_of(b",".join((small, large, last))) == f"s=1,{last.decode()}"


def test_a_long_tracestate_loses_the_later_members():
    members = [b"k%02d=%s" % (number, b"v" * 96) for number in range(10)]
    assert len(b",".join(members[:5])) > MAX_STATE - 10
    assert state_of(b" , ".join(members)) == b",".join(members[:5]).decode()


ids = st.text("0123456789abcdef", min_size=32, max_size=32).filter(lambda each: set(each) != {"0"})
keys = st.from_regex(r"[a-z][a-z0-9_*/-]{0,40}|[0-9][a-z0-9_*/-]{0,40}@[a-z]{1,14}", fullmatch=True)
values = st.from_regex(r"[ !-+\--<>-~]{0,80}[!-+\--<>-~]", fullmatch=True)
states = st.dictionaries(keys, values, max_size=40)


@examples(300)
@given(ids, ids, st.integers(0, 255), states)
def test_a_context_is_read_as_it_was_written(trace, parent, flags, state):
    traceparent = f"00-{trace}-{parent[:15]}1-{flags:02x}"
    tracestate = ",".join(f"{key}={value}" for key, value in state.items())
    found = parse(traceparent.encode(), tracestate.encode())
    assert found is not None
    assert found.traceparent == traceparent
    assert from_text(found.text) == found
    kept = found.tracestate.split(",") if found.tracestate else []
    assert len(found.tracestate) <= MAX_STATE
    # What is passed on are whole members, in their order.
    rest = iter(tracestate.split(","))
    assert all(each in rest for each in kept)
    if len(tracestate) <= MAX_STATE:
        assert found.tracestate == (tracestate if len(state) <= MAX_MEMBERS else "")


@examples(500)
@given(
    st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.{0,9}", fullmatch=True),
    st.binary(max_size=600) | st.from_regex(rb"([a-z]=[ -~]{0,9},?){0,40}", fullmatch=True),
)
def test_any_bytes_give_a_context_that_can_be_sent_or_none(traceparent, tracestate):
    found = parse(traceparent, tracestate)
    if found is None:
        return
    assert found.traceparent.encode() == traceparent
    for lines in (found.lines(), found.child(2**64 - 1)):
        assert re.fullmatch(r"traceparent: [!-~]{55,311}\r\n(tracestate: [\t -~]{3,512}\r\n)?", lines)
    assert parse(found.child(1)[len("traceparent: ") :][:55].encode(), b"") is not None
    assert from_text(found.text) == found


def test_a_text_that_is_no_context_is_none():
    assert from_text("") is None
    assert from_text("x a=1") is None
