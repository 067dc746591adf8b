"""What NATS has is compared with what a process owes, and what differs is put right."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fakes import FakeClock
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.cluster.comparison import DELAYS_S, Comparison
from wsaas.membership.bucket import BucketError
from wsaas.membership.membership_state import DEAD, MEMBER

PREFIX = "process_"


class RecordingJournal:
    """Records what is removed and restored. `pending`: ids of connections whose change is under way."""

    def __init__(self) -> None:
        self.lease_end = float("inf")
        self.pending: set[str] = set()
        self.removed: list[str] = []
        self.restored: list[Any] = []

    def is_pending(self, connection_id: str) -> bool:
        return connection_id in self.pending

    def remove(self, connection_id: str) -> None:
        self.removed.append(connection_id)

    def restore(self, connections: list[Any]) -> None:
        self.restored += connections


class Rig:
    """A comparison between what is `owed` and what NATS has (`stored`). `count`: of the comparisons."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.count = 0
        self.journal = RecordingJournal()
        self.membership = SimpleNamespace(own=SimpleNamespace(prefix=PREFIX), state=MEMBER)
        self.owed: dict[str, Any] = {}
        self.stored: dict[str, bytes] | None = {}
        parts: Any = self.membership, self.journal, self.clock, lambda: dict(self.owed), self.read
        self.comparison = Comparison(*parts)

    async def read(self, prefix: str) -> Mapping[str, bytes]:
        assert prefix == PREFIX
        self.count += 1
        if self.stored is None:
            raise BucketError("JetStream does not answer")
        return self.stored

    async def pass_delay(self, number: int) -> None:
        """Let the time until comparison `number` pass, and wait for it."""
        before = self.count
        self.clock.advance(DELAYS_S[number])
        await wait_until(lambda: self.count > before)
        await self.comparison_ended()

    async def comparison_ended(self) -> None:
        await wait_until(lambda: not self.comparison._tasks)


@pytest.fixture
def rig(stage: Stage) -> Rig:  # noqa: ARG001 - runs the tests on its loop
    return Rig()


async def test_what_nobody_owes_is_removed_from_nats(rig: Rig) -> None:
    rig.owed = {"a": "A"}
    rig.stored = {"a": b"", "stray": b"", "under way": b""}
    rig.journal.pending = {"under way"}
    assert await rig.comparison.compare()
    assert (rig.journal.removed, rig.journal.restored) == (["stray"], [])


async def test_what_nats_has_lost_is_written_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.owed = {"a": "A", "b": "B", "under way": "C"}
    rig.stored = {"a": b""}
    rig.journal.pending = {"under way"}
    assert await rig.comparison.compare()
    assert (rig.journal.removed, rig.journal.restored) == ([], ["B"])
    assert "NATS has lost 1 connection: written again" in caplog.messages


async def test_a_client_that_comes_or_goes_meanwhile_is_not_missing(rig: Rig) -> None:
    rig.owed = {"gone": "A"}

    async def read(_prefix: str) -> Mapping[str, bytes]:
        rig.owed = {"new": "B"}
        return {}

    rig.comparison.stored = read
    assert await rig.comparison.compare()
    assert rig.journal.restored == []


async def test_a_client_that_may_be_in_no_journal_yet_is_not_missing(rig: Rig) -> None:
    rig.owed = {"connecting": None}
    assert await rig.comparison.compare()
    rig.stored = {"connecting": b""}
    assert await rig.comparison.compare()
    assert (rig.journal.removed, rig.journal.restored) == ([], [])


async def test_without_a_lease_it_cannot_be_told_what_nats_has_lost(rig: Rig) -> None:
    rig.owed = {"a": "A"}
    rig.journal.lease_end = rig.clock.now()
    assert not await rig.comparison.compare()
    assert rig.journal.restored == []


async def test_a_process_that_was_declared_dead_changes_nothing(rig: Rig) -> None:
    rig.owed = {"a": "A"}
    rig.stored = {"stray": b""}
    rig.membership.state = DEAD
    assert await rig.comparison.compare()
    assert (rig.journal.removed, rig.journal.restored) == ([], [])


async def test_a_process_that_took_another_prefix_meanwhile_changes_nothing(rig: Rig) -> None:
    async def read(_prefix: str) -> Mapping[str, bytes]:
        rig.membership.own.prefix = "another_"
        return {"stray": b""}

    rig.comparison.stored = read
    assert await rig.comparison.compare()
    assert rig.journal.removed == []


async def test_what_is_stored_very_late_is_found_by_the_second_comparison(rig: Rig) -> None:
    rig.comparison.after_trouble()
    await rig.pass_delay(0)
    rig.stored = {"stray": b""}
    await rig.pass_delay(1)
    assert rig.journal.removed == ["stray"]
    assert rig.clock.timers == []


async def test_new_trouble_starts_the_comparisons_anew(rig: Rig) -> None:
    rig.comparison.after_trouble()
    await rig.pass_delay(0)
    rig.comparison.after_trouble()
    await rig.pass_delay(0)
    await rig.pass_delay(1)
    assert rig.count == 3


async def test_without_contact_nothing_is_compared(rig: Rig) -> None:
    rig.comparison.after_trouble()
    rig.comparison.cancel()
    rig.clock.advance(sum(DELAYS_S))
    assert rig.clock.timers == []
    assert rig.count == 0


async def test_a_comparison_without_an_answer_is_left_to_the_end_of_the_next_trouble(rig: Rig) -> None:
    rig.stored = None
    rig.comparison.after_trouble()
    await rig.pass_delay(0)
    assert rig.clock.timers == []


async def test_a_comparison_that_could_not_tell_is_repeated(rig: Rig) -> None:
    rig.owed = {"a": "A"}
    rig.journal.lease_end = 0.0
    rig.comparison.after_trouble()
    await rig.pass_delay(0)
    rig.journal.lease_end = float("inf")
    await rig.pass_delay(0)
    assert rig.journal.restored == ["A"]


async def test_a_stop_ends_the_comparison_that_is_under_way(rig: Rig) -> None:
    rig.comparison.after_trouble()
    rig.clock.advance(DELAYS_S[0])
    await rig.comparison.stop()
    assert not rig.comparison._tasks
    assert rig.clock.timers == []
