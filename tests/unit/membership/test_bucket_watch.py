"""What is received by a watch: entries in order, and signs of life."""

import asyncio
from typing import Any

import pytest

from tests.support.buckets import FakeBus
from tests.support.fakes import FakeClock
from wsaas.membership.bucket import Bucket, Entry
from wsaas.membership.bucket_watch import BucketWatch
from wsaas.membership.bus import Message


class Rig:
    """A watch that has begun, with `pending` entries to come."""

    def __init__(self, pending: int) -> None:
        bus = FakeBus()
        answer = {"num_pending": pending, "delivered": {"consumer_seq": 0}}
        bus.answers["CONSUMER.CREATE"] = [answer]
        self.seen = list[Any]()
        self.watch = BucketWatch(bus, Bucket(bus, "b"), FakeClock(), 1)
        self.watch.on_entry = self.seen.append
        self.watch.on_snapshot = lambda entries, _: self.seen.append(entries)
        asyncio.run(self.watch._start("inbox", "name"))

    @property
    def is_broken(self) -> bool:
        return self.watch._broken.is_set()

    def entry(self, key: str, sequence: int, pending: int = 0, stream: str = "KV_b.c", end: str = "") -> None:
        reply = f"$JS.ACK.{stream}.1.{sequence + 100}.{sequence}.0.{pending}{end}"
        self.watch._received(Message(f"$KV.b.{key}", reply, b"v", {}))

    def heartbeat(self, **headers: str) -> None:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self.watch._received(Message("inbox", "", b"", {"Status": "100", **given}))


def test_entries_are_collected_until_none_is_pending():
    rig = Rig(2)
    rig.entry("a", 1, pending=1)
    assert rig.seen == []
    rig.entry("b", 2)
    assert rig.seen == [{"a": Entry("a", b"v", 101), "b": Entry("b", b"v", 102)}]
    rig.entry("c", 3)
    assert rig.seen[1] == Entry("c", b"v", 103)
    assert not rig.is_broken


def test_a_message_may_name_domain_and_account():
    rig = Rig(0)
    rig.entry("a", 1, stream="domain.account.KV_b.c", end=".token")
    assert rig.seen == [{}, Entry("a", b"v", 101)]
    assert not rig.is_broken


@pytest.mark.parametrize("sequence", [2, 0])
def test_a_missing_entry_is_noticed(sequence):
    rig = Rig(0)
    rig.entry("a", sequence)
    assert rig.is_broken


def test_a_sign_of_life_tells_what_should_have_arrived():
    rig = Rig(0)
    rig.entry("a", 1)
    rig.heartbeat()
    rig.heartbeat(Nats_Last_Consumer="1")
    assert not rig.is_broken
    rig.heartbeat(Nats_Last_Consumer="2")
    assert rig.is_broken


def test_a_watch_that_is_broken_ends():
    rig = Rig(0)
    rig.entry("a", 5)
    asyncio.run(rig.watch._until_broken())
