"""The node, as the console shows it."""

import os

import pytest

from tests.support.console_rig import ConsoleRig
from tests.support.peers import FakeProcess
from wsaas.api.console.node import client_url
from wsaas.delivery.circuit_breaker import HALF_OPEN, OPEN
from wsaas.http.deferred import DeferredResponse
from wsaas.http.serialize import OutgoingResponse
from wsaas.metrics.row import ROW_LENGTH
from wsaas.metrics.shared_rows import SharedRows, create
from wsaas.settings import load


def problems(**gauges):
    """Return the problems of a node with these gauges."""
    return [(each["severity"], each["text"]) for each in ConsoleRig(gauges=gauges).get("node")["problems"]]


def test_a_node_that_is_well_has_no_problems():
    content = ConsoleRig(gauges={"clients_limit": 100.0}).get("node")
    assert content["problems"] == []
    assert content["backend"] == {"url": "http://backend:8000/hook", "state": "up", "since": None}
    assert content["journal"] == {"file": False, "writable": None}
    assert content["cluster"] is None
    assert content["numbers"]["clients_limit"] == 100


def test_a_backend_that_is_down_is_the_first_problem():
    rig = ConsoleRig()
    rig.webhook.breaker._left_closed_at = rig.clock.now() - 5
    rig.registry.services.counters.paused = 2
    for state, name in ((OPEN, "down"), (HALF_OPEN, "trying")):
        rig.webhook.breaker.state = state
        content = rig.get("node")
        assert content["backend"]["state"] == name
        assert content["backend"]["since"] == content["now"] - 5
        assert [each["severity"] for each in content["problems"]] == ["error", "warning"]
    assert content["problems"][1]["text"] == "2 clients are paused: the backend is slow."


@pytest.mark.parametrize(
    ("gauges", "expected"),
    [
        (
            {"backend_requests_waiting": 1},
            ("warning", "1 request waits for a free connection to the backend."),
        ),
        (
            {"backend_requests_waiting": 3},
            ("warning", "3 requests wait for a free connection to the backend."),
        ),
        ({"clients": 95, "clients_limit": 100}, ("warning", "The node is nearly full: 95 of 100 clients.")),
        ({"journal_writable": False}, ("error", "The journal cannot be written: new clients get 503.")),
        (
            {"cluster_connected": False},
            ("error", "There is no contact with NATS: the local journal alone remembers new clients."),
        ),
        (
            {"disconnects_owed": 101},
            ("warning", "101 DELETEs are pending: the backend counts as many clients too many."),
        ),
    ],
)
def test_a_problem_is_described(gauges, expected):
    assert problems(**gauges) == [expected]


def test_unreplicated_clients_are_a_problem_if_there_are_many():
    class Cluster:
        unreplicated = 101
        adopted = 0

    content = ConsoleRig(gauges={"cluster": Cluster, "cluster_connected": True, "cluster_nodes": 3}).get("node")
    assert content["cluster"] == {"nodes": 3, "in_contact": True, "unreplicated": 101}
    assert [each["text"] for each in content["problems"]] == ["101 clients are not yet known to the other nodes."]


def test_a_slow_loop_is_a_problem_while_it_is_slow():
    rig = ConsoleRig()
    lag = rig.registry.services.counters.loop_lag
    # What was before the first request does not count.
    lag.observe(10)
    assert rig.get("node")["numbers"]["loop_lag_ms"] == 0
    rig.clock.advance(1)
    lag.observe(0.1)
    content = rig.get("node")
    assert content["numbers"]["loop_lag_ms"] == pytest.approx(100)
    assert content["problems"][0]["text"] == "The event loop is 100 ms late: the core is full."
    rig.clock.advance(3)
    rig.get("node")
    rig.clock.advance(3)
    assert rig.get("node")["numbers"]["loop_lag_ms"] == 0
    for _ in range(3):
        rig.clock.advance(1)
        lag.observe(0.01)
        found = rig.get("node")["numbers"]["loop_lag_ms"]
        # Twice in the same moment is one sample.
        assert rig.get("node")["numbers"]["loop_lag_ms"] == found
    assert found == pytest.approx(10)


def test_what_has_happened_is_counted_by_name():
    rig = ConsoleRig()
    counters = rig.registry.services.counters
    counters.count_handshake(403)
    counters.handshakes[0] += 1
    counters.messages_in = 3
    numbers = rig.get("node")["numbers"]
    assert (numbers["refused"], numbers["messages_in"]) == (1, 3)
    rig.session.closed_by_client(1000, "")
    content = rig.get("node")
    assert content["closes"] == {"client closed": 1}
    assert content["backend_ms"]["buckets"][0] == [5, 0]
    assert content["backend_ms"]["buckets"][-1] == [None, 0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "ws://localhost:8080"),
        ({"tls_cert": "/c", "tls_key": "/k"}, "wss://localhost:8080"),
        ({"ws_hostname": "https://ws.example/hub"}, "wss://ws.example/hub"),
        ({"ws_hostname": "http://ws.example:81"}, "ws://ws.example:81"),
        ({"ws_hostname": "node:81", "listen": "0.0.0.0:80", "control_listen": "0.0.0.0:81"}, "ws://node:80"),
        ({"ws_hostname": "[::1]:81", "listen": "[::1]:80", "control_listen": "[::1]:81"}, "ws://[::1]:80"),
        ({"listen": "unix:/run/a.sock", "control_listen": ":8080"}, "ws://localhost:8080"),
    ],
)
def test_the_test_client_connects_where_clients_do(values, expected):
    assert client_url(load({"api_uri": "backend/hook", **values}, {})) == expected


def test_a_backend_on_a_unix_socket_is_shown():
    uri = "unix:/run/app.sock:/hook?key=s3cret"
    assert ConsoleRig(api_uri=uri).get("node")["backend"]["url"] == "unix:/run/app.sock:/hook?(hidden)"


def test_the_other_workers_are_asked_for_their_part():
    descriptor = create(3)
    rows = [SharedRows(descriptor, index, 3) for index in range(3)]
    workers = FakeProcess("a"), FakeProcess("b")
    rig = ConsoleRig(*workers, rows=rows[0])
    response = rig.api.respond(rig.request("GET", "/console/api/node"))
    assert isinstance(response, DeferredResponse)
    answers: list[OutgoingResponse] = []
    response.on_response(answers.append)
    part = rig.ask("GET", "/console/api/node?worker=1").json
    workers[0].answer(worker=1, state="trying", since=5.0, row=part["row"])
    # One of another version.
    workers[1].answer(worker=2, state="up", since=None, row=[0.0] * (ROW_LENGTH - 1))
    (answer,) = answers
    assert b'"state":"trying"' in answer.body
    assert b"1 worker did not answer in time." in answer.body
    response = rig.api.respond(rig.request("GET", "/console/api/node"))
    assert isinstance(response, DeferredResponse)
    response.on_response(answers.append)
    for worker in workers:
        worker.answer(status=504)
    assert b"2 workers did not answer in time." in answers[1].body
    for each in rows:
        each.close()
    os.close(descriptor)
