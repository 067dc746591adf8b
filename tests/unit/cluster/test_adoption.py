import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.fake_store import FakeStore
from tests.support.fakes import (
    FakeClock,
    FakeJournal,
    FakeSessionListener,
    FakeWebhook,
    body_of,
    make_services,
    make_settings,
)
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.cluster import adoption
from wsaas.cluster.adoption import Adoption, Claims
from wsaas.delivery.entry_codec import EntryCodec
from wsaas.delivery.journal import Entry
from wsaas.delivery.recovery import Recovery
from wsaas.delivery.replicated_journal import ReplicatedJournal
from wsaas.delivery.verdicts import DELIVERED
from wsaas.membership.bucket import BucketError

DEAD = "deadbeef"
OTHER = "0ther___"


def name_of(number: int, prefix: str = DEAD) -> str:
    return f"{prefix}{number:022}"


def make_entry(number: int, prefix: str = DEAD, *, is_replicated: bool = True, **values: Any) -> Entry:
    name = name_of(number, prefix)
    return Entry(name, f"old/{name}", None, None, 1.5, is_replicated=is_replicated, **values)


class FakeClaim:
    """A claim of a dead process."""

    def __init__(self, prefix: str) -> None:
        self.is_held = True
        self.on_lost: Callable[[], None] = lambda: None
        self.prefix = prefix

    def lose(self) -> None:
        self.is_held = False
        self.on_lost()


class FakeClaims(Claims):
    """Claims that a test grants. `errors`: how many of the next calls fail; `lost`: processes without a trace.

    `adopted`: those whose DELETEs were sent already.
    """

    def __init__(self, store: FakeStore) -> None:
        self._store = store
        self.adopted: set[str] = set()
        self.asked: list[tuple[str, bool]] = []
        self.claims: list[FakeClaim] = []
        self.errors = 0
        self.finished: list[str] = []
        self.is_free = True
        self.lost: set[str] = set()

    def _answer(self) -> None:
        if self.errors:
            self.errors -= 1
            raise BucketError("NATS does not answer")

    async def claim(self, prefix: str, *, is_known_dead: bool = False) -> Any:
        self.asked.append((prefix, is_known_dead))
        self._answer()
        if not self.is_free:
            return None
        self.claims.append(FakeClaim(prefix))
        return self.claims[-1]

    async def is_adopted(self, prefix: str) -> bool:
        self._answer()
        return prefix in self.adopted

    async def is_lost(self, prefix: str) -> bool:
        self._answer()
        return prefix in self.lost

    async def finish(self, claim: Any) -> None:
        self._answer()
        claim.is_held = False
        self.finished.append(claim.prefix)

    async def left_by(self, prefix: str) -> Mapping[str, bytes]:
        self._answer()
        found = {}
        for key, value in self._store.stored.items():
            start, _, name = key.partition(".")
            if start == prefix:
                found[name] = value
        return found


class Rig:
    """An adoption with fakes of NATS and the backend."""

    def __init__(self, patience: float = 5.0) -> None:
        self.store = FakeStore()
        self.claims = FakeClaims(self.store)
        self.clock = FakeClock()
        self.local = FakeJournal()
        self.webhook = FakeWebhook()
        codec = self.codec = EntryCodec((), 8)
        self.journal = ReplicatedJournal(self.local, self.store, codec, self.clock)
        self.journal.renewed(self.clock.now() + 1000)
        services = make_services(make_settings(), self.clock, self.webhook, FakeSessionListener(), self.journal)
        self.recovery = Recovery(services)
        self.adoption = Adoption(self.claims, codec, self.recovery, self.journal, patience)

    def fill(self, *entries: Entry) -> None:
        """Let NATS have `entries`."""
        for entry in entries:
            self.store.stored[f"{entry.id[:8]}.{entry.id}"] = self.codec.encode(entry)

    async def take(self, number: int) -> None:
        """Wait until `number` DELETEs were sent in all."""
        await wait_until(lambda: len(self.webhook.events) >= number, "DELETEs", lambda: self.webhook.events)

    def answer_all(self) -> None:
        while self.webhook.calls:
            self.webhook.answer(DELIVERED)
        self.store.acknowledge_all()
        self.local.write()

    async def finish(self, *prefixes: str) -> None:
        await wait_until(lambda: self.claims.finished == [*prefixes], "the end of the adoption")
        assert self.store.keys == []

    @property
    def subjects(self) -> list[str]:
        """The ids of the connections whose DELETEs were sent."""
        return [delivery.__self__.subject.id for _, delivery in self.webhook.calls]


