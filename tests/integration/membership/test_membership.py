"""Members of a cluster, with a real NATS server."""

import asyncio
from functools import partial
from typing import Any

import orjson
import pytest

from tests.support.members import LEASE_S, crash, joined, make_member, make_membership, until_guarded
from tests.support.nats import bucket_keys, nats, nats_bus
from tests.support.waiting import wait_until
from wsaas.clock import Clock
from wsaas.membership.bucket import Bucket, Entry
from wsaas.membership.bucket_watch import BucketWatch
from wsaas.membership.membership_state import MEMBER
from wsaas.membership.tasks import end_tasks

pytestmark = pytest.mark.usefixtures("stage")

A, B, C = "aaaaaaaa", "bbbbbbbb", "cccccccc"
BUCKET = "wsaas-members"


def is_renewed(membership, revision):
    return membership.lease_revision > revision


async def nothing_left(url, *gone):
    """Return once none of the keys `gone` is left in NATS, or nothing but the version."""
    deadline = asyncio.get_running_loop().time() + 5
    while True:
        left = set(await bucket_keys(url, BUCKET))
        keys = left & set(gone) if gone else left - {"version"}
        if not keys:
            return
        assert asyncio.get_running_loop().time() < deadline, keys
        await asyncio.sleep(0.1)


async def test_members_know_each_other_as_soon_as_they_have_joined(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two):
        assert (set(one.members), set(two.members)) == ({B}, {A})
        assert one.is_ready
        changes = list[list[str]]()
        one.on_members(lambda members: changes.append(sorted(members)))
        third = make_membership(server.url, C, node="n", worker=1, workers=2)
        await third.join()
        # Nothing is waited for: the others have answered the introduction.
        assert (set(one.members), set(two.members), set(third.members)) == ({B, C}, {A, C}, {A, B})
        member = one.members[C]
        assert (member.node, member.worker, member.workers, member.name) == ("n", 1, 2, "host-cccccccc")
        assert member.address == "http://cccccccc:8081"
        await third.leave(nothing_owed=True)
        await wait_until(lambda: changes == [[B, C], [B]])


async def test_after_an_outage_there_may_be_unknown_members_for_the_time_of_a_lease(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A) as (one,):
        await wait_until(lambda: one.is_certain)
        server.kill()
        await wait_until(lambda: not one.is_certain)
        await server.start()
        await wait_until(lambda: one.bus.is_connected)
        since = asyncio.get_running_loop().time()
        await wait_until(lambda: one.is_certain)
        assert asyncio.get_running_loop().time() > since + LEASE_S / 2


async def test_many_that_join_at_the_same_time_all_know_each_other(tmp_path):
    async with nats(tmp_path) as server:
        members = [make_membership(server.url, str(number) * 8) for number in range(8)]
        await asyncio.gather(*(member.join() for member in members))
        assert [len(member.members) for member in members] == [7] * 8
        await asyncio.gather(*(member.leave(nothing_owed=True) for member in members))


async def test_renewals_tell_the_others_what_changes(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two):
        one.count_clients = lambda: 42
        assert not two.members[A].is_listening
        one.announce(is_listening=True)
        await wait_until(lambda: two.members[A].is_listening)
        assert two.members[A].clients == 42
        before = two.members[A].renewed_at
        await wait_until(lambda: two.members[A].renewed_at > before)
        assert two.members[A].has_lease


async def test_after_all_have_left_nothing_is_left(tmp_path):
    async with nats(tmp_path) as server:
        async with joined(server.url, A, B):
            assert {f"lease.{A}", f"member.{A}", f"lease.{B}", f"member.{B}"} < set(
                await bucket_keys(server.url, BUCKET)
            )
        await nothing_left(server.url)


async def test_a_member_that_is_gone_is_an_orphan_when_its_lease_is_over(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two):
        orphans = list[str]()
        two.on_orphan = orphans.append
        await until_guarded(two)
        await crash(one)
        started = asyncio.get_running_loop().time()
        await wait_until(lambda: orphans)
        assert asyncio.get_running_loop().time() - started < LEASE_S + 1
        assert set(orphans) == {A}
        # It may live: only a claim says that it is dead.
        assert not two.members[A].has_lease
        claim = await two.claim(A)
        assert claim is not None
        await wait_until(lambda: not two.members)
        await claim.release(is_complete=True)
        await nothing_left(server.url, f"member.{A}", f"claim.{A}")


