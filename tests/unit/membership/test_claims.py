"""Claims of dead processes, and what may go wrong with NATS meanwhile."""

import asyncio

import pytest

from tests.support.buckets import FakeBucket
from tests.support.fakes import FakeClock
from wsaas.membership.bucket import BucketError
from wsaas.membership.bus import Ack
from wsaas.membership.claims import Claims

ME, DEAD = "mmmmmmmm", "dddddddd"


class Rig:
    """The claims of a process, a bucket with a dead member, and the time."""

    def __init__(self) -> None:
        self.bucket = FakeBucket()
        self.bucket.set(f"member.{DEAD}", b"")
        self.clock = FakeClock()
        self.claims = Claims(self.bucket, self.clock, 10)
        self.lost = list[str]()

    def claim(self, *, is_known_dead=False):
        found = asyncio.run(self.claims.claim(DEAD, ME, is_known_dead=is_known_dead))
        if found is not None:
            found.on_lost = lambda: self.lost.append(found.prefix)
        return found

    def renew(self):
        asyncio.run(self.claims.renew(ME, 1))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_process_that_renews_its_lease_just_then_is_not_claimed(rig):
    def renews(operation: str, key: str) -> None:
        if operation == "update" and key == f"claim.{DEAD}":
            rig.bucket.set(f"lease.{DEAD}", b"")

    rig.bucket.before = renews
    assert rig.claim() is None
    assert rig.bucket.value(f"claim.{DEAD}") is None


def test_a_claim_that_another_process_was_faster_to_make(rig):
    rig.bucket.set(f"claim.{DEAD}", b"somebody")
    assert rig.claim() is None


def test_a_claim_that_was_stored_without_an_acknowledgement_is_used(rig):
    rig.bucket.acks = [None]
    with pytest.raises(BucketError):
        rig.claim()
    assert rig.claim() is not None


def test_a_claim_that_jetstream_refuses_is_an_error(rig):
    rig.bucket.acks = [Ack(0, "no space", 10077)]
    with pytest.raises(BucketError, match=r"^JetStream: no space$"):
        rig.claim()


def test_a_claim_is_not_renewed_if_the_look_for_the_lease_fails(rig):
    def fails(operation: str, key: str) -> None:
        if operation == "get" and key == f"member.{DEAD}":
            raise BucketError("lost")

    rig.bucket.before = fails
    with pytest.raises(BucketError):
        rig.claim()
    revision = rig.bucket.values[f"claim.{DEAD}"]
    rig.renew()
    assert rig.bucket.values[f"claim.{DEAD}"] == revision


def test_a_renewal_without_an_acknowledgement_is_tried_again(rig):
    claim = rig.claim()
    rig.bucket.acks = [None, Ack(0, "no space", 10077)]
    rig.renew()
    rig.renew()
    # It was stored the first time, so that its revision is another one.
    rig.renew()
    rig.renew()
    assert claim.is_held
    assert claim.revision == rig.bucket.values[f"claim.{DEAD}"][1]


def test_a_claim_that_could_not_be_renewed_for_long_is_lost(rig):
    claim = rig.claim()
    rig.clock.stand_still(20)
    rig.renew()
    assert claim.is_held
    rig.clock.stand_still(21)
    rig.renew()
    assert not claim.is_held
    claim.lose()
    assert rig.lost == [DEAD]


def test_all_claims_are_given_back_at_the_end(rig):
    claim = rig.claim(is_known_dead=True)
    asyncio.run(rig.claims.release())
    assert not claim.is_held
    assert rig.bucket.value(f"claim.{DEAD}") is None
    assert rig.bucket.value(f"member.{DEAD}") is not None
    asyncio.run(claim.release(is_complete=True))
    assert rig.bucket.value(f"member.{DEAD}") is not None


def test_a_claim_is_held_until_nats_has_forgotten_the_process(rig):
    claim = rig.claim()

    def fails(operation: str, key: str) -> None:
        if (operation, key) == ("update", f"adopted.{DEAD}"):
            raise BucketError("lost")

    rig.bucket.before = fails
    with pytest.raises(BucketError):
        asyncio.run(claim.release(is_complete=True))
    assert claim.is_held
    rig.renew()
    assert rig.bucket.value(f"claim.{DEAD}") == ME.encode()
    rig.bucket.before = lambda _operation, _key: None
    asyncio.run(claim.release(is_complete=True))
    assert not claim.is_held
    assert [rig.bucket.value(f"{kind}.{DEAD}") for kind in ("adopted", "member", "claim")] == [b"", None, None]


def test_a_claim_is_held_until_nats_has_acknowledged_that_it_forgets_the_process(rig, monkeypatch):
    async def fail(_key: str) -> bool:
        return False

    claim = rig.claim()
    monkeypatch.setattr(rig.bucket, "remove", fail)
    with pytest.raises(BucketError):
        asyncio.run(claim.release(is_complete=True))
    assert claim.is_held
