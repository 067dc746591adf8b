"""A node of a cluster dies, or seems to: exactly one process sends each DELETE that it owed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.backend import Call
from tests.support.cluster import (
    LEASE_S,
    ClusterNode,
    cluster_nodes,
    deletes,
    until_deleted,
    until_members,
    until_nats_has,
)
from tests.support.frames import TEXT, close_frame, frame
from tests.support.nats import nats
from tests.support.stage import Stage
from tests.support.waiting import wait_until

MANY, MANY_LEASE_MS = 3000, 5000


def is_lost(call: Call) -> bool:
    return (call.json["code"], call.json["reason"]) == (1006, "gateway lost")


def assert_each_once(stage: Stage) -> None:
    """Fail unless each connection has got one DELETE, with the `ce-id` that does not depend on its sender."""
    for name, calls in deletes(stage).items():
        assert [call.headers["ce-id"] for call in calls] == [f"{name}:end"]


async def until_said(node: ClusterNode, text: str) -> None:
    await wait_until(lambda: text in node.program.said(), text, node.program.said)


@pytest.mark.slow
async def test_a_killed_node_that_never_returns_gets_its_deletes_from_another_node(
    stage: Stage, tmp_path: Path
) -> None:
    async with nats(tmp_path / "nats") as server, cluster_nodes(stage, tmp_path, server.url, 3) as (first, *others):
        names = [*await first.clients(100)]
        await until_nats_has(server.url, *names)
        await asyncio.sleep(LEASE_S)
        first.program.kill()
        start = asyncio.get_running_loop().time()
        await until_deleted(stage, *names)
        assert asyncio.get_running_loop().time() - start < LEASE_S + 2
        await until_nats_has(server.url)
        assert_each_once(stage)
        assert all(is_lost(call) for calls in deletes(stage).values() for call in calls)
        # Both have raced for them.
        assert sum("sending the DELETEs of its 100" in node.program.said() for node in others) == 1


@pytest.mark.slow
async def test_the_deletes_of_many_clients_are_sent_within_two_seconds_after_the_lease(
    stage: Stage, tmp_path: Path
) -> None:
    lease_s = MANY_LEASE_MS / 1000
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 3, cluster_lease=MANY_LEASE_MS) as (first, *others),
    ):
        names = [*await first.clients(MANY)]
        await until_nats_has(server.url, *names)
        await asyncio.sleep(lease_s)
        first.program.kill()
        start = asyncio.get_running_loop().time()
        await wait_until(lambda: stage.backend.count("DELETE") >= 1)
        began = asyncio.get_running_loop().time() - start
        await until_deleted(stage, *names)
        took = asyncio.get_running_loop().time() - start
        print(f"\n{MANY} DELETEs {began:.1f} to {took:.1f} s after the kill, with a lease of {lease_s:g} s")
        assert took < lease_s + 2
        await until_nats_has(server.url)
        assert_each_once(stage)
        assert all(is_lost(call) for calls in deletes(stage).values() for call in calls)
        assert sum(f"sending the DELETEs of its {MANY}" in node.program.said() for node in others) == 1


@pytest.mark.slow
async def test_a_node_that_is_started_again_sends_its_deletes_without_waiting_for_its_lease(
    stage: Stage, tmp_path: Path
) -> None:
    settings = {"journal": tmp_path, "cluster_lease": 10_000}
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, **settings) as (first, _),
    ):
        _, name = await first.client("Authorization: Basic YTpi")
        await until_nats_has(server.url, name)
        start = asyncio.get_running_loop().time()
        first.program.kill()
        await first.program.start()
        await until_deleted(stage, name)
        assert asyncio.get_running_loop().time() - start < 5
        await until_nats_has(server.url)
        await until_said(first, "sent the DELETEs of 1 connection")
        (delete,) = deletes(stage)[name]
        assert is_lost(delete)
        assert delete.headers["authorization"] == "Basic YTpi", "it comes from the local journal"


@pytest.mark.slow
async def test_a_node_that_returns_after_its_connections_were_adopted_sends_no_second_delete(
    stage: Stage, tmp_path: Path
) -> None:
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, journal=tmp_path) as (first, other),
    ):
        _, name = await first.client()
        await until_nats_has(server.url, name)
        first.program.kill()
        await until_deleted(stage, name)
        await until_said(other, "sent the DELETEs of 1 connection")
        await first.program.start()
        await until_said(first, "another node sends the DELETEs of 1 connection")
        _, later = await first.client()
        assert_each_once(stage)
        # Not even after the next start.
        first.program.kill()
        await first.program.start()
        await until_deleted(stage, name, later)
        assert_each_once(stage)


@pytest.mark.slow
async def test_an_adopter_that_dies_in_the_middle_is_replaced(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path / "nats") as server, cluster_nodes(stage, tmp_path, server.url, 3) as (first, *others):
        names = [*await first.clients(40)]
        await until_nats_has(server.url, *names)
        answered: list[str] = []

        def answer_some(call: Call) -> None:
            if len(answered) < 10 or not first_adopter:
                answered.append(call.client)
                call.ok()

        first_adopter = [first]
        stage.backend.on["DELETE"] = answer_some
        first.program.kill()
        await wait_until(lambda: len(deletes(stage)) >= 26)
        (adopter,) = [node for node in others if "sending the DELETEs of its 40" in node.program.said()]
        adopter.program.kill()
        first_adopter.clear()
        await wait_until(lambda: set(answered) == set(names), "all DELETEs", lambda: set(names) - set(answered))
        await until_nats_has(server.url)
        calls = [call for calls in deletes(stage).values() for call in calls]
        assert {call.headers["ce-id"] for call in calls} == {f"{name}:end" for name in names}
        # What was delivered before is not sent again, but for what NATS had not heard of yet.
        assert len(calls) <= 40 + 16 + 16


@pytest.mark.slow
async def test_a_drained_node_leaves_nothing_in_nats(stage: Stage, tmp_path: Path) -> None:
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, journal=tmp_path) as (first, other),
    ):
        clients = await first.clients(5)
        assert await first.stop() == 0
        await until_deleted(stage, *clients)
        assert {call.json["code"] for calls in deletes(stage).values() for call in calls} == {1001}
        await until_nats_has(server.url)
        assert await other.stop() == 0
        await until_members(server.url)


@pytest.mark.slow
async def test_deletes_that_a_drain_does_not_deliver_are_sent_by_another_node_at_once(
    stage: Stage, tmp_path: Path
) -> None:
    settings = {"drain_timeout": 300, "cluster_lease": 5000}
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, **settings) as (first, _),
    ):
        raw, name = await first.client()
        await asyncio.sleep(5.5)
        stage.backend.hold("DELETE")
        raw.send(close_frame(4001))
        await raw.closing()
        first.program.terminate()
        await first.program.wait()
        stage.backend.release()
        await wait_until(lambda: len(deletes(stage)[name]) == 2)
        await until_nats_has(server.url)
        before, after = deletes(stage)[name]
        assert (before.headers["ce-id"], before.body) == (after.headers["ce-id"], after.body)
        assert after.json["code"] == 4001


@pytest.mark.slow
async def test_clients_that_came_while_nats_was_down_are_written_when_it_is_back(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path / "nats") as server, cluster_nodes(stage, tmp_path, server.url, 2) as (first, other):
        _, before = await first.client()
        server.kill()
        gone, left = await first.client()
        gone.send(close_frame(1000))
        await gone.closing()
        await until_deleted(stage, left)
        _, during = await first.client()
        await server.start()
        await until_nats_has(server.url, before, during)
        await until_said(other, "in contact with the cluster again")
        await asyncio.sleep(LEASE_S)
        first.program.kill()
        await until_deleted(stage, left, before, during)
        assert_each_once(stage)


@pytest.mark.slow
async def test_a_node_that_is_killed_while_nats_is_down_sends_its_deletes_itself(stage: Stage, tmp_path: Path) -> None:
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 1, journal=tmp_path) as (first,),
    ):
        _, before = await first.client()
        server.kill()
        _, during = await first.client()
        first.program.kill()
        await first.program.start()
        await until_deleted(stage, before, during)
        await server.start()
        await until_nats_has(server.url)
        assert_each_once(stage)


@pytest.mark.slow
async def test_without_a_journal_a_lone_node_finds_its_connections_in_nats(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path / "nats") as server, cluster_nodes(stage, tmp_path, server.url, 1) as (first,):
        _, name = await first.client()
        first.program.kill()
        await first.program.start()
        await until_deleted(stage, name)
        await until_nats_has(server.url)


@pytest.mark.slow
async def test_a_node_that_was_declared_dead_closes_its_clients_and_starts_anew(stage: Stage, tmp_path: Path) -> None:
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, journal=tmp_path) as (first, other),
    ):
        clients = await first.clients(5)
        busy, busy_name = await first.client()
        stage.backend.hold("PUT")
        busy.send(frame(TEXT, b"1") + frame(TEXT, b"2"))
        await stage.backend.take("PUT")
        await asyncio.sleep(LEASE_S)
        os.kill(first.program.pid, signal.SIGSTOP)
        await until_deleted(stage, *clients, busy_name)
        await until_said(other, "sent the DELETEs of 6 connections")
        os.kill(first.program.pid, signal.SIGCONT)
        for raw in [*clients.values(), busy]:
            assert await raw.closing() == (1012, "node declared dead")
            raw.send(close_frame(1012))
            await raw.end()
        stage.backend.release()
        await until_said(first, "the node was declared dead: 2 messages not delivered")
        await until_said(first, "joined the cluster: 1")
        # It polls for that.
        await asyncio.sleep(0.1)
        _, later = await first.client()
        assert later[:8] not in {name[:8] for name in clients}
        await until_nats_has(server.url, later)
        assert_each_once(stage)
        # The local journal has nothing of them either.
        first.program.kill()
        await first.program.start()
        await until_deleted(stage, *clients, busy_name, later)
        assert_each_once(stage)


@pytest.mark.parametrize("secret", ["a secret that all nodes have", None])
async def test_the_authorization_of_an_adopted_connection_is_encrypted_in_nats_or_left_out(
    stage: Stage, tmp_path: Path, secret: str | None
) -> None:
    settings = {} if secret is None else {"cluster_secret": secret.replace(" ", "-")}
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, **settings) as (first, _),
    ):
        stage.backend.on["POST"] = lambda call: call.ok(context="room=7")
        _, name = await first.client("Authorization: Bearer open-sesame")
        await until_nats_has(server.url, name)
        await asyncio.sleep(LEASE_S)
        first.program.kill()
        await until_deleted(stage, name)
        (delete,) = deletes(stage)[name]
        assert delete.headers.get("authorization") == (secret and "Bearer open-sesame")
        assert delete.headers["ws-context"] == "room=7"
        server.stop()
        files = [path for path in (tmp_path / "nats").rglob("*") if path.is_file()]
        assert not any(b"open-sesame" in path.read_bytes() for path in files)


@pytest.mark.slow
async def test_when_nats_has_lost_everything_it_is_written_again(stage: Stage, tmp_path: Path) -> None:
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 2, journal=tmp_path) as (first, _),
    ):
        clients = await first.clients(3)
        await until_nats_has(server.url, *clients)
        server.kill()
        (tmp_path / "nats" / "store").rename(tmp_path / "lost")
        await server.start()
        await until_nats_has(server.url, *clients)
        await until_said(first, "NATS has lost the buckets")
        await asyncio.sleep(LEASE_S)
        first.program.kill()
        await until_deleted(stage, *clients)
        assert_each_once(stage)


@pytest.mark.slow
async def test_three_thousand_connections_are_adopted_within_the_lease_and_two_seconds(
    stage: Stage, tmp_path: Path
) -> None:
    lease = 15.0
    settings = {"cluster_lease": round(lease * 1000), "log_level": "INFO"}
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 3, **settings) as (first, *_),
    ):
        names = [*await first.clients(3000)]
        await until_nats_has(server.url, *names)
        await asyncio.sleep(lease)
        loop = asyncio.get_running_loop()
        start = loop.time()
        first.program.kill()
        await wait_until(lambda: len(deletes(stage)) == len(names), "DELETEs", lambda: len(deletes(stage)))
        took = loop.time() - start
        print(f"{len(names)} DELETEs {took:.1f} s after the kill")
        assert took < lease + 2
        await until_nats_has(server.url)
        assert deletes(stage).keys() == set(names)
        assert_each_once(stage)
