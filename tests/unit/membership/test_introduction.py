"""Introductions, without NATS."""

import asyncio

from tests.support.buckets import FakeBus
from tests.support.fakes import FakeClock
from tests.support.members import make_member
from wsaas.membership.bus import OnMessage
from wsaas.membership.introduction import Introductions
from wsaas.membership.member_table import MemberTable


class SubscribableBus(FakeBus):
    """Keeps the subjects that are subscribed to."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[str] = []

    async def subscribe(self, subject: str, on_message: OnMessage) -> None:  # noqa: ARG002 - nothing arrives
        self.subjects.append(subject)

    async def unsubscribe(self, subject: str) -> None:
        self.subjects = [each for each in self.subjects if each != subject]


def test_a_process_takes_introductions_under_its_present_prefix_only():
    bus, own = SubscribableBus(), make_member("a")
    introductions = Introductions(bus, "name", own, MemberTable("a"), FakeClock())
    for _ in range(2):
        asyncio.run(introductions.listen())
        assert bus.subjects == ["name.hello.a"]
    own.prefix = "b"
    asyncio.run(introductions.listen())
    assert bus.subjects == ["name.hello.b"]
