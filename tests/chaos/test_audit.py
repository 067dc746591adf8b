"""The audit finds each kind of violation, and none in a correct log."""

import json
from typing import Any

import pytest

from tests.chaos.audit import LAST, Ledger, Life, audit


def delete(
    number: int | str,
    messages: int | None,
    code: int = 1000,
    reason: str = "",
    verdict: str = "ok",
    **more: int | None,
) -> str:
    body = json.dumps({"code": code, "reason": reason, "messages_in": messages, **more}, separators=(",", ":"))
    return f"DELETE id {number} {verdict} ada ada {body} ."


def put(number: int, verdict: str = "ok", message: int | None = None, name: str = "ada", context: str = "ada") -> str:
    return f"PUT id {number} {verdict} ada {context} {message or number} {name} ! ."


RIGHT = [
    "",
    "POST id 0 ok ada -  .",
    put(1, "busy"),
    put(1),
    "PUSH id 5 200 ada .",
    put(2, "mute"),
    put(2),
    "PUSH id 6 unknown ada .",
    "PUSH id 7 200 ada .",
    "PUSH id 8 410 ada .",
    delete(3, 2, verdict="busy"),
    delete(3, 2),
]


def life(**values: object) -> Life:
    given: dict[str, Any] = {
        "sent": 2,
        "asked": [2],
        "replies": [2],
        "pushes": [5, 6, 7],
        "admitted": True,
        "end": "clean",
        **values,
    }
    return Life("ada", **given)


