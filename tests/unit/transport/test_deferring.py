import gc
import re

import pytest

from tests.support.fakes import make_settings
from tests.support.frames import frame
from tests.support.http_rig import HANDSHAKE, HEALTH, NOTHING, HttpRig, responses
from tests.support.peers import REMOTE, PeerDouble
from wsaas.api.api import Api
from wsaas.api.aws import TranslatedResponse
from wsaas.cluster.router import LocalRouter
from wsaas.delivery.verdicts import Accepted
from wsaas.http.serialize import OutgoingResponse
from wsaas.transport.deferring import MAX_BUFFERED_BYTES, DeferringProtocol
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.site import Site
from wsaas.websocket import frames

GONE = OutgoingResponse(410, b'{"code":"GONE"}')


class RouterDouble(LocalRouter):
    def __init__(self, registry, peer):
        super().__init__(registry)
        self._peer = peer

    def find_peer(self, connection_id, /):
        return self._peer.find_peer(connection_id)


class DeferringRig(HttpRig):
    """A connection to a node that has a peer."""

    def __init__(self, timeout=10.0, **values):
        super().__init__(**values)
        self.peer = PeerDouble(self.clock.now, timeout)
        api = Api(make_settings(**values), self.registry, self.fan_out, RouterDouble(self.registry, self.peer))
        self.site = Site(self.context, api, self.registry, self.site.gate)
        self.transport.lose()
        self.protocol = HttpProtocol(self.site)
        self.transport = type(self.transport)(self.protocol)
        self.protocol.connection_made(self.transport)

    @property
    def is_deferring(self):
        return self.protocol._waiting is not None or isinstance(self.transport.protocol, DeferringProtocol)


def remote(*lines, method=b"PUT", version=b"1.1", body=b"hello"):
    head = b"%b /%b HTTP/%b\r\nHost: localhost\r\n" % (method, REMOTE.encode(), version)
    return head + b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


@pytest.fixture
def rig():
    return DeferringRig()


def test_a_push_to_a_client_of_a_peer_is_answered_when_the_peer_answers(rig):
    rig.receive(remote())
    assert rig.is_deferring
    assert rig.timeouts.connections == [rig.transport.protocol]
    assert rig.transport.writes == []
    (request,) = rig.peer.requests
    assert (request.method, request.body) == (b"PUT", b"hello")
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    assert rig.transport.protocol is rig.protocol
    assert rig.timeouts.connections == [rig.protocol]
    rig.receive(rig.push(body=b"hello"))
    assert rig.responses() == [(200, "OK", False)]


@pytest.mark.parametrize(("method", "body"), [(b"PUT", b"hello"), (b"DELETE", b"{}"), (b"GET", b""), (b"HEAD", b"")])
def test_all_methods_of_a_connection_are_forwarded(rig, method, body):
    data = remote(method=method, body=body)
    rig.receive(data[: len(data) - len(body)])
    rig.receive(body)
    (request,) = rig.peer.requests
    assert (request.method, request.body) == (method, body)


@pytest.mark.parametrize("method", [b"PUT", b"DELETE"])
def test_a_client_of_a_peer_joins_and_leaves_a_group_there(rig, method):
    rig.receive(b"%b /groups/lobby/connections/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (method, REMOTE.encode()))
    assert rig.is_deferring
    (request,) = rig.peer.requests
    assert request.method == method
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    assert list(rig.registry.groups.group("lobby")) == []


@pytest.mark.parametrize(("method", "size"), [(b"PUT", 2_000_000), (b"DELETE", 5000)])
def test_a_body_that_is_too_large_is_not_forwarded(rig, method, size):
    rig.receive(remote(method=method, body=b"x" * size)[:1000])
    assert rig.responses()[0][:2] == (413, "TOO_LARGE")
    assert rig.peer.requests == []


def test_a_body_that_is_not_needed_is_discarded_after_the_response(rig):
    rig.receive(remote(method=b"GET", body=b"x" * 1000)[:-500])
    assert len(rig.peer.requests) == 1
    rig.receive(b"x" * 500 + NOTHING)
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False), (404, "NOT_FOUND", False)]


