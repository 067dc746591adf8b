"""The server of the page: requests that browsers may make, and requests that it refuses."""

import base64
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.demo import DemoBackend, FakeGateway, serving
from tests.support.demo_cluster import options
from tests.support.tcp_proxies import HAS_IPV6
from tests.support.waiting import TIMEOUT_S
from wsaas.demo.cluster import Cluster
from wsaas.demo.hosts import Hosts
from wsaas.demo.server import DemoServer


def test_the_page_is_one_self_contained_file(backend: DemoBackend) -> None:
    answer = backend.request("GET", "/")
    page = answer.body.decode()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "<title>WSaaS" in page
    assert not re.search(r"""(src|href)=|@import|url\(""", page)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)


def test_the_page_may_run_its_own_script_and_no_other(backend: DemoBackend) -> None:
    answer = backend.request("GET", "/")
    policy = answer.headers["Content-Security-Policy"]
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), answer.body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy


def test_the_page_contains_the_address_of_the_gateway(backend: DemoBackend, gateway: FakeGateway) -> None:
    assert backend.request("GET", "/config").json() == {"gateway": f"127.0.0.1:{gateway.server_port}"}


def test_any_other_path_is_204(backend: DemoBackend) -> None:
    for path in ("/favicon.ico", "/websocket", "/.."):
        answer = backend.request("GET", path)
        assert (answer.status, answer.body) == (204, b"")


@pytest.mark.parametrize("path", ["/", "/config", "/traffic", "/favicon.ico"])
def test_a_request_with_a_foreign_host_is_refused(backend: DemoBackend, path: str) -> None:
    answer = backend.request("GET", path, headers={"Host": "evil.example:8000"})
    assert answer.status == 403
    assert answer.body.startswith(f"Open http://localhost:{backend.port}/ instead.".encode())


def test_the_webhook_answers_to_any_name(backend: DemoBackend, gateway: FakeGateway) -> None:
    event = {"ws_uri": gateway.ws_uri("1"), "request": {"path": "/echo", "query": ""}}
    answer = backend.request("POST", "/websocket", json.dumps(event).encode(), {"Host": "backend:8000"})
    assert answer.json() == {"code": "OK", "context": "echo"}


def test_the_webhook_refuses_a_browser(backend: DemoBackend) -> None:
    answer = backend.request("POST", "/websocket", b"{}", {"Origin": "http://evil.example"})
    assert (answer.status, answer.json()["code"]) == (403, "FORBIDDEN")


def test_other_machines_cannot_make_the_chat_send_requests_elsewhere(backend: DemoBackend, server: DemoServer) -> None:
    server.hosts = Hosts(["demo.example"])
    with closing(socket.create_server(("127.0.0.1", 0))) as elsewhere:
        ws_uri = f"127.0.0.1:{elsewhere.getsockname()[1]}/latest"
        event = {"ws_uri": ws_uri, "request": {"path": "/rooms/lobby", "query": "nick=ada"}}
        assert backend.request("POST", "/websocket", json.dumps(event).encode()).status == 200
        headers = {"Ws-Uri": ws_uri, "Ws-Context": "room=lobby&nick=ada", "ce-id": "1"}
        assert backend.request("PUT", "/websocket", b"hello", headers).status == 400
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_other_machines_may_use_a_name_or_an_address_of_this_one(backend: DemoBackend, server: DemoServer) -> None:
    server.hosts = Hosts(["demo.example"])
    for host in ("demo.example:8000", "192.0.2.7", "[2001:db8::1]:80"):
        assert backend.request("GET", "/config", headers={"Host": host}).status == 200
    assert backend.request("GET", "/config", headers={"Host": "evil.example"}).status == 403


def test_the_webhook_is_at_one_path(backend: DemoBackend) -> None:
    answer = backend.request("POST", "/elsewhere", b"{}")
    assert (answer.status, answer.json()["code"]) == (404, "NOT_FOUND")


