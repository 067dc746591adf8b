"""The shortcut for forwarded pushes has the effects and the responses of the plain protocol."""

import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.aws import KEY, sign
from tests.support.azure_tokens import KEY as AZURE_KEY
from tests.support.azure_tokens import request_token
from tests.support.fakes import FakePendingClient, FakeTransport, start_session
from tests.support.http_rig import HttpRig, responses
from tests.support.strategies import cut, examples, places
from wsaas.api.api import Api
from wsaas.api.forwarded_pushes import MAX_PUSHES, ForwardedPushes
from wsaas.run_queue import TURN_S
from wsaas.transport.http_server import HttpProtocol
from wsaas.transport.peer_protocol import NodeProtocol, PeerProtocol
from wsaas.transport.server_listeners import private_settings
from wsaas.transport.site import Site

GONE = "g" * 30


class Rig(HttpRig):
    """A connection of a peer, on which two clients can be pushed to. `shortcut`: whether it is taken."""

    def __init__(self, *, shortcut=True, **values):
        super().__init__(**values)
        self.clients = [FakePendingClient() for _ in range(2)]
        self.sessions = [start_session(self.registry, client) for client in self.clients]
        settings = private_settings(self.context.settings, "/run/peer.sock")
        context = self.context.for_settings(settings)
        self.site = Site(context, Api(settings, self.registry, self.fan_out), None, self.site.gate)
        pushes = ForwardedPushes(settings, self.registry)
        self.protocol = PeerProtocol(self.site, pushes) if shortcut else HttpProtocol(self.site)
        self.transport = FakeTransport(self.protocol)
        self.protocol.connection_made(self.transport)

    def put(self, which, body=b"hello", content_type=b"text/plain", more=b""):
        """Return a push as a peer forwards it. `which`: one of the two clients, or an id."""
        name = self.sessions[which].id if isinstance(which, int) else which
        kind = b"Content-Type: %b\r\n" % content_type if content_type else b""
        head = b"PUT /%b HTTP/1.1\r\nHost: peer\r\n%b%bContent-Length: %d\r\n\r\n"
        return head % (name.encode(), kind, more, len(body)) + body

    def finish(self):
        """Run what is queued; return the responses, and what was sent to each client."""
        while self.context.run_queue.waiting:
            self.clock.turn()
        sent = [(each.info.messages_out, each.info.bytes_out) for each in self.sessions]
        return responses(self.transport.take()), sent


def test_pipelined_pushes_are_answered_in_one_write():
    rig = Rig()
    rig.receive(rig.put(0) + rig.put(1, b"\xff", b"application/octet-stream") + rig.put(0, b""))
    assert len(rig.transport.writes) == 1
    assert rig.finish() == ([(200, "OK", False)] * 3, [(2, 5), (1, 1)])


def test_what_is_not_a_usual_push_is_answered_in_its_place():
    rig = Rig()
    get = b"GET /healthz HTTP/1.1\r\nHost: peer\r\nContent-Length: 0\r\n\r\n"
    rig.receive(rig.put(0) + rig.put(GONE) + rig.put(0) + get + rig.put(1, b"\xff") + rig.put(1)[:-2])
    found, sent = rig.finish()
    assert [status for status, _, _ in found] == [200, 410, 200, 200, 400]
    assert sent == [(2, 10), (0, 0)]
    rig.receive(b"lo")
    rig.receive(rig.put(0))
    assert rig.finish() == ([(200, "OK", False)] * 2, [(3, 15), (1, 5)])


def test_a_push_that_is_refused_by_its_client_has_no_effect_and_is_answered_as_usual():
    rig = Rig(send_buffer="1")
    rig.receive(rig.put(0) * 2)
    found, sent = rig.finish()
    assert [code for _, code, _ in found] == ["OK", "SLOW_CLIENT"]
    assert sent == [(1, 5), (0, 0)]