async def test_exactly_one_claims_a_dead_member(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B, C) as (one, *others):
        await until_guarded(*others)
        await crash(one)
        await wait_until(lambda: not others[0].members[A].has_lease)
        claims = await asyncio.gather(*(other.claim(A) for other in others for _ in range(5)))
        assert len([claim for claim in claims if claim is not None]) == 1
        await wait_until(lambda: not any(A in other.members for other in others))


async def test_a_member_with_a_lease_cannot_be_claimed_unless_it_is_known_to_be_dead(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two):
        await until_guarded(two)
        assert await two.claim(A) is None
        assert await two.claim("unknown_") is None
        await crash(one)
        claim = await two.claim(A, is_known_dead=True)
        assert claim is not None
        assert await two.claim(A, is_known_dead=True) is None
        await claim.release(is_complete=True)
        assert await two.claim(A, is_known_dead=True) is None


async def test_who_has_not_renewed_for_a_whole_lease_claims_nobody(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, lease=60) as (one,):
        assert not one.may_declare_dead
        assert await one.claim(B) is None


@pytest.mark.slow
async def test_nobody_is_declared_dead_before_a_whole_lease_was_renewed(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, lease=2) as (one,):
        await crash(one)
        await asyncio.sleep(1)
        async with joined(server.url, B, lease=2) as (two,):
            started = asyncio.get_running_loop().time()
            orphans = list[str]()
            two.on_orphan = orphans.append
            await wait_until(lambda: A in two.members and not two.members[A].has_lease)
            assert await two.claim(A) is None
            await wait_until(lambda: orphans)
            assert asyncio.get_running_loop().time() - started > 1.9


async def test_a_member_that_owes_something_is_an_orphan_at_once(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B, lease=2) as (one, two):
        await until_guarded(two)
        orphans = list[str]()
        two.on_orphan = orphans.append
        started = asyncio.get_running_loop().time()
        await one.leave(nothing_owed=False)
        await wait_until(lambda: A in orphans)
        assert asyncio.get_running_loop().time() - started < 1


async def test_a_claim_that_its_holder_gives_back_can_be_claimed_again(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B, C) as (one, two, three):
        await until_guarded(two, three)
        await crash(one)
        claim = await two.claim(A, is_known_dead=True)
        assert claim is not None
        await wait_until(lambda: A not in three.members)
        orphans = list[str]()
        three.on_orphan = orphans.append
        await two.leave(nothing_owed=True)
        await wait_until(lambda: orphans)
        # It counts as dead while another process sends its DELETEs.
        assert A not in three.members
        assert await three.claim(A) is not None


async def test_a_claim_is_renewed_as_long_as_it_is_held(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two):
        await crash(one)
        claim = await two.claim(A, is_known_dead=True)
        assert claim is not None
        first = claim.revision
        await wait_until(lambda: claim.revision > first)
        assert claim.is_held


async def test_a_claim_that_another_process_has_is_lost(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two), nats_bus(server.url) as bus:
        await crash(one)
        claim = await two.claim(A, is_known_dead=True)
        assert claim is not None
        lost = list[bool]()
        claim.on_lost = lambda: lost.append(True)
        Bucket(bus, BUCKET).put(f"claim.{A}", b"somebody", lambda _ack: None)
        await wait_until(lambda: lost == [True])
        assert not claim.is_held
        await claim.release(is_complete=True)
        assert f"member.{A}" in await bucket_keys(server.url, BUCKET)


# Declared dead


async def test_a_member_that_was_claimed_notices_it_and_joins_again(tmp_path, stage):
    stage.expected_errors = ["this node was declared dead"]
    async with nats(tmp_path) as server, joined(server.url, A, B) as (one, two):
        await until_guarded(two)
        dead = list[str]()
        one.on_declared_dead = lambda: dead.append(one.own.prefix)
        await two.claim(A, is_known_dead=True)
        await wait_until(lambda: dead == [A])
        await wait_until(lambda: not two.members)
        one.rejoin(C)
        assert not one.is_ready
        await wait_until(lambda: one.is_ready)
        assert set(two.members) == {C}
        assert set(one.members) == {B}


async def test_a_member_whose_lease_is_over_writes_it_again(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A) as (one,), nats_bus(server.url) as bus:
        dead = list[Any]()
        one.on_declared_dead = lambda: dead.append(True)
        bucket = Bucket(bus, BUCKET)
        for _ in range(3):
            assert await bucket.remove(f"lease.{A}")
            found = await bucket.get(f"lease.{A}")
            assert found is not None
            await wait_until(partial(is_renewed, one, found.revision))
        assert await bucket.has(f"lease.{A}")
        assert dead == []


