"""A link to a peer, over fake transports. Time passes when a test says so."""

import json
import socket
from dataclasses import replace
from functools import partial

import pytest

from tests.support.fakes import FakeClock, FakeOpener, Stopwatch
from wsaas.cluster.forwarded import serialize_request
from wsaas.cluster.link_policy import NODE_TIMEOUT_S, PEER_TIMEOUT_S, WORKER_POLICY, node_policy
from wsaas.cluster.link_state import CLOSED, CONNECTED, CONNECTING, FAILED, IDLE
from wsaas.cluster.peer_link import MAX_OUTSTANDING, MAX_UNSENT, RESET, LinkServices, PeerLink
from wsaas.errors import Gone, Unavailable
from wsaas.http.request import Request, RequestParser
from wsaas.http.serialize import OK, OutgoingResponse, serialize, serialize_ok
from wsaas.run_queue import RunQueue

ID = "a" * 30
CHUNKED = (
    b"PUT /a?b=c HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t\r\nContent-Type: text/plain\r\n"
    b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
)
PUSH = b"PUT /a HTTP/1.1\r\nHost: peer\r\nContent-Length: 5\r\n\r\nhello"


def parse(data):
    parser = RequestParser(1000)
    parser.receive(data)
    request = parser.next()
    assert isinstance(request, Request)
    return request


def answer(response=OK):
    return serialize(response, 0.0, parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))


class Rig:
    def __init__(self, **options):
        self.clock = FakeClock()
        self.stopwatch = Stopwatch()
        self.run_queue = RunQueue(self.clock, self.stopwatch)
        self.opener = FakeOpener()
        self.responses = {}
        self.link = PeerLink(LinkServices(self.clock, self.run_queue), "worker 2", self.opener, **options)

    def send(self, *names, request=PUSH):
        """Send requests; their responses are kept by these names."""
        for name in names:
            self.link.send(request).on_response(partial(self.keep, name))

    def keep(self, name, response):
        assert name not in self.responses
        self.responses[name] = response.status, json.loads(response.body)["code"]

    def state(self):
        return self.link.state

    def connect(self, *names):
        self.send(*names)
        return self.opener.open()

    def pass_time(self, seconds):
        self.clock.advance(seconds)
        self.link.sweep(self.clock.now())


@pytest.fixture
def rig():
    return Rig()


def test_a_link_connects_when_the_first_request_is_sent(rig):
    assert rig.state() is IDLE
    assert not rig.opener.pending
    rig.send("a", "b")
    assert rig.state() is CONNECTING
    assert len(rig.opener.pending) == 1
    transport = rig.opener.open()
    assert rig.state() is CONNECTED
    assert transport.writes == [PUSH * 2]


def test_the_requests_of_one_turn_are_sent_in_one_write(rig):
    transport = rig.connect("a")
    transport.writes.clear()
    rig.send("b", "c", "d")
    assert transport.writes == []
    rig.clock.turn()
    assert transport.writes == [PUSH * 3]
    rig.send("e")
    rig.clock.turn()
    assert transport.writes == [PUSH * 3, PUSH]


def test_a_request_is_sent_again_if_the_transport_fails_before_it_is_written(rig):
    transport = rig.connect("a")
    transport.protocol.data_received(answer())
    transport.writes.clear()
    rig.send("b")
    transport.closed = transport.ended = True
    rig.clock.turn()
    transport.lose()
    assert rig.state() is CONNECTING
    assert rig.opener.open().writes == [PUSH]
    assert "b" not in rig.responses


def test_responses_go_to_the_requests_in_order(rig):
    transport = rig.connect("a", "b", "c")
    gone = answer(OutgoingResponse(410, b'{"code":"GONE"}'))
    transport.protocol.data_received(answer() + gone + answer()[:20])
    assert rig.responses == {"a": (200, "OK"), "b": (410, "GONE")}
    transport.protocol.data_received(answer()[20:])
    assert rig.responses["c"] == (200, "OK")


