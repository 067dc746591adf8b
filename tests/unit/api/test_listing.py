"""Long pages of connections, which are filled in several turns of the loop, and pages with the parts of peers."""

from unittest.mock import patch

import pytest

from tests.support.api_rig import Rig
from tests.support.peers import FakeProcess, FakeRouter
from wsaas.api import listing
from wsaas.api.api import Api
from wsaas.clock import rfc3339
from wsaas.http.deferred import CANCELLED
from wsaas.sessions.registry import MAX_PASSED


def turns(rig, answers):
    """Let turns pass until there is an answer; return their number, and the answer."""
    count = 0
    while not answers:
        assert len(rig.run_queue.waiting) == 1
        rig.clock.turn()
        count += 1
    assert not rig.run_queue.waiting
    return count, answers[0].json


def ids(sessions):
    return [each.id for each in sessions]


def with_peers(**processes):
    rig = Rig(limit=2000)
    rig.api = Api(rig.registry.services.settings, rig.registry, rig.fan_out, FakeRouter(rig.registry, processes))
    return rig


def part(peer, prefix, count, after):
    connections = [{"id": f"{prefix}{number:022}"} for number in range(count)]
    peer.answer(code="OK", total=9, started_at="2026-01-01T00:00:00Z", connections=connections, next=after, missing=[])


def test_a_long_page_is_filled_in_turns_of_a_hundred_connections():
    rig = Rig(limit=2000)
    rig.crowd(1002)
    _, answers = rig.defer("GET", f"/connections?limit=1000&after={rig.registry.prefix}1")
    count, page = turns(rig, answers)
    assert count == 9
    assert ([each["id"] for each in page["connections"]], page["total"]) == (ids(rig.sessions[1:1001]), 1002)
    assert page["next"] == f"{rig.registry.prefix}1001"


def test_a_long_page_of_few_connections_is_complete_at_once():
    rig = Rig(limit=200)
    rig.crowd(100)
    page = rig.ask("GET", "/connections?limit=1000").json
    assert ([each["id"] for each in page["connections"]], page["next"]) == (ids(rig.sessions), None)


def test_long_pages_are_filled_one_after_the_other():
    rig = Rig(limit=500)
    rig.crowd(301)
    pages = [rig.defer("GET", "/connections?limit=300")[1] for _ in range(3)]
    complete = []
    for _ in range(6):
        assert len(rig.run_queue.waiting) == 1
        rig.clock.turn()
        complete.append(sum(map(len, pages)))
    assert (complete, len(pages[0])) == ([0, 1, 1, 2, 2, 3], 1)
    assert not rig.run_queue.waiting


def test_a_page_that_fails_is_not_in_the_way_of_the_next_one():
    rig = Rig(limit=500)
    rig.crowd(150)
    rig.defer("GET", "/connections?limit=300")
    _, answers = rig.defer("GET", "/connections?limit=300")
    with patch.object(listing, "find_page", side_effect=ZeroDivisionError), pytest.raises(ZeroDivisionError):
        rig.clock.turn()
    rig.clock.turn()
    assert len(answers[0].json["connections"]) == 150


def test_other_work_has_its_turn_while_a_long_page_is_filled():
    rig = Rig(limit=500)
    rig.crowd(301)
    seen = []
    _, answers = rig.defer("GET", "/connections?limit=300")
    while not answers:
        rig.run_queue.add(lambda: seen.append(bool(answers)))
        rig.clock.turn()
    assert seen == [False, True]


def test_clients_that_come_and_go_while_a_page_is_filled_hide_no_others_and_show_none_twice():
    rig = Rig(limit=500)
    rig.crowd(210)
    _, answers = rig.defer("GET", "/connections?limit=1000")
    # One that is listed already, the last of them, the first that is not, and a later one.
    gone = [rig.sessions[place] for place in (3, 99, 100, 150)]
    for each in gone:
        each.lost()
    late = rig.admit()
    _, page = turns(rig, answers)
    assert [each["id"] for each in page["connections"]] == [
        each for each in ids(rig.sessions) if each not in ids(gone[2:])
    ]
    assert page["connections"][-1]["id"] == late.id
    assert page["next"] is None


def test_a_page_whose_rest_has_gone_meanwhile_is_complete():
    rig = Rig(limit=500)
    rig.crowd(150)
    _, answers = rig.defer("GET", "/connections?limit=1000")
    for each in rig.sessions[:]:
        each.lost()
    _, page = turns(rig, answers)
    assert ([each["id"] for each in page["connections"]], page["next"]) == (ids(rig.sessions[:100]), None)


def test_a_long_page_of_members_is_filled_in_turns():
    rig = Rig(limit=500)
    rig.crowd(250)
    for each in reversed(rig.sessions):
        rig.registry.groups.join(each, "room")
    _, answers = rig.defer("GET", "/groups/room?limit=240")
    left = rig.sessions.pop(20)
    rig.registry.groups.leave(left.id, "room")
    count, page = turns(rig, answers)
    assert (count, page["count"]) == (2, 250)
    assert [each["id"] for each in page["connections"]] == ids(rig.sessions[:-241:-1])