async def test_a_member_that_was_adopted_completely_notices_it(tmp_path, stage):
    stage.expected_errors = ["this node was declared dead"]
    async with nats(tmp_path) as server, joined(server.url, A) as (one,), nats_bus(server.url) as bus:
        dead = list[Any]()
        one.on_declared_dead = lambda: dead.append(True)
        bucket = Bucket(bus, BUCKET)
        for key in (f"member.{A}", f"lease.{A}"):
            assert await bucket.remove(key)
        await wait_until(lambda: dead == [True])


async def test_a_process_that_is_claimed_already_does_not_join(tmp_path, stage):
    stage.expected_errors = ["this node was declared dead"]
    async with nats(tmp_path) as server, joined(server.url, A), nats_bus(server.url) as bus:
        await Bucket(bus, BUCKET).create(f"claim.{B}", b"somebody")
        two = make_membership(server.url, B)
        two.on_declared_dead = lambda: two.rejoin(C)
        await two.join()
        assert two.own.prefix == C
        await two.leave(nothing_owed=True)
        await two.leave(nothing_owed=True)


async def test_a_claim_that_is_given_back_at_once_does_no_harm(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A, lease=2) as (one,), nats_bus(server.url) as bus:
        bucket = Bucket(bus, BUCKET)
        await bucket.create(f"claim.{A}", b"somebody")
        await bucket.remove(f"claim.{A}")
        revision = one.lease_revision
        await wait_until(partial(is_renewed, one, revision + 2))
        assert one.state is MEMBER


async def test_a_malformed_introduction_is_not_answered(tmp_path, caplog):
    async with nats(tmp_path) as server, joined(server.url, A) as (one,), nats_bus(server.url) as bus:
        assert await bus.request(f"wsaas.hello.{A}", b"{}", timeout=0.2) is None
        assert "ignored an introduction over NATS" in caplog.text
        assert one.members == {}


async def test_a_member_that_hangs_is_left_out_with_a_warning(tmp_path, caplog):
    async with nats(tmp_path) as server, joined(server.url, A, lease=2) as (one,), nats_bus(server.url) as bus:
        bucket = Bucket(bus, BUCKET)
        await bucket.create(f"lease.{B}", b"{}", 10)
        await bucket.create(f"member.{B}", make_member(B).to_entry())
        third = make_membership(server.url, C, lease=2)
        await third.join()
        assert f"host-{B} (http://{B}:8081, process {B}) does not answer" in caplog.text
        assert set(one.members) == {B, C}
        await third.leave(nothing_owed=True)


async def test_a_purge_leaves_nothing(tmp_path):
    async with nats(tmp_path) as server, joined(server.url, A) as (one,):
        acks = list[Any]()
        one.connections.put(f"{A}.x", b"1", acks.append)
        await wait_until(lambda: len(acks) == 1)
        one.connections.purge(f"{A}.x", acks.append)
        await wait_until(lambda: len(acks) == 2)
        assert all(ack.is_stored for ack in acks)
        deadline = asyncio.get_running_loop().time() + 5
        while await bucket_keys(server.url, "wsaas-connections"):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)


# Watching a bucket


async def test_an_empty_bucket_is_known_at_once(tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        bucket = Bucket(bus, "empty")
        await bucket.set_up()
        watch = BucketWatch(bus, bucket, Clock(asyncio.get_running_loop()), 0.2)
        seen = list[Any]()
        watch.on_snapshot = lambda entries, _: seen.append(entries)
        watch.on_entry = seen.append
        task = asyncio.ensure_future(watch.run())
        await wait_until(lambda: seen == [{}])
        await bucket.create("a", b"1")
        await wait_until(lambda: len(seen) == 2)
        assert seen[1] == Entry("a", b"1", 1)
        # A consumer that is gone is noticed, as its signs of life are missing.
        answer = await bus.request(f"$JS.API.CONSUMER.NAMES.{bucket.stream}")
        assert answer is not None
        await bucket.stop_watch(orjson.loads(answer.data)["consumers"][0])
        await wait_until(lambda: len(seen) == 3)
        assert seen[2] == {"a": Entry("a", b"1", 1)}
        await end_tasks([task])