def test_a_push_in_an_unknown_charset_is_refused_as_usual():
    rig = Rig()
    rig.receive(rig.put(0, b"hello", b"text/plain; charset=none"))
    assert rig.finish()[0][0][0] == 415


def test_many_pushes_take_turns_with_other_connections():
    rig = Rig()
    rig.receive(rig.put(0) * (MAX_PUSHES + 40))
    assert len(responses(rig.transport.take())) < MAX_PUSHES + 40
    rig.finish()
    assert rig.sessions[0].info.messages_out == MAX_PUSHES + 40


def test_slow_pushes_take_turns_with_other_connections():
    rig = Rig()
    rig.seconds = TURN_S
    rig.receive(rig.put(0) * 5)
    assert len(responses(rig.transport.take())) < 5
    rig.receive(rig.put(1))
    rig.finish()
    assert [each.info.messages_out for each in rig.sessions] == [5, 1]


requests = st.lists(
    st.tuples(
        st.sampled_from([0, 1, GONE, "short"]),
        st.sampled_from([b"", b"hello", b"\xff", b"\xc3\xa4", b"x" * 40]),
        st.sampled_from(
            [b"", b"text/plain", b"application/octet-stream", b"text/a;charset=latin-1", b"text/a;charset=x"]
        ),
        st.sampled_from([b"", b"", b"", b"X: y\r\n", b"Content-Encoding: gzip\r\n", b"Connection: close\r\n"]),
    ),
    max_size=8,
)


@pytest.mark.parametrize("size", [20, 1000])
@given(requests, places)
@examples(150)
def test_the_shortcut_has_the_effects_and_responses_of_the_plain_protocol(size, sent, where):
    results = []
    for shortcut in (True, False):
        rig = Rig(shortcut=shortcut, max_message_size=str(size))
        for piece in cut(b"".join(rig.put(*each) for each in sent), where):
            if not rig.transport.ended:
                rig.receive(piece)
        results.append(rig.finish())
    assert results[0] == results[1]


# Links of other nodes: each push carries the credentials of its caller.

TOKEN, OTHER_TOKEN, WRONG_TOKEN = (letter * 32 for letter in "abc")


class NodeRig(HttpRig):
    """A connection of another node, on which a client can be pushed to. `shortcut`: whether it may be taken."""

    def __init__(self, *, shortcut=True, **values):
        super().__init__(control_token=f"{TOKEN},{OTHER_TOKEN}", node_address="10.0.0.5:8081", **values)
        self.session = start_session(self.registry, FakePendingClient())
        settings = self.context.settings
        self.api = Api(settings, self.registry, self.fan_out)
        self.site = Site(self.context, self.api, None, self.site.gate)
        shortcuts = partial(ForwardedPushes, settings, self.registry)
        self.protocol = NodeProtocol(self.site, self.api.tokens, shortcuts) if shortcut else HttpProtocol(self.site)
        self.transport = FakeTransport(self.protocol)
        self.protocol.connection_made(self.transport)

    @property
    def is_link(self):
        return isinstance(self.protocol, NodeProtocol) and self.protocol._is_link

    def put(self, token=TOKEN, node="here", host="10.0.0.5:8081", more=""):
        """Return a push as a node forwards it."""
        lines = [f"PUT /{self.session.id} HTTP/1.1", f"Host: {host}", *([f"Ws-Node: {node}"] if node else [])]
        credentials = [f"Authorization: Bearer {token}"] if token else []
        end = ["Content-Type: text/plain", f"{more}Content-Length: 5", "", "hello"]
        return "\r\n".join([*lines, *credentials, *end]).encode()

    def finish(self):
        """Run what is queued; return the responses, and how many messages the client got."""
        while self.context.run_queue.waiting:
            self.clock.turn()
        return responses(self.transport.take()), self.session.info.messages_out


def test_the_pushes_of_another_node_are_answered_in_one_write_once_one_was_authorized():
    rig = NodeRig()
    rig.receive(rig.put())
    assert rig.finish() == ([(200, "OK", False)], 1)
    rig.receive(rig.put() * 3)
    assert len(rig.transport.writes) == 1
    assert rig.finish() == ([(200, "OK", False)] * 3, 4)


