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


def total(peer: FakeProcess, number: int) -> None:
    peer.answer(code="OK", total=number, started_at="2026-01-01T00:00:00Z", connections=[], next=None, missing=[])


def part(peer: FakeProcess, prefix: str, *orders: int, after: str | None = None) -> None:
    connections = [{"id": f"{prefix}{order:022}"} for order in orders]
    peer.answer(code="OK", total=9, started_at="2026-01-01T00:00:00Z", connections=connections, next=after, missing=[])


@pytest.mark.parametrize("status", [410, 503, 504])
def test_a_list_goes_on_behind_a_peer_that_does_not_answer(status):
    first, second = FakeProcess("worker 2"), FakeProcess("worker 3")
    rig = PeersRig(**{"--------": first, "zzzzzzzz": second})
    _, answers = rig.defer("GET", "/connections")
    total(first, 1)
    total(second, 3)
    first.answer(status, code="X")
    part(second, "zzzzzzzz", 1, 2, 3)
    content = answers[0].json
    expected = ("OK", []) if status == 410 else ("PARTIAL", ["worker 2"])
    assert (content["code"], content["missing"]) == expected
    own = rig.session.id
    assert [each["id"][:8] for each in content["connections"]] == [own[:8], *["zzzzzzzz"] * 3]
    assert (content["total"], content["next"]) == (5, None)


def test_a_page_is_filled_process_by_process_until_it_is_full():
    first, second, third = FakeProcess("worker 2"), FakeProcess("worker 3"), FakeProcess("worker 4")
    rig = PeersRig(**{"--------": first, "zzzzzzzy": second, "zzzzzzzz": third})
    _, answers = rig.defer("GET", "/connections?limit=4&after=--------5")
    for peer in (first, second, third):
        total(peer, 9)
    assert b"after=--------5&limit=4" in first.requests[0][0] or b"limit=4&after=--------5" in first.requests[0][0]
    part(first, "--------", 6)
    assert b"limit=2" in second.requests[0][0]
    part(second, "zzzzzzzy", 1, 2, after="zzzzzzzy2")
    assert third.requests == []
    assert answers[0].json["next"] == "zzzzzzzy2"
    assert len(answers[0].json["connections"]) == 4


def test_a_full_page_may_end_between_two_processes():
    first, second = FakeProcess("worker 2"), FakeProcess("worker 3")
    rig = PeersRig(zzzzzzzy=first, zzzzzzzz=second)
    _, answers = rig.defer("GET", "/connections?limit=1")
    total(first, 1)
    total(second, 1)
    assert (answers[0].json["next"], len(answers[0].json["connections"])) == ("zzzzzzzy0", 1)


def test_a_process_that_ends_before_its_turn_has_no_part_of_a_page():
    first, second = FakeProcess("worker 2"), FakeProcess("worker 3")
    rig = PeersRig(**{"--------": first, "zzzzzzzz": second})
    _, answers = rig.defer("GET", "/connections")
    total(first, 1)
    total(second, 0)
    del rig.processes["zzzzzzzz"]
    part(first, "--------", 1)
    assert len(answers[0].json["connections"]) == 2
    assert answers[0].json["next"] is None


def test_a_peer_that_repeats_the_place_it_was_asked_for_is_not_asked_for_ever():
    peer = FakeProcess("worker 2")
    rig = PeersRig(zzzzzzzz=peer)
    _, answers = rig.defer("GET", "/connections")
    total(peer, 1)
    part(peer, "zzzzzzzz", after="zzzzzzzz0")
    assert answers[0].json["next"] is None


@pytest.mark.parametrize("status", [410, 503])
def test_a_list_without_the_answer_of_a_peer_says_so_unless_it_ended(status):
    peer = FakeProcess("worker 2")
    rig = PeersRig(**{"--------": peer})
    _, answers = rig.defer("GET", f"/connections?after={rig.registry.prefix}0")
    peer.answer(status, code="X")
    content = answers[0].json
    expected = ("OK", []) if status == 410 else ("PARTIAL", ["worker 2"])
    assert (content["code"], content["missing"]) == expected
    assert content["total"] == 1


def test_a_part_of_a_worker_of_a_node_does_not_show_its_next_worker():
    peer, first, later = FakeProcess("a node"), "--------", "-------0"
    rig = PeersRig(**{first: peer, later: peer})
    _, answers = rig.defer("GET", f"/groups/lobby?after={first}0")
    peer.answer(code="OK", count=1, connections=[], next=None, missing=["worker 3"])
    # The first of the two has ended, which is known only there.
    part(peer, first, after=f"{later}1")
    connections = [{"id": later + "x" * 22}]
    peer.answer(code="OK", count=1, connections=connections, next=None, missing=["worker 3"])
    content = answers[0].json
    assert [each["id"] for each in content["connections"]] == [later + "x" * 22, rig.session.id]
    assert (content["next"], content["count"], content["missing"]) == (None, 2, ["worker 3 of a node"])