def test_a_caller_may_send_its_next_request_while_it_is_answered(rig):
    transport = rig.connect("z")
    rig.link.send(PUSH).on_response(lambda _: rig.send("next"))
    rig.clock.turn()
    transport.writes.clear()
    transport.protocol.data_received(answer() * 2)
    rig.clock.turn()
    assert transport.writes == [PUSH]
    transport.protocol.data_received(answer())
    assert rig.responses["next"] == (200, "OK")


def test_many_responses_are_resolved_in_slices(rig):
    names = [str(number) for number in range(10)]
    transport = rig.connect(*names)
    rig.stopwatch.step = 1.0
    transport.protocol.data_received(answer() * 9)
    assert len(rig.responses) == 1
    transport.protocol.data_received(answer())
    assert len(rig.responses) == 1
    for number in range(2, 11):
        rig.clock.turn()
        assert len(rig.responses) == number
    rig.clock.turn()
    assert rig.clock.timers == []
    assert list(rig.responses) == names


def test_a_lost_connection_first_resolves_what_has_arrived(rig):
    transport = rig.connect("a", "b", "c")
    rig.stopwatch.step = 1.0
    transport.protocol.data_received(answer() * 2)
    assert list(rig.responses) == ["a"]
    transport.lose()
    assert list(rig.responses) == ["a", "b"]
    rig.clock.turn()
    rig.pass_time(PEER_TIMEOUT_S)
    assert rig.responses["c"] == (504, "UNKNOWN")


def test_a_response_that_is_not_wanted_any_more_is_dropped(rig):
    transport = rig.connect("a")
    cancelled = rig.link.send(PUSH)
    cancelled.on_response(lambda _: pytest.fail("it was cancelled"))
    rig.send("b")
    cancelled.cancel()
    rig.clock.turn()
    transport.protocol.data_received(answer() * 3)
    assert list(rig.responses) == ["a", "b"]


def test_a_late_response_is_504_and_takes_no_other_requests_place(rig):
    transport = rig.connect("a", "b")
    rig.pass_time(1.0)
    rig.send("c")
    rig.pass_time(PEER_TIMEOUT_S - 1.0)
    assert rig.responses == {"a": (504, "UNKNOWN"), "b": (504, "UNKNOWN")}
    rig.pass_time(0.0)
    transport.protocol.data_received(answer(OutgoingResponse(410, b'{"code":"GONE"}')) * 2 + answer())
    assert rig.responses["c"] == (200, "OK")
    assert rig.state() is CONNECTED


def test_what_was_sent_on_a_lost_connection_waits_for_news_of_the_peer_until_it_is_due(rig):
    transport = rig.connect("a")
    rig.pass_time(2.0)
    transport.lose()
    assert rig.state() is IDLE
    assert rig.responses == {}
    rig.pass_time(PEER_TIMEOUT_S - 2.1)
    assert rig.responses == {}
    rig.pass_time(0.1)
    assert rig.responses == {"a": (504, "UNKNOWN")}
    rig.pass_time(PEER_TIMEOUT_S)


def test_a_lost_connection_can_decide_at_once():
    rig = Rig(policy=replace(WORKER_POLICY, verdict=0.0))
    rig.connect("a").lose()
    rig.pass_time(0.0)
    assert rig.responses == {"a": (504, "UNKNOWN")}


def test_what_was_not_sent_yet_is_sent_on_the_next_connection(rig):
    transport = rig.connect("a")
    transport.protocol.data_received(answer())
    rig.send("b")
    transport.lose()
    assert rig.state() is CONNECTING
    rig.clock.turn()
    second = rig.opener.open()
    assert second.writes == [PUSH]
    second.protocol.data_received(answer())
    assert rig.responses == {"a": (200, "OK"), "b": (200, "OK")}


def test_the_end_of_an_idle_connection_is_not_logged(rig, caplog):
    transport = rig.connect("a")
    transport.protocol.data_received(answer())
    transport.lose()
    assert caplog.messages == []
    rig.send("b")
    assert rig.state() is CONNECTING


