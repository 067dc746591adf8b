"""The list of connections, with many clients and with fake peers."""

import json

from tests.support.console_rig import ConsoleRig
from tests.support.peers import FakeProcess
from wsaas.http.deferred import DeferredResponse
from wsaas.http.serialize import OutgoingResponse


def test_a_scan_takes_turns_with_other_connections():
    rig = ConsoleRig()
    rig.crowd(5)
    rig.registry._limit = rig.registry._limit.__class__(1000)
    rig.crowd(100)
    # Each look at the time takes longer than a slice.
    rig.stopwatch.step = 1.0
    response = rig.api.respond(rig.request("GET", "/console/api/connections?limit=3&sort=id"))
    assert isinstance(response, DeferredResponse)
    answers: list[OutgoingResponse] = []
    response.on_response(answers.append)
    turns = 0
    while not answers:
        rig.clock.turn()
        turns += 1
    assert turns >= 100 // 16
    content = json.loads(answers[0].body)
    assert [each["id"] for each in content["connections"]] == sorted(each.id for each in rig.registry.live())[:3]
    assert content["matched"] == 100


def test_the_parts_of_the_peers_are_merged():
    peers = FakeProcess("a"), FakeProcess("b"), FakeProcess("c"), FakeProcess("d")
    rig = ConsoleRig(*peers)
    response = rig.api.respond(rig.request("GET", "/console/api/connections?sort=id&limit=2"))
    assert isinstance(response, DeferredResponse)
    answers: list[OutgoingResponse] = []
    response.on_response(answers.append)
    assert peers[0].requests[0][0].startswith(b"GET /console/api/connections?sort=id&limit=2 ")
    entry = {"id": "!" * 30, "inbox_bytes": 0, "send_buffer_bytes": 0, "connected_at": 0.0}
    peers[0].answer(connections=[entry], matched=7, next="x", missing=["worker 2"])
    peers[1].answer(status=504)
    peers[2].answer(status=410)
    peers[3].may_have_clients = lambda: False
    peers[3].answer(status=503)
    content = json.loads(answers[0].body)
    assert [each["id"] for each in content["connections"]] == ["!" * 30, rig.session.id]
    assert content["matched"] == 8
    assert content["next"]
    assert content["missing"] == ["worker 2 of a", "b"]


def test_a_peer_is_asked_for_a_connection_that_it_has():
    peer = FakeProcess("R")
    rig = ConsoleRig(peer)
    assert rig.ask("GET", f"/console/api/connections/{'R' * 30}").status == 410


def test_a_connection_is_shown_without_credentials():
    rig = ConsoleRig()
    info = rig.session.info
    info.query, info.subprotocol = "token=s3cret&a=b", "bearer.s3cret"
    found = rig.get(f"connections/{rig.session.id}")
    assert (found["query"], found["subprotocol"]) == ("token=(hidden)&a=b", "•••")
    info.query, info.subprotocol = "", None
    found = rig.get(f"connections/{rig.session.id}")
    assert (found["query"], found["subprotocol"]) == ("", None)