def test_an_id_that_no_peer_holds_is_gone(rig):
    rig.receive(remote().replace(REMOTE.encode(), b"a" * 30))
    assert rig.responses() == [(410, "GONE", False)]
    assert not rig.is_deferring


def test_a_method_that_no_connection_has_is_not_forwarded(rig):
    rig.receive(remote(method=b"POST"))
    assert rig.responses() == [(405, "METHOD_NOT_ALLOWED", False)]


def test_pipelined_responses_leave_in_the_order_of_their_requests(rig):
    local = rig.push(body=b"hello")
    rig.receive(local + remote() + NOTHING + remote(method=b"GET", body=b"") + local)
    assert rig.responses() == [(200, "OK", False)]
    assert len(rig.peer.requests) == 1
    rig.receive(NOTHING)
    rig.peer.answer(GONE)
    assert rig.responses() == [(410, "GONE", False), (404, "NOT_FOUND", False)]
    assert rig.is_deferring
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False), (200, "OK", False), (404, "NOT_FOUND", False)]
    assert rig.transport.reading


def test_a_single_push_does_not_overtake_a_deferred_response(rig):
    rig.receive(remote())
    local = rig.push(body=b"hello")
    rig.receive(local[:10])
    rig.receive(local[10:])
    assert rig.transport.writes == []
    rig.peer.answer(GONE)
    assert rig.responses() == [(410, "GONE", False), (200, "OK", False)]


def test_a_caller_is_read_up_to_a_limit_while_a_response_is_deferred(rig):
    rig.receive(remote())
    requests = rig.push(body=b"hello") * 1000
    rig.receive(requests[:MAX_BUFFERED_BYTES])
    assert rig.transport.reading
    rig.receive(requests[MAX_BUFFERED_BYTES : MAX_BUFFERED_BYTES + 1])
    assert not rig.transport.reading
    rig.peer.answer(GONE)
    assert rig.responses()[0] == (410, "GONE", False)
    while rig.clock.timers:
        rig.clock.advance(0.0)
    assert rig.transport.reading
    assert not rig.is_deferring


def test_a_caller_that_does_not_read_responses_is_not_read(rig):
    rig.receive(remote())
    rig.transport.protocol.pause_writing()
    assert not rig.transport.reading
    rig.receive(NOTHING)
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    assert not rig.transport.reading
    rig.transport.protocol.resume_writing()
    assert rig.responses() == [(404, "NOT_FOUND", False)]
    assert rig.transport.reading


def test_a_caller_that_reads_responses_again_is_read_again(rig):
    rig.receive(remote())
    rig.transport.protocol.pause_writing()
    rig.transport.protocol.resume_writing()
    assert rig.transport.reading
    rig.transport.protocol.pause_writing()
    rig.receive(b"x" * (MAX_BUFFERED_BYTES + 1))
    rig.transport.protocol.resume_writing()
    assert not rig.transport.reading
    assert rig.is_deferring


def test_the_response_to_a_head_has_no_body(rig):
    rig.receive(remote(method=b"HEAD", body=b"") + NOTHING)
    rig.peer.answer(OutgoingResponse(200, b'{"code":"OK"}'))
    data = rig.transport.take()
    assert b"Content-Length: 13\r\n" in data
    assert responses(data.partition(b"\r\n\r\n")[2]) == [(404, "NOT_FOUND", False)]


@pytest.mark.parametrize(
    ("lines", "connection"), [([], b"close"), ([b"Connection: keep-alive"], b"keep-alive")], ids=["closes", "stays"]
)
def test_a_response_to_http_1_0_says_whether_the_connection_is_kept(rig, lines, connection):
    rig.receive(remote(*lines, version=b"1.0"))
    rig.peer.answer()
    assert re.findall(rb"\r\nConnection: (.*)\r\n", rig.transport.take()) == [connection]
    assert rig.is_half_closed is (connection == b"close")