@pytest.mark.parametrize("garbage", [b"garbage\r\n\r\n", answer() + answer()])
def test_a_peer_that_sends_garbage_is_cut_off_and_connected_again(rig, garbage):
    transport = rig.connect("a")
    transport.protocol.data_received(garbage)
    assert transport.aborted
    transport.protocol.connection_lost(ConnectionResetError("late"))
    assert rig.state() is IDLE
    rig.send("b")
    rig.opener.open().protocol.data_received(answer())
    assert rig.responses["b"] == (200, "OK")
    rig.pass_time(PEER_TIMEOUT_S)
    assert rig.responses["a"] == ((200, "OK") if b"200" in garbage else (504, "UNKNOWN"))


def test_a_failed_connection_is_tried_again_at_the_next_check(rig, caplog):
    rig.send("a")
    rig.opener.fail()
    assert rig.state() is FAILED
    assert caplog.messages == ["cannot connect to worker 2: nobody there"]
    rig.send("b")
    assert rig.opener.pending == []
    rig.pass_time(1.0)
    assert rig.state() is CONNECTING
    transport = rig.opener.open()
    assert transport.writes == [PUSH * 2]
    transport.protocol.data_received(answer() * 2)
    assert rig.responses == {"a": (200, "OK"), "b": (200, "OK")}


def test_what_could_not_be_sent_in_time_is_503_and_is_never_sent(rig):
    rig.send("a")
    rig.opener.fail()
    rig.pass_time(1.0)
    rig.send("b")
    rig.opener.fail()
    rig.pass_time(PEER_TIMEOUT_S - 1.0)
    assert rig.responses == {"a": (503, "UNAVAILABLE")}
    assert rig.opener.open().writes == [PUSH]


def test_a_link_without_requests_stops_to_connect(rig):
    rig.send("a")
    rig.opener.fail()
    rig.pass_time(PEER_TIMEOUT_S)
    assert rig.state() is IDLE
    assert rig.opener.pending == []


@pytest.mark.parametrize("how", ["connecting", "connected", "lost", "failed"])
def test_when_the_peer_is_gone_all_requests_are_410(rig, how):
    rig.send("a", "b")
    if how == "failed":
        rig.opener.fail()
    elif how != "connecting":
        transport = rig.opener.open()
        if how == "lost":
            transport.lose()
    rig.send("c")
    cancelled = rig.link.send(PUSH)
    cancelled.cancel()
    rig.link.close()
    assert rig.state() is CLOSED
    assert rig.responses == dict.fromkeys("abc", (410, "GONE"))
    with pytest.raises(Gone):
        rig.link.send(PUSH)
    rig.clock.turn()
    for _ in rig.opener.pending[:]:
        assert rig.opener.open().aborted
    for transport in rig.opener.transports:
        if not transport.closed:
            transport.lose()
        transport.protocol.connection_lost(None)
    rig.pass_time(PEER_TIMEOUT_S)


def test_a_connection_that_fails_after_the_end_changes_nothing(rig):
    rig.send("a")
    rig.link.close()
    rig.opener.fail()
    assert rig.state() is CLOSED


def test_requests_on_the_way_have_a_limit(rig):
    transport = rig.connect(*range(MAX_OUTSTANDING))
    with pytest.raises(Unavailable, match="worker 2") as caught:
        rig.send("more")
    assert caught.value.headers == (("Retry-After", "1"),)
    transport.protocol.data_received(answer())
    rig.send("more")


def test_the_bytes_that_the_peer_has_not_read_have_a_limit(rig):
    large = b"x" * (MAX_UNSENT + 1)
    rig.send("a", request=large)
    with pytest.raises(Unavailable):
        rig.send("b")
    transport = rig.opener.open()
    assert transport.high == MAX_UNSENT
    rig.send("b")
    transport.protocol.pause_writing()
    with pytest.raises(Unavailable):
        rig.send("c")
    transport.protocol.resume_writing()
    rig.send("c")