def test_a_caller_of_the_rest_api_is_no_node():
    rig = NodeRig()
    for _ in range(2):
        rig.receive(rig.put(node=""))
        assert rig.finish()[0] == [(200, "OK", False)]
    assert not rig.is_link


def test_a_replaced_token_is_refused_at_once_and_the_new_one_takes_the_shortcut_again():
    rig = NodeRig()
    rig.receive(rig.put())
    rig.receive(rig.put())
    rig.api.tokens.replace([OTHER_TOKEN.encode()])
    rig.receive(rig.put() * 2)
    assert [status for status, _, _ in rig.finish()[0]] == [200, 200, 401, 401]
    rig.receive(rig.put(OTHER_TOKEN))
    assert rig.is_link
    rig.receive(rig.put(OTHER_TOKEN))
    assert rig.finish() == ([(200, "OK", False)] * 2, 4)


def test_a_signed_request_authorizes_no_pushes_with_the_same_head():
    rig = NodeRig(control_aws_keys=KEY)
    rig.clock.stand_still(time.time() - rig.clock.wall())
    target, host = f"/@connections/{rig.session.id}", "10.0.0.5:8081"
    signed = sign("POST", target, b"hello", host=host, headers={"Ws-Node": "here"})
    lines = [f"Host: {host}", "Ws-Node: here", f"Authorization: {signed.pop('Authorization')}"]
    more = [f"{name}: {value}" for name, value in signed.items() if name != "Ws-Node"]
    post = [f"POST {target} HTTP/1.1", *lines, *more, "Content-Length: 5", "", "hello"]
    rig.receive("\r\n".join(post).encode())
    assert rig.transport.take().startswith(b"HTTP/1.1 200 ")
    put = [f"PUT /{rig.session.id} HTTP/1.1", *lines, "Content-Type: text/plain", "Content-Length: 5", "", "hello"]
    for _ in range(2):
        rig.receive("\r\n".join(put).encode())
        assert rig.finish() == ([(401, "UNAUTHORIZED", False)], 1)
    assert not rig.is_link


def test_a_token_for_a_path_of_azure_authorizes_no_pushes_with_the_same_head():
    rig = NodeRig(event_format="azure", control_azure_keys=AZURE_KEY)
    target = "/api/hubs/chat/groups/a/:send"
    lines = ["Host: 10.0.0.5:8081", "Ws-Node: here", f"Authorization: Bearer {request_token(target)}"]
    content = ["Content-Type: text/plain", "Content-Length: 5", "", "hello"]
    rig.receive("\r\n".join([f"POST {target} HTTP/1.1", *lines, *content]).encode())
    assert rig.transport.take().startswith(b"HTTP/1.1 202 ")
    for _ in range(2):
        rig.receive("\r\n".join([f"PUT /{rig.session.id} HTTP/1.1", *lines, *content]).encode())
        assert rig.finish() == ([(401, "UNAUTHORIZED", False)], 0)
    assert not rig.is_link


node_requests = st.lists(
    st.tuples(
        st.sampled_from([TOKEN, TOKEN, OTHER_TOKEN, WRONG_TOKEN, ""]),
        st.sampled_from(["here", "here", "there", ""]),
        st.sampled_from(["10.0.0.5:8081", "evil.test"]),
        st.sampled_from(["", "", "X: y\r\n", "Origin: http://evil.test\r\n"]),
    ),
    max_size=8,
)


@given(node_requests, places)
@examples(150)
def test_the_shortcut_for_nodes_has_the_effects_and_responses_of_the_plain_protocol(sent, where):
    results = []
    for shortcut in (True, False):
        rig = NodeRig(shortcut=shortcut)
        for piece in cut(b"".join(rig.put(*each) for each in sent), where):
            if not rig.transport.ended:
                rig.receive(piece)
        results.append(rig.finish())
    assert results[0] == results[1]
