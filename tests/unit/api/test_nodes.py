"""`GET /nodes`, with fake members and workers."""

from functools import partial

from tests.support.api_rig import Rig
from tests.support.cluster_view import FakeView, make_member
from tests.support.peers import FakeProcess, FakeRouter
from wsaas.api.api import Api


class NodesRig(Rig):
    def __init__(self, view=None, processes=(), **values):
        super().__init__(**values)
        router = FakeRouter(self.registry, {each.name: each for each in processes})
        self.api = Api(self.registry.services.settings, self.registry, self.fan_out, router, view)


def test_a_node_alone_lists_itself():
    rig = NodesRig()
    (node,) = rig.ask("GET", "/nodes").json["nodes"]
    started = node.pop("since")
    assert started.endswith("Z")
    assert node == {
        "node": "localhost:8080",
        "name": "localhost:8080",
        "address": None,
        "workers": 1,
        "clients": 1,
        "lease_age": None,
    }


def test_the_workers_of_this_node_are_asked():
    peers = [FakeProcess("worker 2"), FakeProcess("worker 3"), FakeProcess("worker 4", is_full=True)]
    rig = NodesRig(processes=peers)
    _, answers = rig.defer("GET", "/nodes")
    peers[0].answer(code="OK", nodes=[{"workers": 1, "clients": 10, "since": "1970-01-01T00:00:00.000Z"}], missing=[])
    peers[1].answer(410)
    (node,) = answers[0].json["nodes"]
    assert (node["workers"], node["clients"], node["since"]) == (2, 11, "1970-01-01T00:00:00.000Z")
    assert (answers[0].json["code"], answers[0].json["missing"]) == ("PARTIAL", ["worker 4"])


def test_the_processes_of_other_nodes_are_put_together_by_node():
    make = partial(make_member, "b", name="beta", address="http://b.test:1")
    rig = NodesRig(node_address="https://a.test:1", cluster="nats://127.0.0.1")
    now = rig.clock.now()
    members = {
        "1": make(clients=3, since=20.0, renewed_at=now - 1.0),
        "2": make(clients=4, since=10.0, renewed_at=now - 2.0),
        "3": make_member("own", clients=100),
    }
    rig = NodesRig(
        FakeView(make_member("own", name="alpha"), members),
        node_address="https://a.test:1",
        cluster="nats://127.0.0.1",
    )
    own, other = rig.ask("GET", "/nodes").json["nodes"]
    assert (own["node"], own["name"], own["address"]) == ("own", "alpha", "https://a.test:1")
    assert (own["workers"], own["clients"]) == (1, 1)
    assert other == {
        "node": "b",
        "name": "beta",
        "address": "http://b.test:1",
        "workers": 2,
        "clients": 7,
        "since": "1970-01-01T00:00:10.000Z",
        "lease_age": 2000,
    }


def test_the_address_of_a_node_is_a_url_with_and_without_a_scheme_in_the_setting():
    rig = NodesRig(node_address="a.test:1", cluster="nats://127.0.0.1")
    (own,) = rig.ask("GET", "/nodes").json["nodes"]
    assert own["address"] == "http://a.test:1"