def test_the_last_request_of_a_connection_may_be_deferred(rig):
    rig.receive(remote(b"Connection: close") + NOTHING)
    assert not rig.transport.ended
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", True)]
    assert rig.is_half_closed


def test_a_handshake_behind_a_deferred_response_waits_for_it(rig):
    early = frame(frames.TEXT, b"early")
    rig.receive(remote() + HANDSHAKE)
    rig.receive(early)
    assert len(rig.registry) == 0
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    assert len(rig.registry) == 1
    rig.webhook.answer(Accepted(None, None))
    assert rig.webhook.pending.data == b"early"


def test_a_client_that_has_closed_its_side_behind_a_deferred_response_is_closed(rig):
    rig.receive(remote() + HANDSHAKE)
    assert rig.transport.protocol.eof_received()
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    assert rig.transport.closed


@pytest.mark.parametrize("behind", [b"", NOTHING])
def test_a_caller_that_goes_away_cancels_its_request(rig, behind):
    rig.receive(remote())
    if behind:
        rig.receive(behind)
    (request,) = rig.peer.requests
    rig.transport.lose()
    assert rig.peer.cancelled == [request]
    assert rig.timeouts.connections == []
    rig.peer.answer()
    assert rig.transport.writes == []


@pytest.mark.parametrize("behind", [b"", NOTHING, remote(b"Connection: close")])
def test_a_caller_that_has_closed_its_side_gets_all_responses(rig, behind):
    rig.receive(remote() + behind)
    assert rig.transport.protocol.eof_received()
    assert not rig.transport.closed
    rig.peer.answer(GONE)
    if rig.is_deferring:
        assert rig.responses() == [(410, "GONE", False)]
        assert not rig.transport.closed
        rig.peer.answer()
        assert rig.responses() == [(200, "OK", True)]
    else:
        assert [response[0] for response in rig.responses()] == [410, 404][: 1 + bool(behind)]
    assert rig.transport.closed
    rig.transport.lose()
    assert rig.timeouts.connections == []


def test_the_second_response_to_a_caller_that_has_closed_its_side_may_be_a_usual_one(rig):
    rig.receive(remote() * 2)
    assert rig.transport.protocol.eof_received()
    rig.peer.answer()
    assert not rig.transport.closed
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False), (200, "OK", False)]
    assert rig.transport.closed


def test_a_caller_that_has_closed_its_side_and_reads_slowly_gets_all_responses(rig):
    rig.receive(remote() + NOTHING)
    assert rig.transport.protocol.eof_received()
    rig.transport.protocol.pause_writing()
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    assert not rig.transport.closed
    rig.transport.protocol.resume_writing()
    assert rig.responses() == [(404, "NOT_FOUND", False)]
    assert rig.transport.closed


def test_a_caller_that_closes_its_side_without_a_request_is_closed(rig):
    assert not rig.transport.protocol.eof_received()


@pytest.mark.parametrize("behind", [b"", NOTHING])
def test_a_response_to_a_connection_that_closes_is_dropped(rig, behind):
    rig.receive(remote())
    if behind:
        rig.receive(behind)
    rig.transport.close()
    rig.peer.answer()
    assert rig.transport.writes == []
    rig.transport.lose()
    assert rig.peer.cancelled == []
    assert rig.timeouts.connections == []