def test_the_traffic_streams_requests_in_both_directions(
    backend: DemoBackend, gateway: FakeGateway, server: DemoServer
) -> None:
    context = backend.connect("1", "/rooms/lobby", "nick=ada")["context"]
    gateway.next()
    assert any('"{\\"sent' in event for event in server.traffic.stream())
    with closing(HTTPConnection("127.0.0.1", backend.port, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", "/traffic", headers={"Host": "localhost"})
        stream = connection.getresponse()
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        last = stream.readline().decode().removeprefix("id: ").strip()
        connect, listed, published = json.loads(stream.readline().removeprefix(b"data: "))
        assert (connect["to"], connect["method"], connect["status"]) == ("backend", "POST", 200)
        assert connect["url"] == f"http://127.0.0.1:{backend.port}/websocket"
        assert connect["ws_uri"] == gateway.ws_uri("1")
        assert (listed["to"], listed["method"], listed["status"]) == ("gateway", "GET", 200)
        assert (published["to"], published["method"], published["answer"]) == ("gateway", "PUT", '{"sent": 1}')
        server.traffic.close()
        assert stream.read() == b"\n"
        stream.close()
    assert last.endswith(".6")
    assert context == "room=lobby&nick=ada"


@pytest.mark.parametrize("by_header", [True, False])
def test_the_traffic_resumes_after_the_last_event_of_a_browser(backend: DemoBackend, by_header: bool) -> None:
    def first_event(path: str, headers: dict[str, str]) -> tuple[str, list[str]]:
        with closing(HTTPConnection("127.0.0.1", backend.port, timeout=TIMEOUT_S)) as connection:
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as stream:
                last = stream.readline().decode().removeprefix("id: ").strip()
                return last, [item["body"] for item in json.loads(stream.readline().removeprefix(b"data: "))]

    backend.message("1", "echo", b"first")
    last, _ = first_event("/traffic", {})
    backend.message("1", "echo", b"second")
    headers = {"Last-Event-ID": last} if by_header else {}
    assert first_event("/traffic" if by_header else f"/traffic?after={last}", headers)[1] == ["second"]


def test_a_caller_that_hangs_up_causes_no_traceback(server: DemoServer, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise BrokenPipeError
    except OSError:
        server.handle_error(None, ("127.0.0.1", 1))
    assert capsys.readouterr().err == ""


def test_a_fault_in_the_backend_is_shown(server: DemoServer, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        json.loads("")
    except ValueError:
        server.handle_error(None, ("127.0.0.1", 1))
    assert "JSONDecodeError" in capsys.readouterr().err


@pytest.mark.parametrize(("host", "location"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_a_server_on_all_interfaces_is_reached_on_loopback(host: str, location: str) -> None:
    if ":" in host and not HAS_IPV6:
        pytest.skip("no IPv6 here")
    with DemoServer(host, 0, "localhost:8080") as server:
        assert server.location == f"{location}:{server.server_port}"
        socket.create_connection(("127.0.0.1", server.server_port), timeout=TIMEOUT_S).close()


def test_a_server_listens_on_ipv6_too() -> None:
    with closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    with DemoServer("::1", 0, "localhost:8080") as server:
        assert server.location == f"[::1]:{server.server_port}"


# The nodes of a cluster.


@pytest.fixture
def nodes(tmp_path: Path, gateway: FakeGateway) -> Iterator[tuple[Cluster, DemoBackend]]:
    """A cluster of fake programs, and a client of its server."""
    cluster = Cluster(options(tmp_path))
    server = DemoServer("127.0.0.1", 0, "localhost:8080", cluster)
    with serving(server):
        try:
            cluster.start(f"{server.location}/websocket")
            yield cluster, DemoBackend(server.server_port, gateway)
        finally:
            cluster.stop()
            server.traffic.close()


def test_the_page_gets_the_nodes(nodes: tuple[Cluster, DemoBackend]) -> None:
    cluster, backend = nodes
    config = backend.request("GET", "/config").json()
    assert (config["gateway"], config["lease"]) == ("localhost:8080", 5000)
    assert [node["address"] for node in config["nodes"]] == [node.address for node in cluster.nodes.values()]
    assert backend.request("GET", "/nodes").json() == cluster.describe()


def test_the_page_kills_and_starts_nodes(nodes: tuple[Cluster, DemoBackend]) -> None:
    cluster, backend = nodes
    host = f"localhost:{backend.port}"
    page = {"Host": host, "Origin": f"http://{host}"}
    assert backend.request("POST", "/nodes/2/kill", headers=page).status == 200
    cluster.nodes[2].end(TIMEOUT_S)
    assert backend.request("GET", "/nodes").json()["nodes"][1]["state"] == "killed"
    assert backend.request("POST", "/nodes/2/kill", headers=page).status == 409
    assert backend.request("POST", "/nodes/2/start").status == 200
    assert backend.request("POST", "/nodes/2/start").status == 409
    assert backend.request("POST", "/nodes/3/kill").status == 404
    assert backend.request("PUT", "/nodes/2/kill").status == 404


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:8000"}]
)
def test_no_other_page_kills_a_node(nodes: tuple[Cluster, DemoBackend], headers: dict[str, str]) -> None:
    cluster, backend = nodes
    answer = backend.request("POST", "/nodes/1/kill", headers=headers)
    assert (answer.status, answer.json()["code"]) == (403, "FORBIDDEN")
    assert cluster.nodes[1].send_signal(0)


def test_a_chat_without_a_cluster_has_no_nodes(backend: DemoBackend) -> None:
    assert backend.request("GET", "/nodes").status == 204
    assert backend.request("POST", "/nodes/1/kill").status == 404


def test_a_publish_goes_to_any_node(nodes: tuple[Cluster, DemoBackend]) -> None:
    cluster, backend = nodes
    backend.connect("1", "/rooms/lobby", "nick=ada")
    answer = backend.message("1", "room=lobby&nick=ada", b"hello")
    assert answer.json()["code"] == "OK"
    # The chat publishes after its answer to the POST, and before its answer to the PUT.
    hosts: set[str] = set()
    with closing(HTTPConnection("127.0.0.1", backend.port, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", "/traffic")
        with connection.getresponse() as stream:
            while len(hosts) < len(cluster.nodes):
                line = stream.readline()
                exchanges = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: ") else []
                hosts |= {each["url"].split("/")[2] for each in exchanges if each["to"] == "gateway"}
    assert hosts == {node.address for node in cluster.nodes.values()}
