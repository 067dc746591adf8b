import asyncio
import math
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.support.fakes import ANSWER_TO_KEY, KEY, FakeTransport
from tests.support.frames import frame
from tests.support.http_rig import HANDSHAKE, HEALTH, NOTHING, HttpRig, responses
from wsaas import errors
from wsaas.delivery.verdicts import Accepted, Rejected
from wsaas.http.request import CHUNKS, CONTINUE, RequestParser
from wsaas.memory.limit import THROTTLING, MemoryLimit
from wsaas.reason import Reason
from wsaas.run_queue import SLICE_S
from wsaas.sessions.session_state import State
from wsaas.transport import http_server as server
from wsaas.transport.admission import MAX_REFUSED
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.pending_client import PendingClientProtocol
from wsaas.transport.websocket import WebSocketProtocol
from wsaas.websocket import frames

TOKEN = b"\r\nAuthorization: Bearer s3cret"
PUT = b"PUT /" + b"a" * 30 + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
DONE = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: application/json\r\n\r\n{"code":"OK"}'


def undated(data):
    """Return responses without their dates."""
    return re.sub(rb"\r\nDate: [^\r]*", b"", data)


class PlainParser(RequestParser):
    """A parser without a shortcut."""

    def parse_push(self, _data):
        return None


@pytest.fixture
def rig():
    return HttpRig()


@pytest.fixture
def session(rig):
    rig.receive(HANDSHAKE)
    (session,) = rig.registry.live()
    return session


# REST requests.


def test_a_new_connection_has_a_deadline_and_is_sent_nothing(rig):
    assert rig.transport.writes == []
    assert rig.timeouts.connections == [rig.protocol]


def test_a_request_is_answered_at_once(rig):
    rig.receive(HEALTH)
    assert [undated(data) for data in rig.transport.writes] == [DONE]
    assert not rig.transport.ended


def test_a_request_may_arrive_byte_by_byte(rig):
    for byte in HEALTH[:-1]:
        rig.receive(bytes([byte]))
    assert rig.transport.writes == []
    rig.receive(HEALTH[-1:])
    assert [undated(data) for data in rig.transport.writes] == [DONE]


def test_pipelined_requests_are_answered_in_order_in_one_write(rig):
    rig.receive(HEALTH + NOTHING + HEALTH + HEALTH[:10])
    (data,) = rig.transport.writes
    assert responses(data) == [(200, "OK", False), (404, "NOT_FOUND", False), (200, "OK", False)]
    rig.transport.take()
    rig.receive(HEALTH[10:])
    assert rig.responses() == [(200, "OK", False)]


def test_a_request_that_expects_100_continue_gets_it(rig):
    rig.receive(HEALTH + rig.push(b"Expect: 100-continue"))
    assert undated(rig.transport.take()) == DONE + CONTINUE
    rig.receive(b"hello")
    assert rig.responses() == [(200, "OK", False)]


def test_a_request_that_closes_is_the_last_one(rig):
    rig.receive(HEALTH + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + HEALTH)
    assert rig.responses() == [(200, "OK", False), (200, "OK", True)]
    assert rig.is_half_closed
    rig.receive(HEALTH)
    assert rig.transport.writes == []


def test_an_error_follows_earlier_responses_and_is_the_last_response(rig):
    rig.receive(HEALTH + b"nonsense\r\n\r\n")
    (data,) = rig.transport.writes
    assert responses(data) == [(200, "OK", False), (400, "BAD_REQUEST", True)]
    assert rig.is_half_closed
    rig.transport.take()
    rig.receive(HEALTH)
    assert rig.transport.writes == []


def test_a_body_over_the_limit_is_refused():
    rig = HttpRig(max_message_size="4")
    rig.receive(rig.push(body=b"hello"))
    assert rig.responses() == [(413, "TOO_LARGE", True)]