def test_after_the_deadline_the_response_is_504_and_the_connection_is_kept():
    rig = DeferringRig(timeout=100.0)
    rig.receive(remote() + NOTHING)
    rig.pass_time(99.9, beats=100)
    assert rig.transport.writes == []
    rig.pass_time(0.2)
    assert len(rig.peer.cancelled) == 1
    assert rig.responses() == [(504, "GATEWAY_TIMEOUT", False), (404, "NOT_FOUND", False)]
    rig.peer.answer()
    assert rig.transport.writes == []
    rig.pass_time(0.0)
    rig.pass_time(74.9)
    assert not rig.transport.aborted
    rig.pass_time(0.2)
    assert rig.transport.aborted


def test_a_node_that_stops_answers_504_and_closes(rig):
    rig.receive(remote() + NOTHING)
    rig.transport.protocol.close_gracefully()
    assert rig.responses() == [(504, "GATEWAY_TIMEOUT", True)]
    assert len(rig.peer.cancelled) == 1
    assert rig.transport.closed
    rig.pass_time(10.0)
    assert rig.transport.aborted


def test_a_deferring_connection_is_not_idle_but_may_be_aborted(rig):
    rig.receive(HEALTH)
    assert rig.protocol.idle_since() < float("inf")
    rig.receive(remote())
    assert rig.protocol.idle_since() == float("inf")
    rig.protocol.abort()
    rig.peer.answer()
    rig.transport.lose()
    assert rig.transport.take().count(b"HTTP/1.1 ") == 1
    assert rig.timeouts.connections == []


def test_two_connections_do_not_wait_for_each_other(rig):
    other = rig.visit()
    rig.receive(remote())
    other.protocol.data_received(remote(method=b"DELETE", body=b"") + NOTHING)
    rig.peer.answer(GONE, which=1)
    assert responses(other.take()) == [(410, "GONE", False), (404, "NOT_FOUND", False)]
    assert rig.transport.writes == []
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]


def test_without_authorization_nothing_is_forwarded():
    rig = DeferringRig(control_token="s3cret")
    rig.receive(remote())
    assert rig.responses() == [(401, "UNAUTHORIZED", False)]
    assert rig.peer.requests == []


def test_the_transport_is_handed_over_only_if_something_happens_before_the_response(rig):
    rig.receive(remote())
    assert rig.transport.protocol is rig.protocol
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
    rig.receive(remote())
    rig.receive(NOTHING)
    assert isinstance(rig.transport.protocol, DeferringProtocol)
    rig.peer.answer()
    assert rig.transport.protocol is rig.protocol
    assert rig.responses() == [(200, "OK", False), (404, "NOT_FOUND", False)]


@pytest.mark.parametrize("event", ["answered", "lost"])
@pytest.mark.parametrize("prefix", [b" /", b" /@connections/"])
def test_what_has_waited_is_freed_without_the_garbage_collector(rig, prefix, event):
    def waiting():
        return sum(type(each) in {DeferringProtocol, TranslatedResponse} for each in gc.get_objects())

    gc.collect()
    before = waiting()
    gc.disable()
    try:
        rig.receive(remote(method=b"DELETE").replace(b" /", prefix))
        rig.receive(NOTHING)
        assert waiting() == before + (1 if prefix == b" /" else 2)
        if event == "answered":
            rig.peer.answer()
        else:
            rig.transport.protocol.connection_lost(None)
            rig.peer._deferred.clear()
            rig.transport.protocol = rig.protocol
        assert waiting() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("event", ["pause_writing", "check", "close", "lost"])
def test_each_event_of_a_connection_that_waits_hands_its_transport_over(rig, event):
    rig.receive(remote())
    if event == "pause_writing":
        rig.protocol.pause_writing()
        assert not rig.transport.reading
    elif event == "check":
        rig.timeouts.check(rig.clock.now())
    elif event == "close":
        rig.protocol.close_gracefully()
        assert rig.responses()[0][0] == 504
        return
    else:
        rig.protocol.connection_lost(None)
        assert rig.peer.cancelled == rig.peer.requests
        return
    assert isinstance(rig.transport.protocol, DeferringProtocol)
    rig.peer.answer()
    assert rig.responses() == [(200, "OK", False)]