def test_a_group_may_end_while_a_page_of_it_is_filled():
    rig = Rig(limit=500)
    rig.crowd(101)
    for each in rig.sessions:
        rig.registry.groups.join(each, "room")
    _, answers = rig.defer("GET", "/groups/room?limit=101")
    for each in rig.sessions:
        rig.registry.groups.leave(each.id, "room")
    rig.registry.groups.join(rig.sessions[0], "room")
    _, page = turns(rig, answers)
    assert [each["id"] for each in page["connections"]] == [*ids(rig.sessions[:100]), rig.session.id]


def test_many_clients_that_are_left_out_of_a_page_are_passed_in_turns():
    rig = Rig(limit=3 * MAX_PASSED)
    rig.crowd(2 * MAX_PASSED + 10)
    start = rig.session.info.connected_at
    for each in rig.sessions[1:-1]:
        each.info.connected_at += 3600.0
    _, answers = rig.defer("GET", f"/connections?limit=5&connected_before={rfc3339(start + 1.0)}")
    count, page = turns(rig, answers)
    assert (count, [each["id"] for each in page["connections"]]) == (2, ids([rig.session, rig.sessions[-1]]))
    assert page["next"] is None


def test_a_page_is_dropped_when_its_caller_goes_away():
    rig = Rig(limit=500)
    rig.crowd(350)
    deferred, answers = rig.defer("GET", "/connections?limit=1000")
    rig.clock.turn()
    deferred.cancel()
    rig.clock.turn()
    assert (deferred.state, answers, len(rig.run_queue.waiting)) == (CANCELLED, [], 0)


def test_peers_are_asked_for_no_more_after_the_caller_has_gone_away():
    peer = FakeProcess("worker 2")
    rig = with_peers(zzzzzzzz=peer)
    deferred, answers = rig.defer("GET", "/connections?limit=1000")
    deferred.cancel()
    part(peer, "zzzzzzzz", 0, None)
    part(peer, "zzzzzzzz", 100, "zzzzzzzz100")
    assert (peer.requests, answers) == ([], [])


def test_a_peer_is_asked_for_a_hundred_connections_at_a_time():
    peer = FakeProcess("worker 2")
    rig = with_peers(zzzzzzzz=peer)
    _, answers = rig.defer("GET", "/connections?limit=202")
    part(peer, "zzzzzzzz", 0, None)
    for after, limit in ((0, 100), (100, 100), (200, 1)):
        target = peer.requests[0][0].partition(b" HTTP/1.1")[0].decode()
        assert target in (
            f"GET /connections?limit={limit}&after=zzzzzzzz{after}",
            f"GET /connections?after=zzzzzzzz{after}&limit={limit}",
        )
        part(peer, "zzzzzzzz", limit, f"zzzzzzzz{after + limit}")
    page = answers[0].json
    assert ([each["id"][:8] for each in page["connections"]], page["next"]) == (
        [rig.registry.prefix, *["zzzzzzzz"] * 201],
        "zzzzzzzz201",
    )


def test_connections_of_this_process_follow_those_of_a_peer_in_turns():
    peer = FakeProcess("worker 2")
    rig = with_peers(**{"--------": peer})
    rig.crowd(150)
    _, answers = rig.defer("GET", "/connections?limit=1000")
    part(peer, "--------", 0, None)
    part(peer, "--------", 3, None)
    count, page = turns(rig, answers)
    assert (count, [each["id"] for each in page["connections"][3:]]) == (1, ids(rig.sessions))


def test_connections_behind_a_hundred_with_the_last_prefix_of_a_peer_are_listed():
    peer = FakeProcess("node 2")
    rig = with_peers(zzzzzzzz=peer)
    _, answers = rig.defer("GET", "/connections?limit=1000")
    part(peer, "zzzzzzzz", 0, None)
    part(peer, "xxxxxxxx", 100, "zzzzzzzz100")
    part(peer, "zzzzzzzz", 1, None)
    page = answers[0].json
    assert [each["id"][:8] for each in page["connections"]] == [rig.registry.prefix, "zzzzzzzz"]
    assert page["next"] is None


def test_a_peer_that_does_not_go_on_is_not_asked_again():
    peer = FakeProcess("worker 2")
    rig = with_peers(zzzzzzzz=peer)
    _, answers = rig.defer("GET", "/connections?limit=1000&after=zzzzzzzz7")
    part(peer, "zzzzzzzz", 0, None)
    part(peer, "zzzzzzzz", 1, "zzzzzzzz7")
    assert (len(answers[0].json["connections"]), answers[0].json["next"]) == (1, None)


def test_a_page_passes_more_unreachable_peers_than_python_can_nest_calls():
    processes = {f"z{number:07}": FakeProcess(f"worker {number}", is_full=True) for number in range(1500)}
    rig = with_peers(**processes)
    page = rig.ask("GET", "/connections").json
    assert ([each["id"] for each in page["connections"]], page["next"]) == ([rig.session.id], None)
    assert (page["code"], len(page["missing"])) == ("PARTIAL", 1500)
