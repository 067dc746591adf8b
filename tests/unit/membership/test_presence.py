"""The entries of a process in NATS."""

import asyncio

import pytest

from tests.support.buckets import FakeBucket
from tests.support.members import make_member
from wsaas.membership.bucket import BucketError
from wsaas.membership.bus import Ack
from wsaas.membership.presence import DeclaredDeadError, Presence

ME = "mmmmmmmm"


class Rig:
    def __init__(self) -> None:
        self.members, self.connections = FakeBucket(), FakeBucket()
        self.presence = Presence(self.members, self.connections, make_member(ME), 15)
        self.lost = 0
        self.presence.on_new_buckets = self.count

    def count(self) -> None:
        self.lost += 1


@pytest.fixture
def rig() -> Rig:
    found = Rig()
    asyncio.run(found.presence.set_up())
    return found


def test_the_lease_is_written_before_the_member():
    rig, order = Rig(), list[str]()
    rig.members.before = lambda operation, key: order.append(key) if operation == "update" else None
    asyncio.run(rig.presence.set_up())
    assert order == ["version", f"lease.{ME}", f"member.{ME}"]


@pytest.mark.parametrize("acks", [[Ack(1), Ack(0, "no space", 10077)], [Ack(1), Ack(2), Ack(0, "no space", 10077)]])
def test_an_entry_that_jetstream_refuses_is_an_error(acks):
    rig = Rig()
    rig.members.acks = acks
    with pytest.raises(BucketError, match=r"^JetStream: no space$"):
        asyncio.run(rig.presence.set_up())


def test_another_format_is_refused_and_one_that_vanishes_is_not():
    rig = Rig()
    rig.members.set("version", b"2")
    with pytest.raises(BucketError, match="has format 2, but this version of wsaas uses format 1"):
        asyncio.run(rig.presence.set_up())
    rig.members.set("version", b"1")
    asyncio.run(rig.presence.set_up())


def test_a_renewal_that_jetstream_refuses_is_an_error(rig):
    rig.members.acks = [Ack(0, "no space", 10077)]
    with pytest.raises(BucketError, match=r"^JetStream: no space$"):
        asyncio.run(rig.presence.renew())


def test_a_lease_that_is_over_is_written_again(rig):
    rig.members.set(f"lease.{ME}", None)
    asyncio.run(rig.presence.renew())
    assert rig.members.value(f"lease.{ME}") is not None
    asyncio.run(rig.presence.renew())


def test_a_claim_beside_a_lease_that_is_over_means_death(rig):
    rig.members.set(f"lease.{ME}", None)
    rig.members.set(f"claim.{ME}", b"somebody")
    with pytest.raises(DeclaredDeadError, match=r"^claimed by somebody$"):
        asyncio.run(rig.presence.renew())
    assert rig.members.value(f"lease.{ME}") is None


def test_a_claim_that_is_made_just_then_means_death(rig):
    def claims(operation: str, key: str) -> None:
        if operation == "update" and rig.members.value(key) is None:
            rig.members.set(f"claim.{ME}", b"somebody")

    rig.members.set(f"lease.{ME}", None)
    rig.members.before = claims
    with pytest.raises(DeclaredDeadError):
        asyncio.run(rig.presence.renew())


def test_buckets_that_were_lost_are_filled_again(rig):
    rig.members.values.clear()
    rig.members.created = "tomorrow"
    asyncio.run(rig.presence.renew())
    assert rig.lost == 1
    assert rig.members.value(f"member.{ME}") is not None
    asyncio.run(rig.presence.renew())
    assert rig.lost == 1


def test_without_an_acknowledgement_the_buckets_are_looked_for(rig):
    rig.members.acks = [None]
    rig.connections.created = "tomorrow"
    with pytest.raises(BucketError):
        asyncio.run(rig.presence.renew())
    assert rig.lost == 1


def test_a_member_that_cannot_withdraw_says_so(rig, monkeypatch):
    async def refuse(_key: str) -> bool:
        return False

    monkeypatch.setattr(rig.members, "remove", refuse)
    with pytest.raises(BucketError, match="NATS does not acknowledge"):
        asyncio.run(rig.presence.withdraw(nothing_owed=True))
