"""The audit of a cluster finds each kind of violation, and excuses only what a node did that others declared dead."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.absences import Absence, Absences
from tests.chaos.audit import Ledger, Life, audit
from tests.chaos.cluster_audit import check_books, check_declared_dead, check_left, check_lost, check_orderly, owners
from tests.chaos.fan_out_audit import audit_fan_out
from tests.chaos.fan_out_log import NEVER, Span

HERE, THERE = ("127.0.0.1", 8081), ("127.0.0.1", 8082)
ADA, BOB = "process1-ada", "process2-bob"
OWNERS = {ADA[:8]: HERE, BOB[:8]: THERE}

LOST = '{"code":1006,"reason":"gateway lost","messages_in":null}'
DECLARED_DEAD = '{"code":1012,"reason":"node declared dead","messages_in":%d,"undelivered":%d}'


def delete(body: str, time: int, client: str = ADA, verdict: str = "ok") -> str:
    name = client[9:]
    return f"DELETE {client} end {verdict} {name} {name} {body} @{time} ."


def put(number: int, time: int, verdict: str = "ok") -> str:
    return f"PUT {ADA} {number} {verdict} ada ada {number} ada ! @{time} ."


POST = f"POST {ADA} 0 ok ada -  @10 ."

# Ada's node is frozen from 30 to 60: its lease ends, and another node sends her DELETE. Later, it goes on for a moment.
FROZEN = [POST, put(1, 20), delete(LOST, 50), put(2, 55)]
ABSENT = Absence(HERE, Span(30, 60))


def absences(*some: Absence) -> Absences:
    return Absences(some, OWNERS)


def ada(**values: Any) -> Life:
    usual: dict[str, Any] = {"sent": 2, "admitted": True, "end": "closed 1012", "admitted_at": 15, "address": HERE}
    return Life("ada", **(usual | values))


STRANGER = Life("eve", end="lost")
"""A client that the backend does not know."""


def ledger(*lines: str) -> Ledger:
    found = Ledger(is_cluster=True)
    found.read(lines)
    return found


def findings(lines: list[str], life: Life, *some: Absence) -> str:
    return "\n".join(audit(ledger(*lines), [life], has_workers=True, absences=absences(*some)).violations)


def hostile(lines: list[str]) -> list[str]:
    return [line.replace(" ada ada ", " hostile-a-1 - ").replace(" ada -", " hostile-a-1 -") for line in lines]


def test_a_node_that_was_declared_dead_may_go_on_for_a_moment() -> None:
    assert findings(FROZEN, ada(), ABSENT) == ""
    assert findings(hostile(FROZEN), STRANGER, ABSENT) == ""


@pytest.mark.parametrize("some", [[], [Absence(THERE, ABSENT.span)], [Absence(HERE, Span(30, 54))]])
def test_a_message_after_the_delete_of_a_lost_gateway_is_found(some: list[Absence]) -> None:
    assert "PUT 2 came after the DELETE of a lost gateway" in findings(FROZEN, ada(), *some)
    assert "PUT 2 came after the DELETE of a lost gateway" in findings(hostile(FROZEN), STRANGER, *some)


def test_a_node_that_returns_may_repeat_a_delete_with_its_own_body() -> None:
    own = DECLARED_DEAD % (2, 1)
    lines = [POST, put(1, 20), delete(own, 30, verdict="busy"), delete(LOST, 40), delete(own, 50)]
    assert findings(lines, ada()) == ""
    assert findings([*lines[:2], *lines[3:]], ada()) == ""
    alone = Ledger()
    alone.read([*lines[:2], *lines[3:]])
    assert "repeated with another body" in "\n".join(audit(alone, [ada()]).violations)


def test_a_node_with_a_delete_of_its_own_may_go_on_until_then() -> None:
    lines = [*FROZEN[:3], put(2, 70), delete(DECLARED_DEAD % (2, 0), 80)]
    assert findings(lines, ada(), ABSENT) == ""
    assert "PUT 2 came after the DELETE of a lost gateway" in findings(lines[:-1], ada(), ABSENT)
    assert "PUT 2 came after the DELETE of a lost gateway" in findings(lines, ada(), Absence(HERE, Span(51, 60)))


def test_a_repeated_delete_may_not_have_a_third_body() -> None:
    lines = [POST, put(1, 20), delete(DECLARED_DEAD % (2, 1), 30, verdict="busy"), delete(DECLARED_DEAD % (2, 2), 40)]
    assert "repeated with another body" in findings(lines, ada())


def test_the_own_body_of_a_repeated_delete_may_not_hide_a_loss() -> None:
    lines = [POST, put(1, 20), delete(LOST, 40), delete(DECLARED_DEAD % (2, 0), 50)]
    assert "messages [2] were not delivered" in findings(lines, ada())


def test_a_second_delete_by_another_number_is_found() -> None:
    lines = [*FROZEN, delete(LOST, 58).replace(" end ", " 3 ")]
    assert "more than one DELETE" in findings(lines, ada(), ABSENT)


def test_a_message_that_was_lost_untold_is_found_in_an_absence_too() -> None:
    lines = [POST, put(1, 20), delete('{"code":1000,"reason":"","messages_in":2,"undelivered":1}', 50)]
    assert findings(lines, ada(end="clean", sent=2), ABSENT) == ""
    lines = [POST, put(1, 20), delete('{"code":1000,"reason":"","messages_in":1}', 50)]
    assert "messages [2] are lost, but were not reported" in findings(lines, ada(end="clean"), ABSENT)


def push(status: str, begin: int, end: int) -> str:
    return f"PUSH {ADA} 7 {status} ada {begin} @{end} ."


def test_a_push_to_a_node_that_was_declared_dead_may_be_refused_and_arrive() -> None:
    lines = [*FROZEN, push("410", 40, 45)]
    pushed = ada(pushes=[7], received=[("p", 7)])
    assert findings(lines, pushed, ABSENT) == ""
    assert "refused pushes arrived" in findings(lines, pushed, Absence(HERE, Span(46, 60)))
    assert "refused pushes arrived" in findings([*FROZEN, push("503", 40, 45)], pushed, ABSENT)
    assert "answered 200, but did not arrive" in findings([*FROZEN, push("200", 40, 45)], ada(), ABSENT)


# Publishes. Ada and Bob are in the room, each at a node of its own.


def answer(number: int, time: int, sent: int, status: str = "200") -> str:
    body = {"code": "OK", "sent": sent, "slow": [], "slow_count": 0, "missing": []}
    return f"ANSWER {number} {status} {json.dumps(body)} @{time} ."


def send_answer(number: int, time: int, sent: int, *gone: str) -> str:
    body = {"code": "OK", "sent": sent, "gone": gone, "gone_count": len(gone), "slow": [], "slow_count": 0}
    return f"ANSWER {number} 200 {json.dumps(body)} @{time} ."


LOG = {
    "post a": f"POST {ADA} 0 ok ada - room @10 .",
    "post b": f"POST {BOB} 0 ok bob - room @11 .",
    "publish 100": "PUBLISH 100 room - @40 .",
    "answer 100": answer(100, 45, 2),
    "publish 101": "PUBLISH 101 room - @50 .",
    "answer 101": answer(101, 55, 2),
    "send 110": f'SEND 110 [["{ADA}"]] @70 .',
    "answer 110": send_answer(110, 75, 1),
    "publish 120": "PUBLISH 120 room - @100 .",
    "answer 120": answer(120, 105, 2),
    "delete a": delete('{"code":1000,"reason":"","messages_in":0}', 1000),
    "delete b": delete('{"code":1000,"reason":"","messages_in":0}', 1001, BOB),
}
RECEIVED = [("g", 100), ("g", 101), ("g", 120)]
ADA_RECEIVED = [("g", 100), ("g", 101), ("s", 110), ("g", 120)]


def fan_out(changes: dict[str, str], received: list[tuple[str, int]], *some: Absence, end: str = "clean") -> str:
    """Return the violations where Ada received other messages, and the log has other lines."""
    bob = replace(ada(end="clean", received=RECEIVED, closing_at=1000, address=THERE), name="bob")
    known = ada(end=end, received=received, closing_at=1000)
    found = ledger(*filter(None, {**LOG, **changes}.values()))
    return "\n".join(audit_fan_out(found, [known, bob], has_workers=True, absences=absences(*some)).violations)


def without(*lost: int) -> list[tuple[str, int]]:
    return [each for each in ADA_RECEIVED if each[1] not in lost]


EXCUSED: dict[str, tuple[dict[str, str], list[tuple[str, int]], str]] = {
    "a publish that does not count the clients of a dead node": (
        {"answer 100": answer(100, 45, 1)},
        without(100),
        "PUBLISH 100 room: it did not reach process1-ada",
    ),
    "a publish that reached a client of a dead node": (
        {"answer 100": answer(100, 45, 1)},
        ADA_RECEIVED,
        "sent is 1, but 2 clients received it",
    ),
    "publishes in another order": (
        {},
        [("g", 101), ("g", 100), ("s", 110), ("g", 120)],
        "g 100 arrived after g 101",
    ),
    "a publish before a join": (
        {
            "post a": f"POST {ADA} 0 ok ada -  @10 .",
            "join 90": f"JOIN 90 room {ADA} @46 .",
            "answer 90": 'ANSWER 90 200 {"code": "OK"} @49 .',
            "answer 100": answer(100, 45, 1),
        },
        ADA_RECEIVED,
        "PUBLISH 100 room: it reached process1-ada, which is not a member",
    ),
    "a push to a client of a dead node": (
        {"push": f"PUSH {ADA} 7 410 ada 40 @45 ."},
        ADA_RECEIVED,
        "push 7 was answered 410, but it was connected",
    ),
    "a SEND to a client of a dead node": (
        {"send 110": f'SEND 110 [["{ADA}"]] @40 .', "answer 110": send_answer(110, 45, 0, ADA)},
        without(110),
        "process1-ada is named as gone, but was connected",
    ),
    "a SEND that reached a client of a dead node": (
        {"send 110": f'SEND 110 [["{ADA}"]] @40 .', "answer 110": send_answer(110, 45, 0, ADA)},
        ADA_RECEIVED,
        "received 1 messages, but only 0 were sent",
    ),
}


@pytest.mark.parametrize("what", EXCUSED)
def test_what_happens_to_clients_of_a_dead_node_is_excused_while_it_is_absent_only(what: str) -> None:
    changes, received, expected = EXCUSED[what]
    assert fan_out(changes, received, ABSENT) == ""
    for some in ([], [Absence(HERE, Span(60, 65))]):
        assert expected in fan_out(changes, received, *some)


def test_a_client_of_a_dead_node_may_receive_publishes_after_its_delete() -> None:
    before = {"send 110": "", "answer 110": "", "answer 120": answer(120, 105, 1)}
    changes = {**before, "delete a": delete(LOST, 48)}
    assert fan_out(changes, [("g", 100), ("g", 101)], ABSENT, end="closed 1012") == ""
    expected = "PUBLISH 101 room: it reached process1-ada, which is not a member"
    assert expected in fan_out(changes, [("g", 100), ("g", 101)], end="closed 1012")


def test_an_absence_does_not_excuse_what_comes_before_and_after_it() -> None:
    assert "PUBLISH 120 room: it did not reach process1-ada" in fan_out({}, without(120), ABSENT)
    assert "g 120 arrived twice" in fan_out({}, [*ADA_RECEIVED, ("g", 120)], ABSENT)
    assert "g 100 arrived after g 120" in fan_out({}, [*without(100), ("g", 100)], ABSENT)


# What is special about a cluster.


def test_the_owner_of_a_prefix_is_the_node_to_which_its_clients_connected() -> None:
    assert owners(ledger(*LOG.values()), [ada(), replace(ada(), name="bob", address=THERE)]) == OWNERS
    assert owners(ledger(*LOG.values()), [replace(ada(), name="refused")]) == {}
    found = absences(ABSENT)
    assert found.find(ADA, Span(0, 29)) is found.find(ADA, Span(61, NEVER)) is found.find(BOB, ABSENT.span) is None
    assert found.find("unknown1", ABSENT.span) is None
    assert found.find(ADA, Span(0, 30)) == found.find(ADA, Span(60, 70)) == ABSENT.span


def test_a_node_that_is_declared_dead_without_a_cause_is_found() -> None:
    log = "this node was declared dead, as\njoined the cluster\nthis node was declared dead, as\n"
    assert check_declared_dead("node-1", log, 2) == []
    assert check_declared_dead("node-1", log, 1) == [
        "node-1 was declared dead 2 times, but was frozen or cut off 1 times"
    ]


def test_connections_that_nats_seems_to_have_lost_are_found() -> None:
    log = "WARN NATS has lost 14 connections: written again\nINFO joined the cluster\n"
    assert check_lost("node-1", log) == ["node-1: WARN NATS has lost 14 connections: written again"]
    assert check_lost("node-1", "INFO joined the cluster\n") == []


def test_books_that_differ_are_found() -> None:
    assert check_books({"in NATS": ["a", "b"], "known to the backend": ["b", "a"]}) == []
    assert check_books({"in NATS": ["a", "b", "c"], "known to the backend": ["b", "a"]}) == [
        "1 of 3 connections are not known to the backend: ['c']"
    ]
    assert check_books({"in NATS": ["a"], "listed by node-1": ["a", "a"]}) == [
        "some connections are twice listed by node-1"
    ]


def test_what_is_left_is_found() -> None:
    assert check_left("connections in NATS", []) == []
    assert check_left("connections in NATS", ["a"]) == ["1 connections in NATS are left: ['a']"]


def test_a_loss_in_an_orderly_run_is_found() -> None:
    right = [POST, put(1, 20), delete('{"code":1001,"reason":"","messages_in":1}', 50), push("410", 60, 61)]
    assert check_orderly(ledger(*right)) == []
    assert check_orderly(ledger(POST, delete(LOST, 50))) == [
        f"{ADA}: its DELETE reports a lost gateway, but none was lost"
    ]
    assert check_orderly(ledger(*right[:3], push("503", 40, 45))) == ["push 7 was answered 503"]
    publish = [LOG["publish 100"], answer(100, 45, 0, "500")]
    assert check_orderly(ledger(*right, *publish)) == ["PUBLISH 100 was answered 500"]
    assert check_orderly(ledger(*right, LOG["publish 100"], answer(100, 45, 0, "504"))) == []