def test_a_listener_without_the_rest_api_answers_404():
    rig = HttpRig(control=False)
    rig.receive(HEALTH + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert rig.responses() == [(404, "NOT_FOUND", False), (404, "NOT_FOUND", True)]
    assert rig.is_half_closed


def test_a_lost_connection_is_forgotten(rig):
    rig.receive(HEALTH[:10])
    rig.transport.lose()
    assert rig.timeouts.connections == []
    # The parser is closed, so data that the loop still delivers is not read.
    rig.receive(HEALTH[10:])
    assert rig.transport.writes == []


PUSHES = {
    "text": ((), b"hello"),
    "binary": ((b"Content-Type: image/png",), b"\xff"),
    "either": ((b"Content-Type: application/x-www-form-urlencoded",), b"\xff"),
    "another charset": ((b"Content-Type: text/plain; charset=latin1",), b"\xfc"),
    "no UTF-8": ((b"Content-Type: text/plain",), b"\xff"),
    "an unknown charset": ((b"Content-Type: text/plain; charset=none",), b"x"),
    "a coding": ((b"Content-Encoding: gzip",), b"x"),
    "a web page": ((b"Origin: http://evil.example",), b"x"),
    "the same site": ((b"Sec-Fetch-Site: same-origin",), b"x"),
    "a wrong token": ((b"Authorization: Bearer wrong",), b"x"),
    "the last one": ((b"Connection: close",), b"x"),
    "empty": ((), b""),
}


@pytest.mark.parametrize("token", ["", "s3cret"])
@pytest.mark.parametrize("backlog", [0, 1024 * 1024])
@pytest.mark.parametrize("name", PUSHES)
def test_the_shortcut_for_a_push_equals_the_plain_path(name, backlog, token):
    lines, body = PUSHES[name]
    found = []
    for is_shortcut in (True, False):
        rig = HttpRig(**({"control_token": token} if token else {}))
        if not is_shortcut:
            rig.protocol._parser = PlainParser(1024 * 1024, rig.protocol._site.body_limit)
            assert rig.protocol._site.api is not None
            rig.protocol._site.api._prefix = b"no target starts so"
        push = rig.push(*lines, *((b"Authorization: Bearer s3cret",) if token else ()), size=len(body), body=body)
        (session,) = rig.registry.live()
        rig.webhook.answer(Accepted(None, None))
        connection: Any = session.connection
        connection.backlog = backlog
        rig.receive(push)
        sent = connection.written, session.info.messages_out, session.info.bytes_out
        found.append((rig.transport.take(), sent, rig.transport.ended, rig.protocol._is_authorized))
    assert found[0] == found[1]


# Decisions after the head.


def grows(rig, number=100):
    """Return how many bytes the parser keeps of a body whose larger part has arrived in pieces."""
    for _ in range(number):
        rig.receive(b"x" * 100)
    reader = rig.protocol._parser
    return len(reader._data) + (len(reader._body._data) if reader._body else 0)


@pytest.mark.parametrize("size", [20_000, None])
@pytest.mark.parametrize(
    ("values", "start", "said"),
    [
        ({}, b"PUT /nothing", (404, "NOT_FOUND", False)),
        ({"control": False}, b"PUT /nothing", (404, "NOT_FOUND", False)),
        ({"control": False}, b"PUT /" + b"a" * 30, (404, "NOT_FOUND", False)),
        ({"control_token": "s3cret"}, b"PUT /" + b"a" * 30, (401, "UNAUTHORIZED", False)),
        ({}, b"PUT /" + b"a" * 30, (410, "GONE", False)),
        ({}, b"DELETE /" + b"a" * 30, (410, "GONE", False)),
        ({}, b"POST /" + b"a" * 30, (405, "METHOD_NOT_ALLOWED", False)),
        ({}, b"PUT /healthz", (405, "METHOD_NOT_ALLOWED", False)),
        ({}, b"GET /healthz", (200, "OK", False)),
        ({}, b"GET /connections", (200, "OK", False)),
    ],
)
def test_a_request_is_answered_before_its_body_and_the_body_is_not_kept(values, start, said, size):
    rig = HttpRig(**values)
    length = b"Transfer-Encoding: chunked\r\n\r\n2710\r\n" if size is None else b"Content-Length: 10000\r\n\r\n"
    rig.receive(start + b" HTTP/1.1\r\nHost: localhost\r\n" + length)
    assert rig.responses() == [said]
    assert grows(rig, 99) == 0
    # The connection is kept, and the next request is read.
    end = b"" if size else b"\r\n0\r\n\r\n"
    rig.receive(b"x" * 100 + end + HEALTH)
    assert rig.responses() == [(404, "NOT_FOUND", False) if "control" in values else (200, "OK", False)]


def test_the_response_to_a_refused_head_has_no_body(rig):
    rig.receive(b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
    assert rig.transport.take().endswith(b"\r\n\r\n")


def test_a_refused_http_1_0_request_keeps_its_connection(rig):
    rig.receive(b"PUT /nothing HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 10\r\n\r\n")
    assert b"\r\nConnection: keep-alive\r\n" in rig.transport.take()


def test_the_body_of_options_for_the_server_is_discarded(rig):
    rig.receive(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n")
    assert rig.transport.take().startswith(b"HTTP/1.1 200 ")
    assert grows(rig) == 0


def test_a_body_is_kept_for_an_existing_client(rig):
    rig.receive(rig.push(size=20_000))
    assert grows(rig, 100) == 10_000
    assert grows(rig, 100) == 0
    assert rig.responses() == [(200, "OK", False)]


def test_a_push_to_a_client_that_ends_during_its_body_is_gone(rig):
    rig.receive(rig.push(size=200))
    rig.receive(b"x" * 100)
    (session,) = rig.registry.live()
    session.lost()
    assert rig.transport.take() == b""
    rig.receive(b"x" * 100 + HEALTH)
    assert rig.responses() == [(410, "GONE", False), (200, "OK", False)]


def test_a_long_push_is_refused_while_there_is_little_memory(rig):
    memory = MemoryLimit(math.inf, lambda: 0)
    rig.registry.services = replace(rig.registry.services, memory=memory)
    memory.pressure, memory.allowance = THROTTLING, 1000
    rig.receive(rig.push(size=20_000))
    assert rig.responses() == [(429, "TOO_MANY_REQUESTS", False)]
    assert grows(rig) == 0


def test_a_short_push_in_pieces_is_accepted_while_there_is_little_memory(rig):
    memory = MemoryLimit(math.inf, lambda: 0)
    rig.registry.services = replace(rig.registry.services, memory=memory)
    memory.pressure, memory.allowance = THROTTLING, 1000
    rig.receive(rig.push(size=900))
    rig.receive(b"x" * 900)
    rig.receive(rig.push(size=1001))
    rig.receive(b"x" * 1001)
    assert rig.responses() == [(200, "OK", False), (429, "TOO_MANY_REQUESTS", False)]


def test_a_push_in_chunks_is_refused_while_there_is_little_memory(rig):
    memory = MemoryLimit(math.inf, lambda: 0)
    rig.registry.services = replace(rig.registry.services, memory=memory)
    memory.pressure, memory.allowance = THROTTLING, 1000
    rig.receive(rig.push(size=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"))
    rig.receive(b"1\r\nx\r\n0\r\n\r\n")
    assert rig.responses() == [(429, "TOO_MANY_REQUESTS", False)]


def test_a_push_to_a_slow_client_is_refused_before_its_body(rig):
    push = rig.push(size=20_000)
    (session,) = rig.registry.live()
    session.send(frames.BINARY, b"x" * 1024 * 1024)
    rig.receive(push)
    assert rig.responses() == [(429, "SLOW_CLIENT", False)]
    assert grows(rig) == 0


def test_a_push_to_a_client_that_is_being_closed_is_refused_before_its_body(rig, session):
    rig.webhook.answer(Accepted(None, None))
    session.close(Reason.BACKEND_CLOSED)
    other = rig.visit()
    other.protocol.data_received(rig.push(size=20_000))
    assert responses(other.take()) == [(410, "GONE", False)]


@pytest.mark.parametrize(("size", "closes"), [(4097, False), (2_000_000, True)])
def test_the_body_of_a_delete_is_limited(rig, size, closes):
    rig.receive(rig.push(start=b"DELETE", size=size))
    assert rig.responses() == [(413, "TOO_LARGE", closes)]


def test_the_body_of_a_delete_that_arrives_at_once_is_limited_too(rig):
    rig.receive(
        rig.push(start=b"DELETE", size=4097, body=b" " * 4097) + rig.push(start=b"DELETE", size=9, body=b'{"code":1')
    )
    assert rig.responses() == [(413, "TOO_LARGE", False), (400, "BAD_CLOSE", False)]


def test_the_body_of_a_delete_in_chunks_is_limited(rig):
    rig.receive(rig.push(start=b"DELETE", size=None, body=b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\n"))
    assert rig.responses() == [(413, "TOO_LARGE", True)]


def test_a_request_that_expects_100_continue_may_be_refused_instead(rig):
    rig.receive(PUT + b"Expect: 100-continue\r\n\r\n")
    assert rig.responses() == [(410, "GONE", True)]
    assert rig.is_half_closed
    rig.receive(b"hello" + HEALTH)
    assert rig.transport.writes == []


def test_a_body_that_is_too_large_to_be_discarded_ends_the_connection():
    rig = HttpRig(max_message_size="4")
    rig.receive(PUT + b"\r\nhello" + HEALTH)
    assert rig.responses() == [(410, "GONE", True)]
    assert rig.is_half_closed


@pytest.mark.parametrize("rest", [b"5\r\nhello\r\n", b"zz\r\n"])
def test_a_malformed_discarded_body_ends_the_connection_without_a_second_response(rest):
    rig = HttpRig(max_message_size="8")
    rig.receive(rig.push(start=b"GET", size=None, body=b"5\r\nhello\r\n"))
    assert rig.responses() == [(200, "OK", False)]
    rig.receive(rest + HEALTH)
    assert rig.transport.writes == []
    assert rig.is_half_closed


def test_a_discarded_body_that_times_out_gets_no_second_response(rig):
    rig.receive(PUT + b"\r\nhell")
    assert rig.responses() == [(410, "GONE", False)]
    rig.pass_time(0.0)
    rig.pass_time(74.9)
    assert not rig.transport.aborted
    rig.pass_time(0.2)
    assert rig.transport.aborted
    assert rig.transport.writes == []


# Headers of all responses.


def test_each_response_has_its_own_date(rig):
    rig.receive(HEALTH + NOTHING)
    rig.clock.advance(60.0)
    rig.receive(HEALTH + rig.push(b"Expect: 100-continue"))
    rig.clock.advance(60.0)
    rig.receive(b"hello" + b"nonsense\r\n\r\n")
    data = rig.transport.take()
    times = ["22:30:00", "22:30:00", "22:31:00", "22:32:00", "22:32:00"]
    assert re.findall(rb"Date: (.*)\r\n", data) == [f"Tue, 14 Nov 2023 {time} GMT".encode() for time in times]
    assert data.count(b"HTTP/1.1 ") == len(times) + 1


def test_the_last_response_has_a_date_too(rig):
    rig.receive(HEALTH[:10])
    rig.pass_time(0.0)
    rig.pass_time(10.0)
    for other in (rig, HttpRig(room=0, control=False)):
        assert b"\r\nDate: Tue, 14 Nov 2023 22:30:" in other.transport.take()
    other = HttpRig()
    other.receive(HANDSHAKE.replace(b": 13", b": 12"))
    assert b"\r\nDate: Tue, 14 Nov 2023 22:30:00 GMT\r\n" in other.transport.take()


@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize(
    ("lines", "connection"),
    [
        (b"", [b"close"]),
        (b"Connection: keep-alive\r\n", [b"keep-alive"]),
        (b"Connection: keep-alive, close\r\n", [b"close"]),
    ],
)
def test_a_response_to_http_1_0_says_whether_the_connection_is_kept(control, lines, connection):
    rig = HttpRig(control=control)
    rig.receive(b"GET /healthz HTTP/1.0\r\n" + lines + b"\r\n")
    assert re.findall(rb"\r\nConnection: (.*)\r\n", rig.transport.take()) == connection


def test_a_response_to_http_1_1_says_nothing_where_the_connection_is_kept(rig):
    rig.receive(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
    assert undated(rig.transport.take()) == DONE


@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize("path", [b"/healthz", b"/nothing", b"/" + b"a" * 30])
def test_the_response_to_head_equals_the_response_to_get_without_a_body(control, path):
    rig = HttpRig(control=control)
    answers = []
    for method in (b"GET", b"HEAD"):
        rig.receive(method + b" " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answers.append(rig.transport.take().partition(b"\r\n\r\n"))
    assert answers[0][2]
    assert answers[1] == (answers[0][0], b"\r\n\r\n", b"")


@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize(("line", "closes"), [(b"", False), (b"Connection: close\r\n", True)])
def test_options_for_the_server_is_answered(control, line, closes):
    rig = HttpRig(control=control)
    rig.receive(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n" + line + b"\r\n")
    end = b"Connection: close\r\n" if closes else b""
    # Without the REST API, GET is for handshakes.
    allowed = b"DELETE, GET, HEAD, OPTIONS, POST, PUT" if control else b"GET, OPTIONS"
    headers = b"Content-Length: 0\r\nAllow: " + allowed + b"\r\n" + end
    assert undated(rig.transport.take()) == b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n"
    assert rig.is_half_closed is closes


# Bursts.


def numbered(numbers):
    """Return requests that are answered with 410 or 404, to recognize their order."""
    paths = [b"/" + b"a" * 30 if number % 3 else b"/nothing" for number in numbers]
    return b"".join(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in paths)


def statuses(rig):
    return [status for status, _, _ in rig.responses()]


def turn(rig):
    """Run one turn of the loop."""
    (timer,) = rig.clock.timers
    assert timer.at == rig.clock.now()
    rig.clock._timers.remove(timer)
    timer.callback(*timer.args)


EXPECTED = [410 if number % 3 else 404 for number in range(100)]
BURST = 32


def test_a_burst_of_requests_is_answered_a_few_at_a_time(rig):
    rig.receive(numbered(range(2 * BURST + 8)))
    for end in (BURST, 2 * BURST):
        assert statuses(rig) == EXPECTED[end - BURST : end]
        assert not rig.transport.reading
        turn(rig)
    assert statuses(rig) == EXPECTED[2 * BURST : 2 * BURST + 8]
    assert rig.transport.reading
    assert rig.clock.timers == []


def test_a_burst_that_is_answered_at_once_does_not_wait(rig):
    rig.receive(numbered(range(BURST - 1)) + HEALTH[:10])
    assert statuses(rig) == EXPECTED[: BURST - 1]
    assert rig.transport.reading
    assert rig.clock.timers == []


def test_after_a_burst_of_exactly_one_batch_nothing_is_queued(rig):
    rig.receive(numbered(range(BURST)))
    assert statuses(rig) == EXPECTED[:BURST]
    rig.clock.advance(0.0)
    assert rig.transport.reading
    assert rig.transport.writes == []
    assert rig.clock.timers == []


def test_other_connections_are_served_after_a_large_response(rig, monkeypatch):
    monkeypatch.setattr(server, "LARGE_RESPONSE", 150)
    rig.receive(HEALTH * 3 + NOTHING + HEALTH)
    assert statuses(rig) == [200, 200, 200, 404]
    rig.clock.advance(0.0)
    assert statuses(rig) == [200]


def test_what_arrives_while_a_burst_is_queued_is_answered_after_it(rig):
    rig.receive(numbered(range(BURST + 4)))
    # A paused transport may still deliver data.
    rig.receive(numbered(range(BURST + 4, BURST + 10)))
    rig.clock.advance(0.0)
    rig.clock.advance(0.0)
    assert statuses(rig) == EXPECTED[: BURST + 10]
    assert rig.transport.reading


class Brimful(FakeTransport):
    """A transport whose buffer is full with each write."""

    def write(self, data):
        super().write(data)
        self.protocol.pause_writing()


@pytest.fixture
def brimful(rig):
    rig.transport = Brimful(rig.protocol)
    rig.protocol._transport = rig.transport
    return rig


def test_a_queued_burst_waits_until_its_responses_are_read(brimful):
    brimful.receive(numbered(range(2 * BURST + 8)))
    for end in (BURST, 2 * BURST):
        assert statuses(brimful) == EXPECTED[end - BURST : end]
        assert not brimful.transport.reading
        assert brimful.clock.timers == []
        brimful.protocol.resume_writing()
    assert statuses(brimful) == EXPECTED[2 * BURST : 2 * BURST + 8]
    assert not brimful.transport.reading
    brimful.protocol.resume_writing()
    assert brimful.transport.reading
    assert brimful.transport.writes == []


def test_a_client_that_does_not_read_is_not_answered_408(brimful):
    brimful.receive(numbered(range(1)) + HEALTH[:10])
    brimful.transport.take()
    brimful.pass_time(0.0)
    brimful.pass_time(74.9, beats=10)
    assert not brimful.transport.aborted
    brimful.pass_time(0.2)
    assert brimful.transport.aborted
    assert brimful.transport.writes == []


@pytest.mark.parametrize("end", [FakeTransport.lose, FakeTransport.close, FakeTransport.abort])
def test_a_queued_burst_is_dropped_when_its_connection_ends(rig, end):
    rig.receive(numbered(range(2 * BURST + 8)))
    rig.transport.take()
    end(rig.transport)
    rig.transport.closed, before = True, rig.transport.reading
    rig.clock.advance(0.0)
    assert (rig.transport.writes, rig.transport.reading) == ([], before)


def test_the_last_request_may_be_anywhere_in_a_burst(rig):
    last = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    rig.receive(numbered(range(BURST - 1)) + last + HEALTH)
    assert statuses(rig) == [*EXPECTED[: BURST - 1], 200]
    assert rig.is_half_closed
    assert rig.clock.timers == []
    rig = HttpRig()
    rig.receive(numbered(range(BURST + 4)) + last + HEALTH)
    rig.clock.advance(0.0)
    assert statuses(rig) == [*EXPECTED[: BURST + 4], 200]
    assert rig.is_half_closed
    rig.clock.advance(0.0)
    assert rig.transport.writes == []


def test_an_error_may_follow_a_burst(rig):
    rig.receive(numbered(range(BURST + 4)) + b"nonsense\r\n" + HEALTH)
    rig.clock.advance(0.0)
    assert statuses(rig) == [*EXPECTED[: BURST + 4], 400]
    assert rig.is_half_closed


def test_a_handshake_may_follow_a_burst(rig):
    early = frame(frames.TEXT, b"early")
    rig.receive(numbered(range(BURST + 4)) + HANDSHAKE + early)
    assert len(rig.registry) == 0
    rig.clock.advance(0.0)
    assert statuses(rig) == EXPECTED[: BURST + 4]
    assert len(rig.registry) == 1
    assert rig.transport.reading
    rig.webhook.answer(Accepted(None, None))
    assert rig.webhook.pending.data == b"early"


def test_after_a_burst_a_connection_has_the_time_limit_of_an_idle_one(rig):
    rig.receive(numbered(range(BURST + 4)))
    rig.clock.advance(0.0)
    rig.pass_time(0.0)
    rig.pass_time(74.9)
    assert not rig.transport.aborted
    rig.pass_time(0.2)
    assert rig.transport.aborted


def test_a_slow_request_ends_the_slice_of_its_connection(rig):
    rig.seconds = SLICE_S / 4
    rig.receive(numbered(range(10)))
    assert statuses(rig) == EXPECTED[:4]
    assert not rig.transport.reading
    turn(rig)
    assert statuses(rig) == EXPECTED[4:8]
    turn(rig)
    assert statuses(rig) == EXPECTED[8:10]
    assert rig.transport.reading
    assert rig.clock.timers == []


def test_while_others_wait_one_request_is_answered_at_once_and_further_ones_after_them(rig):
    served = []
    rig.context.run_queue.add(lambda: served.append(len(rig.transport.writes)))
    rig.seconds = SLICE_S / 100
    rig.receive(numbered(range(5)))
    assert statuses(rig) == EXPECTED[:1]
    assert not rig.transport.reading
    turn(rig)
    assert served == [0]
    assert statuses(rig) == EXPECTED[1:5]
    assert rig.transport.reading


def test_while_others_wait_a_single_request_does_not_wait(rig):
    rig.context.run_queue.add(lambda: None)
    rig.receive(NOTHING)
    assert statuses(rig) == [404]
    assert len(rig.context.run_queue.waiting) == 1
    assert rig.transport.reading


def test_tiny_chunks_are_read_a_few_at_a_time(rig):
    rig.receive(rig.push(size=None, body=b"1\r\na\r\n" * 200 + b"0\r\n\r\n") + NOTHING)
    for _ in range(200 // CHUNKS):
        assert rig.transport.writes == []
        assert not rig.transport.reading
        turn(rig)
    assert statuses(rig) == [200, 404]
    assert rig.transport.reading


def test_a_turn_is_postponed_while_responses_are_not_read(rig):
    rig.receive(numbered(range(2 * BURST)))
    assert statuses(rig) == EXPECTED[:BURST]
    rig.protocol.pause_writing()
    turn(rig)
    assert rig.transport.writes == []
    rig.protocol.resume_writing()
    assert statuses(rig) == EXPECTED[BURST : 2 * BURST]
    assert rig.transport.reading


def test_a_connection_has_one_place_in_the_queue(rig):
    rig.receive(numbered(range(2 * BURST)))
    rig.protocol.pause_writing()
    rig.protocol.resume_writing()
    rig.receive(numbered(range(BURST)))
    assert len(rig.context.run_queue.waiting) == 1
    assert statuses(rig) == EXPECTED[:BURST]


# Callers that do not read.


def test_a_connection_that_does_not_read_its_responses_is_not_read(rig):
    rig.protocol.pause_writing()
    assert not rig.transport.reading
    rig.protocol.resume_writing()
    assert rig.transport.reading


# Handshakes.


NO_PROTOCOL = asyncio.Protocol()


def test_a_handshake_registers_a_client(rig):
    rig.receive(HANDSHAKE)
    assert b"".join(rig.transport.writes) == b""
    (session,) = rig.registry.live()
    assert session.state is State.CONNECTING
    assert (session.info.path, session.info.query, session.info.remote_address) == ("/room", "a=b", "192.0.2.7")


@pytest.mark.parametrize(
    "event",
    [
        lambda protocol: protocol.data_received(b"x"),
        lambda protocol: protocol.eof_received(),
        lambda protocol: protocol.pause_writing(),
        lambda protocol: protocol.check_deadline(0.0),
        lambda protocol: protocol.close_gracefully(),
    ],
)
def test_the_protocol_of_a_client_takes_over_the_transport_as_soon_as_something_happens(rig, event):
    rig.receive(HANDSHAKE)
    assert rig.transport.protocol is rig.protocol
    assert rig.timeouts.connections == [rig.protocol]
    event(rig.protocol)
    pending_client = rig.transport.protocol
    assert isinstance(pending_client, PendingClientProtocol)
    assert rig.timeouts.connections == [pending_client]
    rig.webhook.answer(Accepted(None, None))
    connection = rig.transport.protocol
    assert isinstance(connection, WebSocketProtocol)
    assert rig.timeouts.connections == [connection]


@pytest.mark.parametrize("has_sent", [False, True])
def test_a_client_may_go_before_its_handshake_is_answered(rig, has_sent):
    rig.receive(HANDSHAKE)
    if has_sent:
        rig.receive(b"x")
    # A transport with TLS refers to no protocol any more when it says that the connection is lost.
    protocol, rig.transport.protocol = rig.transport.protocol, NO_PROTOCOL
    rig.transport.closed = True
    protocol.connection_lost(None)
    assert not len(rig.registry)
    assert rig.timeouts.connections == []
    assert rig.transport.protocol is NO_PROTOCOL


@pytest.mark.parametrize("has_sent", [False, True])
def test_a_refused_client_has_some_time_to_read_the_answer(rig, has_sent):
    rig.receive(HANDSHAKE)
    if has_sent:
        rig.receive(b"x")
    rig.webhook.answer(Rejected(errors.Forbidden("No."), disconnect_owed=False))
    assert rig.transport.take().startswith(b"HTTP/1.1 403 ")
    (refused,) = rig.timeouts.connections
    assert refused is rig.transport.protocol
    assert not rig.transport.aborted
    rig.clock.advance(rig.context.settings.handshake_timeout)
    rig.timeouts.check(rig.clock.now())
    assert rig.transport.aborted


def test_an_admitted_client_gets_a_websocket(rig, session):
    rig.webhook.answer(Accepted(None, None))
    assert rig.transport.take().startswith(b"HTTP/1.1 101 ")
    assert isinstance(rig.transport.protocol, WebSocketProtocol)
    assert session.state is State.OPEN


def test_the_101_answers_the_key_of_the_client(rig):
    rig.receive(HANDSHAKE)
    rig.webhook.answer(Accepted(None, None))
    assert b"Sec-WebSocket-Accept: " + ANSWER_TO_KEY + b"\r\n" in rig.transport.take()


def test_bytes_after_the_handshake_belong_to_the_websocket(rig):
    early = frame(frames.TEXT, b"early")
    rig.receive(HANDSHAKE + early[:4])
    rig.receive(early[4:])
    rig.webhook.answer(Accepted(None, None))
    assert rig.webhook.pending.data == b"early"


def test_a_handshake_may_follow_requests_whose_responses_are_sent_first(rig):
    rig.receive(HEALTH + HANDSHAKE)
    assert undated(rig.transport.take()) == DONE
    assert len(rig.registry) == 1


@pytest.mark.parametrize("peername", ["", "/run/wsaas.sock", b"", None])
def test_a_client_on_a_unix_socket_has_no_address(peername):
    rig = HttpRig(peername=peername)
    rig.receive(HANDSHAKE)
    (session,) = rig.registry.live()
    assert session.info.remote_address == ""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b": 13", b": 12", (426, "UPGRADE_REQUIRED", True)),
        (KEY, b"short", (400, "BAD_REQUEST", True)),
        (b"Connection: Upgrade\r\n", b"", (426, "UPGRADE_REQUIRED", True)),
        (b"GET", b"POST", (400, "BAD_REQUEST", True)),
        (b"Host: localhost\r\n", b"Host: localhost\r\nOrigin: https://evil\r\n", (403, "FORBIDDEN", True)),
    ],
)
def test_a_broken_handshake_is_refused_and_ends_the_connection(old, new, said):
    rig = HttpRig(allowed_origins="https://good")
    rig.receive(HEALTH + HANDSHAKE.replace(old, new) + HEALTH)
    (data,) = rig.transport.writes
    assert responses(data) == [(200, "OK", False), said]
    assert rig.is_half_closed
    assert len(rig.registry) == 0
    assert rig.webhook.calls == []
    assert rig.timeouts.connections == [rig.protocol]


def test_a_listener_without_clients_answers_a_handshake_with_404():
    rig = HttpRig(registry=False)
    rig.receive(HANDSHAKE)
    assert rig.responses() == [(404, "NOT_FOUND", True)]
    assert rig.is_half_closed


def test_a_node_that_stops_accepts_no_clients(rig):
    rig.registry.close(lambda: None, lambda: None)
    rig.receive(HANDSHAKE)
    assert b"\r\nRetry-After: 1\r\n" in b"".join(rig.transport.writes)
    assert rig.responses() == [(503, "UNAVAILABLE", True)]


def test_a_full_node_accepts_no_clients():
    rig = HttpRig(limit=0)
    rig.receive(HANDSHAKE)
    assert rig.responses() == [(503, "UNAVAILABLE", True)]


def test_without_a_spare_descriptor_a_connection_is_refused():
    rig = HttpRig(room=0, control=False)
    assert b"\r\nRetry-After: 1\r\n" in b"".join(rig.transport.writes)
    assert rig.responses() == [(503, "UNAVAILABLE", True)]
    assert rig.is_half_closed
    rig.receive(HEALTH)
    assert rig.transport.writes == []
    rig.pass_time(0.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


def test_beyond_the_limit_of_refused_connections_one_is_closed_at_once():
    rig = HttpRig(room=0, control=False)
    for _ in range(MAX_REFUSED):
        transport = rig.visit()
    assert transport.aborted
    assert transport.writes == []
    assert not rig.transport.aborted


def test_a_node_full_of_clients_answers_their_backend_and_no_further_handshake():
    rig = HttpRig(room=0)
    rig.receive(HEALTH)
    assert rig.responses() == [(200, "OK", False)]
    rig.receive(HANDSHAKE)
    assert rig.responses() == [(503, "UNAVAILABLE", True)]


def test_an_authorized_connection_stays_when_there_is_no_room_and_another_one_goes():
    rig = HttpRig(room=1, control_token="s3cret")
    rig.receive(HEALTH)
    transports = [rig.transport, rig.visit()]
    transports[1].protocol.data_received(HEALTH.replace(b"healthz", b"x").replace(b"\r\n\r\n", TOKEN + b"\r\n\r\n"))
    transports += [rig.visit(), rig.visit()]
    assert [transport.aborted for transport in transports] == [True, False, True, False]


@pytest.mark.parametrize("request_", ["a refused push", "a whole push", "a list"])
def test_a_connection_is_the_backends_once_it_made_an_authorized_request(request_):
    rig = HttpRig(room=0)
    if request_ == "a refused push":
        rig.receive(PUT + b"\r\n")
        rig.receive(b"hello")
    else:
        rig.receive(
            rig.push(body=b"hello") if request_ == "a whole push" else NOTHING.replace(b"nothing", b"connections")
        )
    # While idle it may still be evicted for another connection, but not within a request.
    assert rig.protocol._is_authorized
    rig.receive(rig.push(body=b"hell"))
    second = rig.visit()
    assert not rig.transport.aborted
    assert second.ended
    rig.receive(b"o")
    rig.visit()
    assert rig.transport.aborted


# Time limits.


def test_a_connection_that_sends_nothing_is_dropped(rig):
    rig.pass_time(9.999)
    assert not rig.transport.aborted
    rig.pass_time(0.002)
    assert rig.transport.aborted
    assert rig.transport.writes == []


def test_an_incomplete_head_times_out(rig):
    rig.receive(HEALTH[:10])
    rig.pass_time(0.0)
    rig.pass_time(9.9)
    assert rig.transport.writes == []
    rig.pass_time(0.1)
    assert rig.responses() == [(408, "REQUEST_TIMEOUT", True)]
    assert rig.is_half_closed
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


def test_the_time_limit_of_the_first_head_starts_at_the_accept(rig):
    rig.pass_time(6.0)
    rig.receive(HEALTH[:10])
    rig.pass_time(3.9)
    rig.receive(HEALTH[10:15])
    assert rig.transport.writes == []
    rig.pass_time(0.1)
    assert rig.responses() == [(408, "REQUEST_TIMEOUT", True)]


def test_the_body_of_the_first_request_has_its_own_time_limit(rig):
    rig.pass_time(9.0)
    rig.receive(rig.push())
    rig.pass_time(70.0, beats=70)
    rig.receive(b"hello")
    assert rig.responses() == [(200, "OK", False)]


def test_a_slow_head_does_not_extend_its_time_limit(rig):
    for number in range(12):
        rig.receive(HEALTH[number : number + 1])
        rig.pass_time(1.0)
    assert rig.responses() == [(408, "REQUEST_TIMEOUT", True)]


def test_a_body_has_the_time_limit_of_an_idle_connection(rig):
    rig.receive(rig.push(body=b"hell"))
    rig.pass_time(0.0)
    rig.pass_time(74.9)
    assert rig.transport.writes == []
    rig.pass_time(0.1)
    assert rig.responses() == [(408, "REQUEST_TIMEOUT", True)]


def test_a_slow_body_does_not_extend_its_time_limit(rig):
    rig.receive(rig.push())
    for _ in range(4):
        rig.pass_time(20.0)
        rig.receive(b".")
    rig.pass_time(20.0)
    assert rig.responses() == [(408, "REQUEST_TIMEOUT", True)]


def test_a_connection_between_requests_is_kept_for_a_while(rig):
    rig.receive(HEALTH)
    rig.pass_time(0.0)
    rig.pass_time(74.999)
    assert not rig.transport.aborted
    rig.pass_time(0.002)
    assert rig.transport.aborted
    assert undated(rig.transport.take()) == DONE


def test_the_time_limit_starts_anew_with_each_request(rig):
    for _ in range(5):
        rig.receive(HEALTH)
        rig.pass_time(0.0)
        rig.pass_time(70.0)
    assert not rig.transport.closed
    rig.receive(HEALTH[:10])
    rig.pass_time(0.0)
    rig.pass_time(9.9)
    rig.receive(HEALTH[10:] + HEALTH[:10])
    rig.pass_time(0.0)
    rig.pass_time(9.9)
    assert not rig.transport.ended
    rig.pass_time(0.1)
    assert rig.transport.ended


def test_a_half_closed_connection_has_a_bounded_time_to_read_the_last_response(rig):
    rig.receive(b"nonsense\r\n\r\n")
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted


@pytest.mark.parametrize("data", [b"", HEALTH[:10], HttpRig.push])
def test_close_gracefully_closes_within_a_bounded_time(rig, data):
    if data:
        rig.receive(data if isinstance(data, bytes) else data(rig))
    rig.protocol.close_gracefully()
    assert rig.transport.closed
    rig.pass_time(9.9)
    assert not rig.transport.aborted
    rig.pass_time(0.1)
    assert rig.transport.aborted
    assert rig.transport.writes == []


# The address of a client.


@pytest.mark.parametrize(
    ("peername", "forwarded", "address"),
    [
        (("10.0.0.1", 1), b"203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (("10.0.0.1", 1), b"203.0.113.9\r\nX-Forwarded-For: 198.51.100.1", "198.51.100.1"),
        (("10.0.0.1", 1), b"\xff", "10.0.0.1"),
        (("192.0.2.7", 1), b"198.51.100.1", "192.0.2.7"),
        (("2001:db8::1", 1, 0, 0), b"198.51.100.1", "2001:db8::1"),
        ("", b"198.51.100.1", "198.51.100.1"),
    ],
)
def test_a_trusted_proxy_names_the_address_of_its_client(peername, forwarded, address):
    rig = HttpRig(trusted_proxies="10.0.0.0/8, unix:", peername=peername)
    rig.receive(HANDSHAKE[:-2] + b"X-Forwarded-For: " + forwarded + b"\r\n\r\n")
    (session,) = rig.registry.live()
    assert session.info.remote_address == address


def test_a_proxy_is_not_trusted_by_default():
    rig = HttpRig(peername=("127.0.0.1", 1))
    rig.receive(HANDSHAKE[:-2] + b"X-Forwarded-For: 198.51.100.1\r\n\r\n")
    (session,) = rig.registry.live()
    assert session.info.remote_address == "127.0.0.1"


def test_one_client_too_many_of_an_address_is_429():
    rig = HttpRig(max_connections_per_address="1")
    rig.receive(HANDSHAKE)
    rig.transport = FakeTransport(HttpProtocol(rig.protocol._site))
    rig.transport.protocol.connection_made(rig.transport)
    rig.receive(HANDSHAKE)
    assert rig.responses() == [(429, "TOO_MANY_REQUESTS", True)]
    assert len(rig.registry) == 1