def swapped(lines: list[str], one: int, other: int) -> list[str]:
    lines = list(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def without(*numbers: int) -> list[str]:
    return [line for number, line in enumerate(RIGHT) if number not in numbers]


def findings(lines: list[str], *lives: Life) -> list[str]:
    ledger = Ledger()
    ledger.read(lines)
    return audit(ledger, lives).violations


LOST_DELETE = delete(LAST, None, 1006, "gateway lost")

FINE: dict[str, tuple[list[str], Life]] = {
    "a life": (RIGHT, life()),
    "a line cut by a kill": ([*RIGHT, "DELETE id 3 o"], life()),
    "a message lost with its connection": (
        ["POST id 0 ok ada -  .", put(1), LOST_DELETE],
        life(end="lost", replies=[], pushes=[]),
    ),
    "a message whose loss the DELETE reports": (
        ["POST id 0 ok ada -  .", put(1), LOST_DELETE],
        life(replies=[], pushes=[]),
    ),
    "messages given up": (
        ["POST id 0 ok ada -  .", put(1, "busy"), delete(6, 5, 1011)],
        life(sent=5, end="closed 1011", replies=[], pushes=[]),
    ),
    "a kill before a push was logged": (RIGHT[:8] + RIGHT[9:], life(pushes=[5, 6, 7])),
    "a push that came too late": (RIGHT, life(end="left", pushes=[5])),
    "a gateway lost twice": (["POST id 0 ok ada -  .", LOST_DELETE, LOST_DELETE], life(end="lost", sent=0, pushes=[])),
    "a POST that a kill kept from the log": ([delete(1, 0, 1006)], life(end="refused 502", admitted=False, sent=0)),
    "a DELETE whose event is the end": ([*RIGHT[:-2], delete("end", 2, verdict="busy"), delete("end", 2)], life()),
    "a DELETE repeated by a later gateway": (
        [*RIGHT[:-2], delete("end", 2, verdict="mute"), delete("end", None, 1006, "gateway lost")],
        life(),
    ),
    "as many messages given up as the DELETE says": (
        ["POST id 0 ok ada -  .", put(1), delete("end", 5, 4001, undelivered=4)],
        life(sent=5, end="closed 4001", replies=[], pushes=[]),
    ),
    "a refusal that a kill of the gateway kept from it": (
        ["POST id 0 no ada -  .", LOST_DELETE],
        life(end="lost", admitted=False, sent=0, pushes=[]),
    ),
}


@pytest.mark.parametrize("what", FINE)
def test_an_audit_of_a_correct_log_finds_nothing(what: str) -> None:
    lines, known = FINE[what]
    if what == "a POST that a kill kept from the log":
        known.pushes = []
    assert findings(lines, known) == []


WRONG: dict[str, tuple[list[str], Life, str]] = {
    "no DELETE": (RIGHT[:-2], life(), "its DELETE is missing"),
    "a DELETE that was never answered": (RIGHT[:-1], life(), "its DELETE is missing"),
    "two DELETEs": ([*RIGHT, LOST_DELETE], life(), "more than one DELETE"),
    "two DELETEs of lost gateways": (
        ["POST id 0 ok ada -  .", LOST_DELETE, delete(LAST - 1, None, 1006, "gateway lost")],
        life(end="lost", sent=0, pushes=[]),
        "more than one DELETE",
    ),
    "a DELETE for a refused client": (
        ["POST id 0 no ada -  .", "REFUSED id 0 .", delete(1, 0, 1006)],
        life(end="refused 403", admitted=False, sent=0, pushes=[]),
        "refused, but has a DELETE",
    ),
    "a message lost on the way": (
        ["POST id 0 ok ada -  .", put(1), delete(2, 1)],
        life(replies=[], pushes=[]),
        r"messages \[2\] are lost, but were not reported",
    ),
    "a message lost in the middle": (without(2, 3), life(), "PUT 2 came after POST 0"),
    "a message lost after its acknowledgement": (
        ["POST id 0 ok ada -  .", put(1), LOST_DELETE],
        life(end="lost", pushes=[]),
        "acknowledged, but the backend has not logged them",
    ),
    "a DELETE that does not report a loss": (
        ["POST id 0 ok ada -  .", put(1), delete(3, 2, 1001)],
        life(end="closed 1001", replies=[], pushes=[]),
        "were not delivered",
    ),
    "a DELETE that reports too few losses": (
        ["POST id 0 ok ada -  .", put(1), delete("end", 5, 4001, undelivered=3)],
        life(sent=5, end="closed 4001", replies=[], pushes=[]),
        "were not delivered",
    ),
    "a DELETE repeated with another code": (
        [*RIGHT[:-2], delete("end", 2, verdict="busy"), delete("end", 2, 1001)],
        life(),
        "repeated with another body",
    ),
    "a DELETE before the last message": (
        [*RIGHT[:5], delete("end", 2), put(2)],
        life(pushes=[5]),
        "DELETE 3 came after PUT 1",
    ),
    "a DELETE and another one": ([*RIGHT, delete("end", 2)], life(), "more than one DELETE"),
    "messages in another order": (swapped(RIGHT, 3, 6), life(), "PUT 2 began before"),
    "contents swapped": (
        ["POST id 0 ok ada -  .", put(1, message=2), put(2, message=1), delete(3, 2)],
        life(pushes=[]),
        "event 1 is message 2",
    ),
    "a message of somebody else": (
        ["POST id 0 ok ada -  .", put(1, name="bob"), put(2), delete(3, 2)],
        life(pushes=[]),
        "message 1 of bob",
    ),
    "a repeat with another number": (
        ["POST id 0 ok ada -  .", put(1, "busy"), put(2, message=1), put(3, message=2), delete(4, 2)],
        life(pushes=[]),
        "event 2 is message 1",
    ),
    "a repeat with another body": (
        ["POST id 0 ok ada -  .", put(1, "busy"), put(1, message=2), delete(2, 1)],
        life(sent=1, asked=[], replies=[], pushes=[]),
        "repeated with another body",
    ),
    "a late repeat": ([*RIGHT[:7], put(1), *RIGHT[7:]], life(), "PUT 1 came after PUT 2"),
    "a message before the answer to the one before": (without(3), life(), "PUT 2 began before PUT 1 was answered"),
    "a message after the DELETE": ([*RIGHT, put(3)], life(), "was a DELETE and is a PUT"),
    "a message that was given up before": ([*RIGHT, put(4)], life(), "PUT 4 came after the DELETE"),
    "another's authorization": ([*RIGHT[:3], put(1).replace("ok ada", "ok bob")], life(), "that of bob"),
    "no context": (["POST id 0 ok ada -  .", put(1, context="-")], life(), "the Ws-Context of"),
    "one client under two ids": ([*RIGHT, "POST other 0 ok ada -  ."], life(), "ada is id too"),
    "a client without a POST": ([], life(sent=0, asked=[], replies=[], pushes=[]), "did not log it"),
    "a push lost before a Close": (RIGHT, life(pushes=[5, 6]), r"pushes \[7\] were answered 200"),
    "a push lost in the middle": (RIGHT, life(end="lost", pushes=[7]), r"pushes \[5\] were answered 200"),
    "pushes in another order": (RIGHT, life(pushes=[6, 5, 7]), "out of order"),
    "a push that came twice": (RIGHT, life(pushes=[5, 5, 6, 7]), "out of order"),
    "a push that was refused": (RIGHT, life(pushes=[5, 6, 7, 8]), "refused pushes arrived"),
    "pushes that were not logged": (RIGHT, life(pushes=[5, 6, 7, 20, 21]), "that were not logged"),
    "a push with a strange answer": ([*RIGHT[:8], "PUSH id 7 500 ada .", *RIGHT[9:]], life(pushes=[5, 6]), "500"),
    "a reply without a question": (RIGHT, life(replies=[1, 2]), "replies to"),
    "a reply that came twice": (RIGHT, life(replies=[2, 2]), "replies to"),
    "a client that does not end": (RIGHT, life(end=""), "did not end"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_audit_finds_each_violation(what: str) -> None:
    lines, known, expected = WRONG[what]
    found = findings(lines, known)
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError("\n".join(found))


def test_a_push_to_a_client_of_a_killed_worker_may_be_refused_and_arrive() -> None:
    ledger = Ledger()
    ledger.read(RIGHT)
    lost, closed = life(end="lost", pushes=[5, 6, 7, 8]), life(pushes=[5, 6, 7, 8])
    assert audit(ledger, [lost], has_workers=True).violations == []
    assert "refused pushes arrived" in "".join(audit(ledger, [closed], has_workers=True).violations)


def test_a_worker_may_be_unable_to_tell_what_a_push_came_to() -> None:
    lines = [*RIGHT[:8], "PUSH id 7 504 ada .", "PUSH id 8 503 ada .", *RIGHT[10:]]
    ledger = Ledger()
    ledger.read(lines)
    assert audit(ledger, [life()], has_workers=True).violations == []
    assert "pushes were answered" in "".join(audit(ledger, [life()]).violations)


def hostile(*lines: str) -> list[str]:
    """Return the violations of a hostile client whose requests are `lines`."""
    return findings([line.replace(" ada ada ", " hostile-a-1 - ").replace(" ada ", " hostile-a-1 ") for line in lines])


HOSTILE_RIGHT = ["POST id 0 ok ada -  .", "PUT id 1 busy ada -  .", "PUT id 1 ok ada -  .", "PUT id 2 bad ada -  ."]


def test_an_audit_of_a_correct_hostile_client_finds_nothing() -> None:
    assert hostile(*HOSTILE_RIGHT, delete("end", 900, 1011, verdict="busy"), delete("end", 900, 1011)) == []
    assert hostile(*HOSTILE_RIGHT[:2], delete("end", None, 1006, "gateway lost")) == []
    assert hostile("POST id 0 busy ada -  .") == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (HOSTILE_RIGHT, "its DELETE is missing"),
        ([*HOSTILE_RIGHT, delete("end", 2, 1011, verdict="busy")], "its DELETE is missing"),
        (["POST id 0 hung ada -  ."], "its DELETE is missing"),
        ([*HOSTILE_RIGHT, delete("end", 2, 1011), delete(3, 2, 1011)], "more than one DELETE"),
        ([*HOSTILE_RIGHT, delete("end", 2, 1011), "PUT id 3 ok ada -  ."], "PUT 3 was a DELETE|is a PUT"),
        ([HOSTILE_RIGHT[0], HOSTILE_RIGHT[3], delete("end", 2, 1011)], "PUT 2 came after POST 0"),
        ([*HOSTILE_RIGHT[:2], HOSTILE_RIGHT[3], delete("end", 2, 1011)], "PUT 2 began before PUT 1 was answered"),
    ],
)
def test_an_audit_finds_violations_towards_a_hostile_client(lines: list[str], expected: str) -> None:
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError("\n".join(hostile(*lines)))


def test_unsettled_connections_are_known_at_any_time() -> None:
    ledger = Ledger()
    ledger.read(RIGHT[:2])
    assert [account.name for account in ledger.unsettled] == ["ada"]
    ledger.read(RIGHT[2:])
    assert ledger.unsettled == []
