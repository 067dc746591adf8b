"""The nodes of a cluster: which links there are to which processes, and what becomes of requests when they change."""

import asyncio
from typing import cast

import pytest

from tests.support.cluster_view import FakeView, make_member
from tests.support.fakes import FakeClock, FakeOpener, FakeWebhook, make_settings
from wsaas.cluster.forwarded import FOR_NODE
from wsaas.cluster.link_policy import NODE_TIMEOUT_S, node_policy
from wsaas.cluster.link_state import CLOSED
from wsaas.cluster.node_peers import ClusterRouter, NodePeers
from wsaas.cluster.peer_link import LinkServices
from wsaas.cluster.peers import Peers
from wsaas.delivery.journal import NoJournal
from wsaas.errors import Misdirected, Unavailable
from wsaas.http.request import Request, RequestParser
from wsaas.run_queue import RunQueue
from wsaas.sessions.registry import Registry

A1, A2, B1, B2 = (letter * 7 + number for letter in "ab" for number in "12")


def ident(prefix):
    return prefix + "x" * 22


class FakeConnectors:
    """Opens connections when a test says so. `addresses`: where to; `retained`: what was not to be forgotten."""

    def __init__(self):
        self.addresses = []
        self.opener = FakeOpener()
        self.retained = None

    def to(self, address):
        def connect(factory, on_error):
            self.addresses.append(address)
            self.opener(factory, on_error)

        return connect

    def retain(self, addresses):
        self.retained = addresses

    async def close(self):
        pass


def request(target=b"/groups/x", *lines, method=b"PUT"):
    parser = RequestParser(10)
    parser.receive(b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), b"Host: a", *lines, b"", b""]))
    found = parser.next()
    assert isinstance(found, Request)
    return found


class Rig:
    def __init__(self):
        self.clock = FakeClock()
        self.connectors = FakeConnectors()
        services = LinkServices(self.clock, RunQueue(self.clock))
        self.nodes = NodePeers(services, self.connectors, "own", node_policy(60.0))
        self.statuses = []

    def ask(self, deferred):
        deferred.on_response(lambda response: self.statuses.append(response.status))


@pytest.fixture
def rig():
    return Rig()


def with_ports(node="b", ports=(1, 2)):
    """Return the members of a node whose workers have addresses of their own."""
    prefixes = {1: B1, 2: B2}
    return {prefixes[port]: make_member(node, address=f"http://b.test:{port}") for port in ports}


def test_the_processes_of_one_address_share_their_links(rig):
    rig.nodes.update({B1: make_member("b"), B2: make_member("b"), A1: make_member("a")})
    link = rig.nodes.find(ident(B1))
    assert link is rig.nodes.find(ident(B2))
    assert rig.nodes.find(ident(A1)) not in (None, link)
    assert rig.nodes.find(ident(A2)) is None
    assert rig.nodes.find(B1) is None
    assert rig.nodes.processes[B1] is rig.nodes.processes[B2]
    assert rig.nodes.find_process(ident(B1)) is rig.nodes.processes[B1]
    assert rig.connectors.retained == {"http://a.test:8081", "http://b.test:8081"}


def test_the_processes_of_this_node_are_none_of_the_others(rig):
    rig.nodes.update({A1: make_member("own")})
    assert rig.nodes.find(ident(A1)) is None
    assert rig.nodes.processes == {}


def test_a_push_goes_to_the_address_of_the_process_and_what_concerns_many_to_one_of_the_node(rig):
    rig.nodes.update(with_ports())
    for prefix in (B2, B1):
        rig.nodes.find(ident(prefix)).forward(request(), ident(prefix))
    assert rig.connectors.addresses == ["http://b.test:2", "http://b.test:1"]
    assert rig.nodes.processes[B1] is rig.nodes.processes[B2]
    rig.nodes.processes[B2].forward(request())
    assert rig.connectors.addresses[2:] == ["http://b.test:1"]


def test_a_request_carries_the_name_of_the_node_and_the_credentials_of_the_caller(rig):
    rig.nodes.update({B1: make_member("b\r\n c", address="https://b.test")})
    link = rig.nodes.find(ident(B1))
    for credentials in (b"Bearer a", b"Bearer b", None):
        lines = [] if credentials is None else [b"Authorization: " + credentials]
        link.forward(request(b"/x", *lines), ident(B1))
    transport = rig.connectors.opener.open()
    head = b"PUT /x HTTP/1.1\r\nHost: b.test\r\nWs-Node: b???c\r\n"
    rest = b"Content-Length: 0\r\n\r\n"
    expected = [head + b"Authorization: Bearer a\r\n" + rest, head + b"Authorization: Bearer b\r\n" + rest, head + rest]
    assert transport.writes == [b"".join(expected)]