pytestmark = pytest.mark.usefixtures("stage")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "MAX_JITTER_S", 0.0)
    monkeypatch.setattr(adoption, "RETRY_S", 0.001)


# Other nodes.


async def test_the_connections_of_a_dead_process_are_adopted(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.fill(make_entry(1), make_entry(2, ended_at=2.5, disconnect_body=b'{"code":1000}'))
    rig.adoption.orphaned(DEAD)
    await rig.take(2)
    assert sorted(rig.subjects) == [name_of(1), name_of(2)]
    assert {body_of(event) for event in rig.webhook.events} >= {b'{"code":1000}'}
    assert rig.claims.finished == []
    rig.answer_all()
    await rig.finish(DEAD)
    assert rig.claims.asked == [(DEAD, False)]
    assert f"process {DEAD} is gone: sending the DELETEs of its 2 connections" in caplog.messages
    assert caplog.messages[-1] == f"sent the DELETEs of 2 connections of process {DEAD}"


async def test_what_nats_has_again_although_its_deletes_were_sent_is_removed() -> None:
    rig = Rig()
    rig.fill(make_entry(1), make_entry(2))
    rig.claims.adopted.add(DEAD)
    rig.adoption.orphaned(DEAD)
    await wait_until(lambda: len(rig.store.pending) == 2)
    rig.answer_all()
    await rig.finish(DEAD)
    assert rig.webhook.events == []


async def test_what_an_earlier_process_left_is_removed_if_its_deletes_were_sent() -> None:
    rig = Rig()
    rig.fill(make_entry(1))
    rig.claims.adopted.add(DEAD)
    rig.adoption.restarted([make_entry(1), make_entry(2)])
    await wait_until(lambda: len(rig.store.pending) == 2)
    rig.answer_all()
    await rig.finish(DEAD)
    assert rig.webhook.events == []


async def test_a_process_without_connections_is_forgotten() -> None:
    rig = Rig()
    rig.adoption.orphaned(DEAD)
    await rig.finish(DEAD)


async def test_another_process_may_be_faster() -> None:
    rig = Rig()
    rig.fill(make_entry(1))
    rig.claims.is_free = False
    rig.adoption.orphaned(DEAD)
    await wait_until(lambda: rig.claims.asked)
    await rig.adoption.stop()
    assert rig.webhook.events == []
    # It is offered again, in case that process dies, too.
    rig.claims.is_free = True
    rig.adoption.orphaned(DEAD)
    await rig.take(1)
    await rig.adoption.stop()


async def test_a_process_is_claimed_only_once_at_a_time() -> None:
    rig = Rig()
    rig.fill(make_entry(1))
    rig.adoption.orphaned(DEAD)
    rig.adoption.orphaned(DEAD)
    await rig.take(1)
    rig.adoption.orphaned(DEAD)
    rig.answer_all()
    await rig.finish(DEAD)
    assert len(rig.claims.asked) == 1


async def test_without_an_answer_to_the_claim_the_next_offer_counts() -> None:
    rig = Rig()
    rig.claims.errors = 1
    rig.adoption.orphaned(DEAD)
    await wait_until(lambda: rig.claims.asked)
    await wait_until(lambda: not rig.claims.errors)
    await asyncio.sleep(0)
    rig.adoption.orphaned(DEAD)
    await rig.finish(DEAD)


async def test_what_the_dead_process_wrote_late_is_adopted_too() -> None:
    rig = Rig()
    rig.fill(make_entry(1))
    rig.adoption.orphaned(DEAD)
    await rig.take(1)
    rig.fill(make_entry(2))
    rig.answer_all()
    await rig.take(2)
    rig.answer_all()
    await rig.finish(DEAD)


async def test_a_lost_claim_ends_the_adoption() -> None:
    rig = Rig()
    rig.fill(*(make_entry(number) for number in range(20)))
    rig.adoption.orphaned(DEAD)
    await rig.take(16)
    rig.claims.claims[0].lose()
    await wait_until(lambda: not rig.recovery.entries())
    rig.answer_all()
    await asyncio.sleep(0)
    assert len(rig.webhook.events) == 16
    assert rig.claims.finished == []
    assert len(rig.store.keys) == 20


async def test_the_other_connections_are_adopted_although_nats_is_slow() -> None:
    rig = Rig()
    rig.fill(make_entry(1))
    rig.adoption.orphaned(DEAD)
    await wait_until(lambda: rig.claims.asked)
    rig.claims.errors = 3
    await rig.take(1)
    rig.claims.errors = 3
    rig.answer_all()
    await rig.finish(DEAD)


async def test_an_unreadable_entry_is_reported_and_removed(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.expected_errors = ["no entry for it"]
    rig = Rig()
    rig.fill(make_entry(1))
    rig.store.stored[f"{DEAD}.{name_of(2)}"] = b"?"
    rig.adoption.orphaned(DEAD)
    await rig.take(1)
    assert len(rig.webhook.events) == 1
    assert f"{name_of(2)}: its DELETE is lost, as NATS has no entry for it" in caplog.text
    rig.answer_all()
    await rig.finish(DEAD)


async def test_a_removed_connection_of_this_process_is_none_of_its_business() -> None:
    rig = Rig()
    rig.journal.remove(name_of(1, OTHER))
    rig.store.acknowledge()
    assert rig.claims.finished == []


# Earlier processes of this node.


async def test_an_earlier_process_of_this_node_is_claimed_at_once() -> None:
    rig = Rig()
    known = make_entry(1)
    known.authorization = b"Basic YTpi"
    rig.fill(make_entry(1), make_entry(2))
    rig.adoption.restarted([known])
    await rig.take(2)
    assert rig.claims.asked == [(DEAD, True)]
    assert {entry.authorization for entry in rig.recovery.entries()} == {b"Basic YTpi", None}
    rig.answer_all()
    await rig.finish(DEAD)


async def test_connections_that_nats_did_not_have_get_their_deletes_in_any_case() -> None:
    rig = Rig()
    rig.claims.is_free = False
    rig.adoption.restarted([make_entry(1, is_replicated=False)])
    await rig.take(1)
    assert rig.claims.asked == []


async def test_connections_that_another_node_has_adopted_are_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.local.entries = {name_of(1): {}, name_of(2): {}}
    rig.claims.is_free = False
    rig.adoption.restarted([make_entry(1), make_entry(2)])
    await wait_until(lambda: "another node sends the DELETEs of 2 connections" in caplog.messages)
    rig.local.write()
    assert rig.local.entries == {}
    assert rig.webhook.events == []
    assert rig.store.pending == []


async def test_if_nats_has_lost_everything_all_deletes_are_sent() -> None:
    rig = Rig()
    rig.claims.is_free = False
    rig.claims.lost = {DEAD}
    rig.adoption.restarted([make_entry(1)])
    await rig.take(1)


async def test_the_deletes_of_an_earlier_process_wait_for_nats_for_a_limited_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(patience=0.05)
    rig.claims.errors = 1000
    rig.adoption.restarted([make_entry(1), make_entry(2)])
    assert rig.webhook.events == []
    await rig.take(2)
    assert "NATS does not answer: the DELETEs of 2 connections that an earlier process left are sent" in caplog.text


async def test_each_earlier_process_is_claimed_on_its_own() -> None:
    rig = Rig()
    rig.adoption.restarted([make_entry(1), make_entry(1, OTHER)])
    await rig.take(2)
    assert sorted(rig.claims.asked) == [(OTHER, True), (DEAD, True)]
    await rig.adoption.stop()


async def test_a_stop_leaves_the_rest_to_another_process() -> None:
    rig = Rig()
    rig.fill(make_entry(1))
    await rig.adoption.stop()
    rig.adoption.orphaned(DEAD)
    await rig.take(1)
    await rig.adoption.stop()
    rig.answer_all()
    assert rig.claims.finished == []
