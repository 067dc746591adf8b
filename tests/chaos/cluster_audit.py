"""Checks what is special about a cluster: who was declared dead, and whether all books agree. No process, no socket."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from tests.chaos.audit import Ledger, Life, is_lost
from tests.chaos.link import Address

DECLARED_DEAD = "this node was declared dead"
NATS_HAS_LOST = "NATS has lost"


def owners(ledger: Ledger, lives: Iterable[Life]) -> dict[str, Address]:
    """Return the address of the node, by the prefix of the ids of its connections."""
    by_name = {account.name: account.id for account in ledger.accounts.values()}
    return {by_name[life.name][:8]: life.address for life in lives if life.name in by_name}


def check_declared_dead(name: str, log: str, absences: int) -> list[str]:
    """Check that a node was declared dead no more often than it was `absences` times frozen or cut off for long."""
    count = log.count(DECLARED_DEAD)
    if count <= absences:
        return []
    return [f"{name} was declared dead {count} times, but was frozen or cut off {absences} times"]


def check_lost(name: str, log: str) -> list[str]:
    """Check that a node never found that NATS had lost connections: a stop of NATS loses nothing."""
    return [f"{name}: {line[:200]}" for line in log.splitlines() if NATS_HAS_LOST in line]


def check_books(books: Mapping[str, Collection[str]]) -> list[str]:
    """Check that all books have the same connections. Each is a name and ids."""
    everything = set().union(*books.values())
    violations = []
    for name, ids in books.items():
        if missing := everything - set(ids):
            violations.append(f"{len(missing)} of {len(everything)} connections are not {name}: {sorted(missing)[:5]}")
        if len(ids) != len(set(ids)):
            violations.append(f"some connections are twice {name}")
    return violations


def check_orderly(ledger: Ledger) -> list[str]:
    """Check a run in which no node was killed: no DELETE reports a lost gateway, and no request was refused.

    Only requests that wait for an answer while their node stops may be answered 504.
    """
    lost = [
        account.id for account in ledger.accounts.values() if any(is_lost(body) for _, body in account.delete_bodies)
    ]
    violations = [f"{each}: its DELETE reports a lost gateway, but none was lost" for each in lost]
    statuses = [(f"push {number}", status) for each in ledger.accounts.values() for number, status in each.pushes]
    statuses += [(f"{each.word} {each.number}", each.status) for each in ledger.fan_out.operations.values()]
    return violations + [
        f"{what} was answered {status}" for what, status in statuses if status[:1] == "5" and status != "504"
    ]


def check_left(what: str, found: Sequence[str]) -> list[str]:
    """Check that nothing is left of what should have gone."""
    return [f"{len(found)} {what} are left: {found[:5]}"] if found else []
