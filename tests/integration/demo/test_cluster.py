"""The cluster of the demo, with programs in place of NATS and the nodes."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.demo_cluster import NODE, SLEEPER, options
from tests.support.waiting import POLL_S, TIMEOUT_S
from wsaas.demo import cluster as module
from wsaas.demo.chat import Answer
from wsaas.demo.cluster import Cluster, ClusterError, ClusterOptions, NodeState


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", POLL_S)


@contextmanager
def running(chosen: ClusterOptions, events: list[tuple[str, int]] | None = None) -> Iterator[Cluster]:
    """Run a cluster of fake programs."""
    told = [] if events is None else events
    cluster = Cluster(chosen, lambda *event: told.append(event))
    try:
        cluster.start("127.0.0.1:9/websocket")
        yield cluster
    finally:
        cluster.stop()


def states(cluster: Cluster) -> list[NodeState]:
    return [node.state() for node in cluster.nodes.values()]


def ended(cluster: Cluster, number: int) -> None:
    """Wait for the end of a node."""
    cluster.nodes[number].end(TIMEOUT_S)


def until_running(cluster: Cluster, number: int) -> None:
    """Wait until a node runs."""
    deadline = time.monotonic() + TIMEOUT_S
    while cluster.nodes[number].state() is not NodeState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def test_a_cluster_runs_until_it_is_stopped_and_leaves_nothing_behind(tmp_path: Path) -> None:
    chosen = options(tmp_path)
    events: list[tuple[str, int]] = []
    with running(chosen, events) as cluster:
        assert states(cluster) == [NodeState.RUNNING, NodeState.RUNNING]
        pids = [pid for event, pid in events if event == "started"]
        assert len(pids) == len(set(pids)) == 3
        first, second = cluster.describe()["nodes"]
        assert first == {
            "number": 1,
            "address": f"localhost:{chosen.ports[0]}",
            "state": "running",
            "pid": pids[1],
            "since": first["since"],
        }
        assert (second["number"], second["pid"]) == (2, pids[2])
        assert cluster.describe()["lease"] == 5000
        host, _, port = cluster.describe()["nats"].removeprefix("nats://").rpartition(":")
        socket.create_connection((host, int(port))).close()
    assert states(cluster) == [NodeState.STOPPED, NodeState.STOPPED]
    assert sorted(pid for event, pid in events if event == "ended") == sorted(pids)
    assert not chosen.folder.exists()
    cluster.stop()


def test_each_node_is_started_with_its_own_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = options(tmp_path)
    with running(chosen) as cluster:
        nats = cluster.nats_address
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"node {number}: started with --api-uri=127.0.0.1:9/websocket?node={number} --ws-hostname=localhost:{port} "
        f"--cluster={nats} --node-address=localhost:{port} --journal={chosen.folder}/node-{number}.journal "
        "--log-level=DEBUG"
        for number, port in enumerate(chosen.ports, 1)
    ]


def test_a_node_can_be_killed_and_started_again(tmp_path: Path) -> None:
    with running(options(tmp_path)) as cluster:
        before = cluster.nodes[2].pid
        assert not cluster.start_node(2)
        assert cluster.kill_node(2)
        ended(cluster, 2)
        assert states(cluster) == [NodeState.RUNNING, NodeState.KILLED]
        assert not cluster.kill_node(2)
        assert cluster.start_node(2)
        until_running(cluster, 2)
        assert cluster.nodes[2].pid != before
    assert not cluster.start_node(2)


def test_requests_go_to_one_running_node_after_another(tmp_path: Path) -> None:
    urls: list[str] = []

    def call(method: str, url: str, body: bytes) -> Answer:
        assert (method, body) == ("PUT", b"x")
        urls.append(url)
        return Answer(200, b"")

    with running(options(tmp_path, count=3)) as cluster:
        send = cluster.through_any_node(call)
        for _ in range(3):
            assert send("PUT", "http://localhost:1/groups/a?limit=1", b"x").status == 200
        assert sorted(urls) == sorted(f"http://{node.address}/groups/a?limit=1" for node in cluster.nodes.values())
        for number in (1, 3):
            cluster.kill_node(number)
            ended(cluster, number)
        del urls[:]
        send("PUT", "http://localhost:1/groups/a", b"x")
        send("PUT", "http://localhost:1/groups/a", b"x")
        assert urls == [f"http://{cluster.nodes[2].address}/groups/a"] * 2
        cluster.kill_node(2)
        ended(cluster, 2)
        send("PUT", "http://localhost:1/groups/a", b"x")
        assert urls[2:] == ["http://localhost:1/groups/a"]


def test_a_node_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT_S", 0.05)
    deaf = NODE.replace("lambda *_: sys.exit(0)", "signal.SIG_IGN")
    with running(options(tmp_path, node=deaf)) as cluster:
        pass
    assert states(cluster) == [NodeState.KILLED, NodeState.KILLED]


# Failures of the start.


def test_a_nats_server_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    chosen = replace(options(tmp_path), nats_server="/missing")
    with pytest.raises(ClusterError, match="cannot run /missing: No such file or directory"), running(chosen):
        pass
    assert not chosen.folder.exists()


@pytest.mark.parametrize(
    ("script", "said"), [("print('no space'); print('giving up')", "no space giving up"), ("", "no output")]
)
def test_a_nats_server_that_ends_is_an_error_with_its_last_words(tmp_path: Path, script: str, said: str) -> None:
    chosen = options(tmp_path, nats=script)
    with pytest.raises(ClusterError, match=f"^the NATS server did not start: {said}$"), running(chosen):
        pass


def test_a_node_that_ends_is_an_error(tmp_path: Path) -> None:
    said = "^the cluster did not start: .*is stopped"
    with pytest.raises(ClusterError, match=said), running(replace(options(tmp_path), program=["/bin/echo"])):
        pass


def test_a_nats_server_that_does_not_start_in_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.0)
    with pytest.raises(ClusterError, match="the NATS server did not start"), running(options(tmp_path, nats=SLEEPER)):
        pass


def test_a_node_that_does_not_join_in_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.5)
    said = "^the cluster did not start: node 1 is starting, node 2 is starting$"
    with pytest.raises(ClusterError, match=said), running(options(tmp_path, node=SLEEPER)):
        pass


def test_a_start_can_be_interrupted_before_nats_listens(tmp_path: Path) -> None:
    cluster = Cluster(options(tmp_path, nats=SLEEPER))
    cluster.start("127.0.0.1:9/websocket", is_over=lambda: True)
    assert not cluster.kill_node(1)
    assert states(cluster) == [NodeState.STOPPED, NodeState.STOPPED]
    cluster.stop()


def test_a_start_can_be_interrupted_before_the_nodes_have_joined(tmp_path: Path) -> None:
    cluster = Cluster(options(tmp_path, node=SLEEPER))
    cluster.start("127.0.0.1:9/websocket", is_over=lambda: cluster.nodes[1].pid is not None)
    assert states(cluster) == [NodeState.STARTING, NodeState.STARTING]
    cluster.stop()
    assert states(cluster) == [NodeState.STOPPED, NodeState.STOPPED]
