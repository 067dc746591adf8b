"""Requests about many clients, with fake peers."""

import json
from typing import Any

import pytest

from tests.support.api_rig import Rig
from tests.support.peers import FakeProcess, FakeRouter
from wsaas.api.api import Api
from wsaas.http.deferred import DeferredResponse
from wsaas.http.serialize import OutgoingResponse
from wsaas.sessions.fan_out import FAN_OUT_SLICE_S

PREFIX = "p" * 8
REMOTE = PREFIX + "x" * 22


class PeersRig(Rig):
    def __init__(self, **processes):
        super().__init__()
        self.processes = processes
        self.api = Api(
            self.registry.services.settings, self.registry, self.fan_out, FakeRouter(self.registry, processes)
        )
        self.registry.groups.join(self.session, "lobby")


def publish(rig: Rig) -> Any:
    return rig.ask("PUT", "/groups/lobby", body=b"hello").json


def test_peers_that_take_no_more_requests_are_missing_at_once():
    rig = PeersRig(a=FakeProcess("worker 1", is_full=True), b=FakeProcess("worker 2", is_full=True))
    content = publish(rig)
    assert (content["code"], content["sent"], content["missing"]) == ("PARTIAL", 1, ["worker 1", "worker 2"])


def test_the_answer_comes_when_this_process_and_all_peers_are_done():
    peer, other = FakeProcess("worker 1"), FakeProcess("worker 2")
    rig = PeersRig(a=peer, b=other)
    rig.serve_per_slice(1)
    second = rig.admit()
    rig.registry.groups.join(second, "lobby")
    _, answers = rig.defer("PUT", "/groups/lobby", body=b"hello")
    peer.answer(code="OK", sent=10, slow=["a"], slow_count=1, missing=[])
    other.answer(429, code="TOO_MANY_REQUESTS")
    assert answers == []
    while not answers:
        rig.clock.advance(FAN_OUT_SLICE_S)
    assert answers[0].json == {"code": "PARTIAL", "sent": 12, "slow": ["a"], "slow_count": 1, "missing": ["worker 2"]}


def test_names_of_several_workers_are_limited_but_counted():
    peers = [FakeProcess("worker 1"), FakeProcess("worker 2")]
    rig = PeersRig(a=peers[0], b=peers[1])
    _, answers = rig.defer("PUT", "/groups/lobby", body=b"hello")
    for peer in peers:
        peer.answer(code="OK", sent=0, slow=["x"] * 700, slow_count=700, missing=[])
    assert (len(answers[0].json["slow"]), answers[0].json["slow_count"]) == (1000, 1400)


def send(rig, *to):
    return rig.request("POST", "/send", body=json.dumps({"to": [*to], "text": "hello"}).encode())


def test_recipients_at_a_worker_that_takes_no_requests_are_unreached():
    rig = PeersRig(**{PREFIX: FakeProcess("worker 2", is_full=True)})
    response = rig.api.respond(send(rig, REMOTE, rig.session.id))
    assert isinstance(response, OutgoingResponse)
    content = json.loads(response.body)
    assert (content["code"], content["sent"], content["unreached"]) == ("PARTIAL", 1, [REMOTE])


@pytest.mark.parametrize("turns", range(3))
def test_recipients_at_a_worker_that_ends_while_the_batch_is_under_way_are_gone(turns):
    rig = PeersRig(**{PREFIX: FakeProcess("worker 2")})
    rig.serve_per_slice(1)
    deferred = rig.api.respond(send(rig, REMOTE, rig.session.id))
    assert isinstance(deferred, DeferredResponse)
    responses: list[OutgoingResponse] = []
    deferred.on_response(responses.append)
    for _ in range(turns):
        rig.clock.turn()
    if responses or rig.processes[PREFIX].requests:
        pytest.fail("the batch has been forwarded")
    rig.processes.pop(PREFIX).has_ended = True
    while not responses:
        rig.clock.advance(FAN_OUT_SLICE_S)
    content = json.loads(responses[0].body)
    assert (content["code"], content["sent"], content["gone"]) == ("OK", 1, [REMOTE])


def test_a_batch_is_forwarded_as_lines_with_the_recipients_of_the_peer_alone():
    peer = FakeProcess("worker 2")
    rig = PeersRig(**{PREFIX: peer})
    other = PREFIX + "y" * 22
    lines: list[dict[str, Any]] = [
        {"to": [REMOTE, rig.session.id, f"a/{other}"], "text": "1"},
        {"to": [other], "base64": "/w=="},
        {"to": [], "text": ""},
    ]
    body = "\n".join(map(json.dumps, lines)).encode()
    _, answers = rig.defer("POST", "/send", "Content-Type: application/x-ndjson", body=body)
    head, _, forwarded = peer.requests[0][0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /send HTTP/1.1\r\nHost: peer\r\nContent-Type: application/x-ndjson\r\n")
    assert [json.loads(line) for line in forwarded.split(b"\n")] == [
        {"to": [REMOTE, f"a/{other}"], "text": "1"},
        {"to": [other], "base64": "/w=="},
    ]
    peer.answer(code="OK", sent=2, gone=[other], gone_count=1, slow=[], slow_count=0, unreached=[], unreached_count=0)
    assert (answers[0].json["sent"], answers[0].json["gone"]) == (3, [other])


@pytest.mark.parametrize("status", [410, 503, 504])
def test_a_list_goes_on_behind_the_page_of_a_peer_that_does_not_answer(status):
    first, second = FakeProcess("worker 2"), FakeProcess("worker 3")
    rig = PeersRig(**{"--------": first, "zzzzzzzz": second})
    _, answers = rig.defer("GET", "/connections")
    first.answer(status, code="X")
    second.answer(200, code="OK", total=3, started_at="2026-01-01T00:00:00Z")
    content = answers[0].json
    expected = ("OK", []) if status == 410 else ("PARTIAL", ["worker 2"])
    assert (content["code"], content["missing"]) == expected
    assert (content["total"], content["connections"]) == (4, [])
    assert content["next"] == f"{rig.registry.prefix}0"


@pytest.mark.parametrize("status", [410, 503])
def test_a_list_without_the_answer_of_a_peer_says_so_unless_it_ended(status):
    peer = FakeProcess("worker 2")
    rig = PeersRig(**{PREFIX: peer})
    _, answers = rig.defer("GET", f"/connections?after={rig.registry.prefix}0")
    peer.answer(status, code="X")
    content = answers[0].json
    expected = ("OK", []) if status == 410 else ("PARTIAL", ["worker 2"])
    assert (content["code"], content["missing"]) == expected
    assert content["total"] == 1


def test_a_page_of_a_worker_of_a_node_does_not_show_its_next_worker():
    peer, later = FakeProcess("a node"), "q" * 8
    rig = PeersRig(**{PREFIX: peer, later: peer})
    _, answers = rig.defer("GET", f"/groups/lobby?after={PREFIX}0")
    # The first of the two has ended, which is known only there.
    connections = [{"id": later + "x" * 22}]
    peer.answer(code="OK", count=1, connections=connections, next=f"{later}1", missing=["worker 3"])
    assert answers[0].json["connections"] == []
    assert answers[0].json["next"] in (f"{later}0", f"{rig.registry.prefix}0")
    assert (answers[0].json["count"], answers[0].json["missing"]) == (2, ["worker 3 of a node"])
