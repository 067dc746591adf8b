"""Nodes of a cluster are measured side by side on one machine."""

from benchmarks.targets.base import placement
from benchmarks.targets.nodes import Nodes
from benchmarks.targets.wsaas import Wsaas

NATS = "nats://127.0.0.1:4222"


def settings_of_nodes(nodes, where):
    shell, option, script = nodes.command(where)
    assert (shell, option) == ("sh", "-c")
    *commands, wait = script.split(" & ")
    assert wait == "wait"
    return [dict(word.split("=", 1) for word in command.split() if "=" in word) for command in commands]


def test_each_node_has_ports_of_its_own():
    nodes = Nodes(2, Wsaas(), NATS)
    with placement(64) as where:
        own = settings_of_nodes(nodes, where)
        first = nodes.control_port(where)
        assert nodes.control_address(where) == f"127.0.0.1:{first}-{first + 1}"
        assert [each["CONTROL_LISTEN"] for each in own] == [f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"]
        assert all(each["CONTROL_LISTEN"] == each["WS_HOSTNAME"] == each["NODE_ADDRESS"] for each in own)
        assert own[0]["LISTEN"] == f"127.0.0.1:{where.client}"
        assert len({each["LISTEN"] for each in own}) == 2
        assert nodes.environment(where)["CLUSTER"] == NATS


def test_one_node_has_no_cluster():
    node = Nodes(1, Wsaas(), NATS)
    with placement(64) as where:
        (own,) = settings_of_nodes(node, where)
        assert "NODE_ADDRESS" not in own
        assert "CLUSTER" not in node.environment(where)
        assert node.control_address(where) == f"127.0.0.1:{node.control_port(where)}"
    assert node.name == "1 node"


def test_each_node_has_a_journal_of_its_own():
    nodes = Nodes(2, Wsaas(journal=True), NATS)
    with placement(64) as where:
        journals = {each["JOURNAL"] for each in settings_of_nodes(nodes, where)}
        assert len(journals) == 2
    assert nodes.name == "2 nodes+journal"
