"""The audit of publishes finds each kind of violation, and none where the log proves nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.audit import Ledger, Life
from tests.chaos.fan_out_audit import audit_fan_out


def answer(number: int, time: int, status: str = "200", **fields: Any) -> str:
    return f"ANSWER {number} {status} {json.dumps({'code': 'OK', **fields})} @{time} ."


def published(number: int, time: int, sent: int, *slow: str, **fields: Any) -> str:
    return answer(number, time, **{"sent": sent, "slow": slow, "slow_count": len(slow), "missing": [], **fields})


def sent(number: int, time: int, count: int, gone: tuple[str, ...] = (), slow: tuple[str, ...] = ()) -> str:
    return answer(
        number, time, sent=count, gone=gone, gone_count=len(gone), slow=slow, slow_count=len(slow), missing=[]
    )


# Lines by name. `a` is ada's connection, `b` is bob's. Both join `room` by the connect answer, ada joins `by.message`
# by her first message and leaves it by her second, and bob joins `by.rest` by a request.
LOG = {
    "post a": "POST a 0 ok ada - room @10 .",
    "post b": "POST b 0 ok bob - room @11 .",
    "publish 100": "PUBLISH 100 room - @20 .",
    "answer 100": published(100, 29, 2),
    "publish 101": "PUBLISH 101 room except=b,nobody&slow=skip @30 .",
    "answer 101": published(101, 39, 1),
    "put 1": "PUT a 1 ok ada ada 1 ada ? +by.message ... @40 .",
    "put 2": "PUT a 2 ok ada ada 2 ada ? -by.message ... @50 .",
    "put 3": "PUT a 3 ok ada ada 3 ada ?  @60 .",
    "publish 102": "PUBLISH 102 by.message - @52 .",
    "answer 102": published(102, 53, 1),
    "publish 103": "PUBLISH 103 by.message - @61 .",
    "answer 103": published(103, 69, 0),
    "join 104": "JOIN 104 by.rest b @70 .",
    "answer 104": answer(104, 71),
    "publish 105": "PUBLISH 105 by.rest slow=close @72 .",
    "answer 105": published(105, 79, 1),
    "leave 106": "LEAVE 106 by.rest b @80 .",
    "answer 106": answer(106, 81),
    "publish 107": "PUBLISH 107 by.rest - @82 .",
    "answer 107": published(107, 89, 0),
    "push 108": "PUSH b 108 200 bob 90 @91 .",
    "send 110": 'SEND 110 [["a","b"],["b"],["b","c"]] @100 .',
    "answer 110": sent(110, 109, 4, gone=("http://localhost/c",)),
    "publish 120": "PUBLISH 120 * - @120 .",
    "answer 120": published(120, 129, 2),
    "delete a": 'DELETE a end ok ada ada {"code":1000,"messages_in":3} @1001 .',
    "delete b": 'DELETE b end ok bob bob {"code":1000,"messages_in":0} @1002 .',
}
ADA = [("g", 100), ("g", 101), ("r", 1), ("g", 102), ("r", 2), ("r", 3), ("s", 110), ("g", 120)]
BOB = [("g", 100), ("g", 105), ("p", 108), ("s", 110), ("s", 111), ("s", 112), ("g", 120)]


def ada(*received: tuple[str, int], **fields: Any) -> Life:
    life = Life("ada", admitted=True, end="clean", received=list(received or ADA), admitted_at=15, closing_at=1000)
    return replace(life, **fields)


def bob(*received: tuple[str, int], **fields: Any) -> Life:
    return replace(ada(*(received or BOB)), name="bob", **fields)


def without(received: list[tuple[str, int]], *lost: tuple[str, int]) -> list[tuple[str, int]]:
    return [each for each in received if each not in lost]


def swapped(received: list[tuple[str, int]], one: tuple[str, int], other: tuple[str, int]) -> list[tuple[str, int]]:
    exchange = {one: other, other: one}
    return [exchange.get(each, each) for each in received]


def findings(lives: tuple[Life, Life], changes: dict[str, str], *, has_workers: bool = False) -> str:
    """Return the violations in `LOG` with other lines; an empty one is left out."""
    ledger = Ledger()
    ledger.read(filter(None, {**LOG, **changes}.values()))
    return "\n".join(audit_fan_out(ledger, lives, has_workers=has_workers).violations)


FINE: dict[str, tuple[tuple[Life, Life], dict[str, str]]] = {
    "all arrive": ((ada(), bob()), {}),
    "a client that was lost without its last messages": (
        (ada(), bob(*BOB[:4], end="lost", closing_at=0)),
        {},
    ),
    "a client that left, and was not counted": (
        (ada(), bob(*BOB[:-1], end="left", closing_at=0)),
        {"answer 120": published(120, 129, 1)},
    ),
    "a publish without an answer that reached some": (
        (ada(), bob(*without(BOB, ("g", 120)))),
        {"answer 120": answer(120, 129, "unknown")},
    ),
    "a publish without an answer that came late": (
        (ada(*ADA[1:], ("g", 100)), bob()),
        {"answer 100": ""},
    ),
    "a join that overlaps the publish": (
        (ada(), bob(*without(BOB, ("g", 105)))),
        {"answer 104": answer(104, 75), "answer 105": published(105, 79, 0)},
    ),
    "a join whose answer was lost": (
        (ada(), bob(*without(BOB, ("g", 105)))),
        {"answer 104": "", "answer 105": published(105, 79, 0)},
    ),
    "a leave whose answer was lost": (
        (ada(), bob(*BOB[:2], ("g", 107), *BOB[2:])),
        {"answer 106": answer(106, 81, "unknown"), "answer 107": published(107, 89, 1)},
    ),
    "a publish that overlaps a leave by a message": (
        (ada(*without(ADA, ("g", 102))), bob()),
        {"answer 102": published(102, 53, 0)},
    ),
    "a publish that overlaps another": (
        (ada(*swapped(ADA, ("g", 100), ("g", 101))), bob()),
        {"publish 101": "PUBLISH 101 room except=b,nobody&slow=skip @28 ."},
    ),
    "a publish that overlaps the Close": (
        (ada(closing_at=125), bob()),
        {},
    ),
    "a slow client": (
        (ada(), bob(*without(BOB, ("g", 120)))),
        {"answer 120": published(120, 129, 1, "b")},
    ),
    "a slow client that is closed": (
        (ada(), bob(*BOB[:1], end="closed 1013", closing_at=0)),
        {
            "answer 105": published(105, 79, 0, "b"),
            "push 108": "PUSH b 108 410 bob 90 @91 .",
            "answer 110": sent(110, 109, 1, gone=("b", "b", "b", "c")),
            "answer 120": published(120, 129, 1),
        },
    ),
    "a message of several that found its recipient slow": (
        (ada(), bob(*without(BOB, ("s", 111)))),
        {"answer 110": sent(110, 109, 3, gone=("c",), slow=("b",))},
    ),
    "a publish that a worker did not answer in time": (
        (ada(), bob(*without(BOB, ("g", 120)))),
        {"answer 120": published(120, 129, 0, code="PARTIAL", missing=["worker 2"])},
    ),
    "a refused publish": (
        (ada(*without(ADA, ("g", 120))), bob(*without(BOB, ("g", 120)))),
        {"answer 120": answer(120, 129, "429")},
    ),
    "a hostile client that may have been sent a publish to all": (
        (ada(), bob()),
        {"post h": "POST h 0 ok hostile-deaf-1 - flood @12 .", "answer 120": published(120, 129, 3)},
    ),
}


@pytest.mark.parametrize("what", FINE)
@pytest.mark.parametrize("has_workers", [False, True])
def test_an_audit_of_correct_publishes_finds_nothing(what: str, *, has_workers: bool) -> None:
    assert findings(*FINE[what], has_workers=has_workers) == ""


def test_the_clients_of_a_dead_worker_may_count_as_gone() -> None:
    lives = ada(), bob(end="lost", closing_at=0)
    changes = {"answer 120": published(120, 129, 1)}
    assert findings(lives, changes, has_workers=True) == ""
    assert "sent is 1, but 2 clients received it" in findings(lives, changes)


WRONG: dict[str, tuple[tuple[Life, Life], dict[str, str], str]] = {
    "a publish lost before another message": (
        (ada(*without(ADA, ("g", 100)), end="lost"), bob()),
        {},
        "PUBLISH 100 room: it did not reach a",
    ),
    "the last publish lost before a Close": (
        (ada(*without(ADA, ("g", 120))), bob()),
        {},
        r"PUBLISH 120 \*: it did not reach a",
    ),
    "a publish lost and not counted": (
        (ada(*without(ADA, ("g", 100))), bob()),
        {"answer 100": published(100, 29, 1)},
        "PUBLISH 100 room: it did not reach a",
    ),
    "a publish lost after a join by a message": (
        (ada(*without(ADA, ("g", 102))), bob()),
        {"put 2": LOG["put 2"].replace("-by.message", "-by.other"), "answer 102": published(102, 53, 0)},
        "PUBLISH 102 by.message: it did not reach a",
    ),
    "a publish lost after a join by REST": (
        (ada(), bob(*without(BOB, ("g", 105)))),
        {"answer 105": published(105, 79, 0)},
        "PUBLISH 105 by.rest: it did not reach b",
    ),
    "a publish that came twice": ((ada(*ADA, ("g", 120)), bob()), {}, "g 120 arrived twice"),
    "two publishes in another order": (
        (ada(*swapped(ADA, ("g", 100), ("g", 101))), bob()),
        {},
        "g 100 arrived after g 101",
    ),
    "a push before an earlier publish": (
        (ada(), bob(*swapped(BOB, ("g", 105), ("p", 108)))),
        {},
        "g 105 arrived after p 108",
    ),
    "a publish before an earlier reply": (
        (ada(*swapped(ADA, ("r", 2), ("g", 120))), bob()),
        {},
        "r 2 arrived after g 120",
    ),
    "the messages of one SEND in another order": (
        (ada(), bob(*swapped(BOB, ("s", 110), ("s", 111)))),
        {},
        "s 110 arrived after s 111",
    ),
    "a sent that is too large": (
        (ada(), bob()),
        {"answer 120": published(120, 129, 3)},
        "sent is 3, but 2 received it, and 0 may",
    ),
    "a sent that is too small": (
        (ada(), bob()),
        {"answer 120": published(120, 129, 1)},
        "sent is 1, but 2 clients received it",
    ),
    "a sent that counts a client that saw everything": (
        (ada(), bob(*without(BOB, ("g", 120)), end="closed 1001", closing_at=0)),
        {},
        "sent is 2, but 1 received it",
    ),
    "a sent to a group without members": (
        (ada(), bob()),
        {"answer 107": published(107, 89, 1)},
        "sent is 1, but 0 received it",
    ),
    "a publish to a client that never joined": (
        (ada(*ADA[:-2], ("g", 105), *ADA[-2:]), bob()),
        {},
        "PUBLISH 105 by.rest: it reached a, which is not a member",
    ),
    "a publish to a client that has left by a message": (
        (ada(*ADA[:-2], ("g", 103), *ADA[-2:]), bob()),
        {"answer 103": published(103, 69, 1)},
        "PUBLISH 103 by.message: it reached a, which is not a member",
    ),
    "a publish to a client that has left by REST": (
        (ada(), bob(*BOB[:2], ("g", 107), *BOB[2:])),
        {"answer 107": published(107, 89, 1)},
        "PUBLISH 107 by.rest: it reached b, which is not a member",
    ),
    "a publish to a client in except": (
        (ada(), bob(BOB[0], ("g", 101), *BOB[1:])),
        {"answer 101": published(101, 39, 2)},
        "it reached b, which is in except",
    ),
    "a publish that nobody sent": ((ada(*ADA, ("g", 999)), bob()), {}, "g 999 arrived, but it was never sent to it"),
    "a refused publish that arrived": ((ada(), bob()), {"answer 120": answer(120, 129, "429")}, "it was refused, but"),
    "a slow client that received it": (
        (ada(), bob()),
        {"answer 120": published(120, 129, 1, "b")},
        "which is named as slow",
    ),
    "a slow client that is no member": (
        (ada(), bob()),
        {"answer 107": published(107, 89, 0, "b")},
        "b is named as slow, but it is not a member",
    ),
    "a slow client that is not closed": (
        (ada(), bob(*without(BOB, ("g", 105)))),
        {"answer 105": published(105, 79, 0, "b")},
        "slow=close did not close b",
    ),
    "a slow client that is closed with another code": (
        (ada(), bob(*BOB[:1], end="closed 1000", closing_at=0)),
        {"answer 105": published(105, 79, 0, "b")},
        "slow=close closed b with closed 1000",
    ),
    "a wrong number of slow clients": (
        (ada(), bob(*without(BOB, ("g", 120)))),
        {"answer 120": published(120, 129, 1, "b", slow_count=2)},
        "slow_count is 2",
    ),
    "a SEND that did not arrive": (
        (ada(), bob(*without(BOB, ("s", 111)))),
        {},
        "b received 2 messages, but 3 were sent",
    ),
    "a SEND that arrived at a client that is named": (
        (ada(), bob()),
        {"answer 110": sent(110, 109, 3, gone=("c",), slow=("b",))},
        "b received 3 messages, but only 2 were sent",
    ),
    "a SEND to somebody else": (
        (ada(*ADA[:-1], ("s", 111), ADA[-1]), bob()),
        {},
        "s 111 arrived, but it was never sent to it",
    ),
    "a SEND whose numbers do not add up": ((ada(), bob()), {"answer 110": sent(110, 109, 5, gone=("c",))}, "add up"),
    "a SEND that names somebody else": ((ada(), bob()), {"answer 110": sent(110, 109, 4, gone=("d",))}, "no recipient"),
    "a SEND that misses a client that is there": (
        (ada(*without(ADA, ("s", 110))), bob()),
        {"answer 110": sent(110, 109, 3, gone=("a", "c"))},
        "a is named as gone, but was connected",
    ),
    "a join refused for a client that is there": (
        (ada(), bob(*without(BOB, ("g", 105)))),
        {"answer 104": answer(104, 71, "410"), "answer 105": published(105, 79, 0)},
        "it was answered 410, but b was connected",
    ),
    "a push refused to a client that is there": (
        (ada(), bob(*without(BOB, ("p", 108)))),
        {"push 108": "PUSH b 108 410 bob 90 @91 ."},
        "push 108 was answered 410, but it was connected",
    ),
    "a strange answer": ((ada(), bob()), {"answer 120": answer(120, 129, "500")}, "it was answered 500"),
    "no answer in time": ((ada(), bob()), {"answer 120": answer(120, 129, "timeout")}, "it was answered timeout"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_audit_of_publishes_finds_each_violation(what: str) -> None:
    lives, changes, expected = WRONG[what]
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(findings(lives, changes))


def test_an_audit_counts_what_it_has_proved() -> None:
    ledger = Ledger()
    ledger.read(LOG.values())
    counts = audit_fan_out(ledger, (ada(), bob())).counts
    # All but 102, which overlaps a leave.
    assert counts["publishes to members that certainly stayed"] == 6
    assert counts["publishes received"] == 7
    assert counts["SENDs received"] == 4