@pytest.mark.parametrize(
    ("given", "forwarded"),
    [
        (
            CHUNKED,
            b"PUT /a?b=c HTTP/1.1\r\nHost: peer\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi",
        ),
        (
            b"DELETE /a HTTP/1.0\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n",
            b"DELETE /a HTTP/1.1\r\nHost: peer\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        ),
        (b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /a HTTP/1.1\r\nHost: peer\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_a_request_is_forwarded_with_what_the_peer_needs(rig, given, forwarded):
    parser = RequestParser(1000, lambda _: 1000)
    parser.receive(given)
    while not isinstance(request := parser.next(), Request):
        assert isinstance(request, bytes)
    assert serialize_request(request) == forwarded
    rig.link.forward(request, ID)
    assert rig.opener.open().writes == [forwarded]


def test_the_usual_response_is_recognized_in_every_second(rig):
    transport = rig.connect("a", "b", "c")
    transport.protocol.data_received(serialize_ok(1) + serialize_ok(1) + serialize_ok(2))
    assert rig.responses == dict.fromkeys("abc", (200, "OK"))


# Links to other nodes have another policy.


def test_an_impatient_link_does_not_try_again_for_what_it_could_not_send():
    rig = Rig(policy=node_policy(60.0))
    rig.send("a", "b")
    rig.opener.fail()
    assert rig.responses == {"a": (503, "UNAVAILABLE"), "b": (503, "UNAVAILABLE")}
    rig.send("c")
    assert rig.state() is FAILED
    rig.pass_time(0.0)
    assert rig.opener.open().writes == [PUSH]


def test_a_caller_may_send_its_next_request_when_a_connection_failed():
    rig = Rig(policy=node_policy(60.0))
    rig.link.send(PUSH).on_response(lambda _: rig.send("next"))
    rig.opener.fail()
    assert rig.responses == {}
    rig.pass_time(0.0)
    rig.opener.open().protocol.data_received(answer())
    assert rig.responses == {"next": (200, "OK")}


def test_an_idle_connection_is_closed(caplog):
    rig = Rig(policy=node_policy(60.0))
    transport = rig.connect("a")
    rig.pass_time(1.0)
    transport.protocol.data_received(answer())
    for _ in range(2):
        rig.pass_time(1.0)
        rig.pass_time(29.0)
        assert not transport.aborted
        rig.send("b")
        rig.clock.turn()
        transport.protocol.data_received(answer())
        assert rig.responses.pop("b") == (200, "OK")
    rig.pass_time(1.0)
    rig.pass_time(30.0)
    assert transport.aborted
    assert rig.state() is IDLE
    assert caplog.messages == []


def test_a_connection_on_which_nothing_is_answered_is_replaced():
    rig = Rig(policy=node_policy(60.0))
    transport = rig.connect("a")
    transport.options = {}
    rig.pass_time(NODE_TIMEOUT_S)
    assert rig.responses == {"a": (504, "UNKNOWN")}
    assert rig.state() is CONNECTED
    rig.send("b")
    rig.pass_time(NODE_TIMEOUT_S)
    assert transport.aborted
    # So the kernel does not send the requests again when the peer is back.
    assert transport.options == {(socket.SOL_SOCKET, socket.SO_LINGER): RESET}
    assert rig.state() is IDLE
    rig.pass_time(0.0)
    assert rig.responses["b"] == (504, "UNKNOWN")
    rig.send("c")
    rig.opener.open().protocol.data_received(answer())
    assert rig.responses["c"] == (200, "OK")


def test_a_link_can_end_with_another_error():
    rig = Rig()
    rig.send("a")
    rig.link.close(Unavailable("It moved."))
    assert rig.responses == {"a": (503, "UNAVAILABLE")}
    with pytest.raises(Unavailable):
        rig.link.send(PUSH)


def test_a_state_cannot_be_skipped(rig):
    with pytest.raises(AssertionError, match="idle cannot be connected"):
        rig.link.connected(rig.link._connection)
