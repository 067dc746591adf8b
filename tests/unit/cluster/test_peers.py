import asyncio
from typing import cast

import pytest

from tests.support.fakes import FakeClock, FakeOpener
from wsaas.cluster import peers as module
from wsaas.cluster.link_policy import PEER_TIMEOUT_S
from wsaas.cluster.link_state import CLOSED
from wsaas.cluster.peer_link import LinkServices
from wsaas.cluster.peer_process import BULK_LINKS, PeerProcess
from wsaas.cluster.peers import Peers, Place
from wsaas.errors import Gone
from wsaas.http.request import Request, RequestParser
from wsaas.run_queue import RunQueue

PREFIX, OTHER = "a" * 8, "b" * 8
ID = PREFIX + "x" * 22


class FakeConnector:
    """Opens connections when a test says so. `paths`: where to."""

    def __init__(self, _loop):
        self.paths = []
        self.opener = FakeOpener()

    def open(self, path, factory, on_error):
        self.paths.append(path)
        self.opener(factory, on_error)


class Rig:
    def __init__(self, monkeypatch):
        monkeypatch.setattr(module, "UnixConnector", FakeConnector)
        self.clock = FakeClock()
        self.peers = Peers(LinkServices(self.clock, RunQueue(self.clock)), cast(asyncio.AbstractEventLoop, None))
        self.connector = self.peers._connector
        self.peers.update({PREFIX: Place("worker 2", "/a.sock"), OTHER: Place("worker 3", "/b.sock")})

    @property
    def process(self) -> PeerProcess:
        """The first peer."""
        return next(iter(self.peers.processes.values()))


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


def request(target):
    parser = RequestParser(10)
    parser.receive(b"PUT %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    found = parser.next()
    assert isinstance(found, Request)
    return found


def test_a_peer_is_found_by_the_prefix_of_an_id(rig):
    link = rig.peers.find(ID)
    assert link is not None
    assert rig.peers.find(PREFIX + "y" * 22) is link
    assert rig.peers.find(OTHER + "y" * 22) not in (None, link)
    assert rig.peers.find("c" * 30) is None
    assert rig.peers.find(PREFIX) is None


def test_a_request_goes_to_the_socket_of_the_peer(rig):
    rig.peers.find(ID).forward(request(b"/" + ID.encode()), ID)
    assert rig.connector.paths == ["/a.sock"]


def test_an_update_keeps_the_links_to_the_peers_that_stay(rig):
    link = rig.peers.find(ID)
    rig.peers.update({PREFIX: Place("worker 2", "/a.sock"), "c" * 8: Place("worker 3", "/c.sock")})
    assert rig.peers.find(ID) is link
    assert [each.name for each in rig.peers.processes.values()] == ["worker 2", "worker 3"]
    assert rig.peers.find(OTHER + "x" * 22) is None


def test_what_waits_for_a_peer_that_ended_is_gone(rig):
    process = rig.process
    statuses = []
    rig.peers.find(ID).forward(request(b"/x"), ID).on_response(lambda response: statuses.append(response.status))
    process.forward(request(b"/groups/x")).on_response(lambda response: statuses.append(response.status))
    rig.peers.update({})
    assert statuses == [410, 410]
    assert rig.peers.processes == {}
    assert {link.state for link in process.links} == {CLOSED}
    with pytest.raises(Gone):
        process.forward(request(b"/groups/x"))


def test_requests_about_many_clients_have_links_of_their_own_one_for_each_path(rig):
    rig.process.forward(request(b"/groups/a?except=b"))
    rig.process.forward(request(b"/groups/a"))
    assert len(rig.connector.paths) == 1
    for number in range(100):
        rig.process.forward(request(b"/groups/%d" % number))
    assert len(rig.connector.paths) == BULK_LINKS
    assert rig.process.holder.state is not rig.process.links[1].state


def test_overdue_requests_of_each_link_are_given_up(rig):
    statuses = []
    for deferred in (rig.process.holder.send(b"x"), rig.process.forward(request(b"/groups/a"))):
        deferred.on_response(lambda response: statuses.append(response.status))
    rig.clock.advance(PEER_TIMEOUT_S)
    rig.peers.sweep(rig.clock.now())
    assert statuses == [503, 503]