def test_links_to_what_stays_are_kept(rig):
    rig.nodes.update({B1: make_member("b"), A1: make_member("a")})
    link, process = rig.nodes.find(ident(B1)), rig.nodes.processes[B1]
    rig.nodes.update({B2: make_member("b")})
    assert rig.nodes.find(ident(B2)) is link
    assert rig.nodes.processes == {B2: process}


def test_what_waits_for_a_node_that_is_gone_is_gone(rig):
    rig.nodes.update({B1: make_member("b")})
    process = rig.nodes.processes[B1]
    rig.ask(process.holder.forward(request(), ident(B1)))
    rig.ask(process.forward(request()))
    rig.nodes.update({})
    assert rig.statuses == [410, 410]
    assert {link.state for link in process.links} == {CLOSED}


def test_what_waits_for_one_worker_that_is_gone_is_not_gone_with_it_if_it_concerns_all(rig):
    rig.nodes.update(with_ports())
    process = rig.nodes.processes[B2]
    rig.ask(rig.nodes.find(ident(B1)).forward(request(), ident(B1)))
    rig.ask(process.forward(request()))
    rig.nodes.update(with_ports(ports=[2]))
    assert rig.statuses == [410, 504]
    with pytest.raises(Exception, match="has ended: the request may have been carried out"):
        process.forward(request())
    rig.nodes.processes[B2].forward(request())
    assert rig.connectors.addresses[-1] == "http://b.test:2"


def test_a_node_is_missed_if_one_of_its_processes_may_have_clients(rig):
    members = {B1: make_member("b", is_listening=False), B2: make_member("b", is_listening=False)}
    rig.nodes.update(members)
    process = rig.nodes.processes[B1]
    assert not process.may_have_clients()
    members[B2].is_listening = True
    assert process.may_have_clients()


def test_overdue_requests_are_given_up(rig):
    rig.nodes.update(with_ports())
    rig.ask(rig.nodes.find(ident(B2)).forward(request(), ident(B2)))
    rig.clock.advance(NODE_TIMEOUT_S)
    rig.nodes.sweep(rig.clock.now())
    assert rig.statuses == [503]


class Routing(Rig):
    """The router of a node with another worker (A1), and another node (B1)."""

    def __init__(self):
        super().__init__()
        services = LinkServices(self.clock, RunQueue(self.clock))
        self.registry = Registry(make_settings(), self.clock, FakeWebhook(), NoJournal(), 10)
        self.peers = Peers(services, cast(asyncio.AbstractEventLoop, None))
        self.view = FakeView(make_member("own"))
        self.router = ClusterRouter(self.registry, self.peers, self.nodes, self.view)
        self.nodes.update({B1: make_member("b")})


@pytest.fixture
def routing():
    return Routing()


def test_a_node_has_its_workers_and_the_other_nodes_as_peers(routing):
    assert routing.router.find_peer(ident(B1)) is routing.nodes.find(ident(B1))
    assert routing.router.find_process(ident(B1)) is routing.nodes.processes[B1]
    assert routing.router.find_peer(ident(A1)) is None
    assert routing.router.find_process(ident(A1)) is None
    assert routing.router.processes == routing.nodes.processes
    assert routing.router.unknown == ()


def test_a_request_for_this_node_alone_has_no_other_nodes(routing):
    assert routing.router.for_request(request()) is routing.router
    within = routing.router.for_request(request(b"/x", b"Ws-Node: own"))
    assert within.find_peer(ident(B1)) is None
    assert within.find_process(ident(B1)) is None
    assert (within.processes, within.unknown) == ({}, ())
    assert within.for_request(request(b"/x", b"Ws-Node: b")) is within
    assert within.within_node is within
    assert FOR_NODE == b"ws-node"
    with pytest.raises(Misdirected):
        routing.router.for_request(request(b"/x", b"Ws-Node: b"))


def test_while_the_others_are_not_known_for_sure_nothing_but_its_own_is_gone(routing):
    routing.view.is_in_contact = False
    assert routing.router.find_peer(ident(B1)) is not None
    for find in (routing.router.find_peer, routing.router.find_process):
        assert find(ident(routing.registry.prefix)) is None
        assert find("nonsense") is None
        with pytest.raises(Unavailable):
            find(ident(A1))
    assert routing.router.unknown == ()
    routing.view.is_ready = False
    assert routing.router.unknown == ("nodes that this one has not found yet",)


def test_the_loss_of_a_connection_is_logged_with_its_error(rig, caplog):
    rig.nodes.update({B1: make_member("b")})
    rig.ask(rig.nodes.find(ident(B1)).forward(request(), ident(B1)))
    rig.connectors.opener.open().protocol.connection_lost(ConnectionResetError("reset"))
    (text,) = caplog.messages
    assert text.startswith("the connection to host-of-b (http://b.test:8081) was lost (reset); requests on it may have")
