"""NATS in trouble. Clients connect and stay, messages and pushes flow, and the log says what is wrong."""

import asyncio
import json
import logging
import re
from functools import partial
from typing import Any

import pytest

from tests.support.gateway_process import gateway_process
from tests.support.members import joined
from tests.support.nats import NatsServer, bucket_keys, nats, nats_bus, nats_cluster
from tests.support.stage import Stage
from tests.support.waiting import POLL_S, TIMEOUT_S, wait_until
from wsaas.membership import bus as bus_module
from wsaas.membership import membership as membership_module
from wsaas.membership import trouble as trouble_module
from wsaas.membership.bucket import Bucket
from wsaas.membership.membership import Membership

LEASE = {"cluster_lease": "1000", "node_address": "127.0.0.1:1"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice trouble soon."""
    monkeypatch.setattr(membership_module, "JOIN_TIMEOUT_S", 0.3)
    monkeypatch.setattr(bus_module, "PING_INTERVAL_S", 0.2)
    monkeypatch.setattr(bus_module, "PING_TIMEOUT_S", 0.5)


def membership_of(node: Any) -> Membership:
    found = node.gateway.membership
    assert isinstance(found, Membership)
    return found


async def node_of(stage: Stage, url: str, **settings: Any) -> Any:
    return await stage.node(cluster=url, **{**LEASE, **settings})


async def check_flow(stage: Stage, node: Any) -> None:
    """Check that a client can connect, send and receive."""
    client, identifier = await node.admit()
    await client.send("hello")
    request = await stage.backend.take("PUT")
    assert request.body == b"hello"
    answer = await node.rest("PUT", identifier, b"hi")
    assert answer.status == 200
    assert await client.recv() == "hi"
    await client.close()


def is_renewed(node: Any, revision: int) -> bool:
    return membership_of(node).lease_revision > revision


def logged(stage: Stage, text: str) -> list[str]:
    return [message for message in stage.messages(logging.INFO) if text in message]


async def until_logged(stage: Stage, text: str) -> None:
    await wait_until(lambda: logged(stage, text), text, lambda: stage.messages(logging.INFO))


async def test_a_node_joins_before_it_listens_and_leaves_nothing(stage, tmp_path):
    async with nats(tmp_path) as server:
        one = await node_of(stage, server.url)
        two = await node_of(stage, server.url)
        assert set(membership_of(one).members) == {two.prefix}
        await wait_until(lambda: membership_of(one).members[two.prefix].is_listening)
        await check_flow(stage, one)
        await two.drain()
        await wait_until(lambda: not membership_of(one).members)
        await one.drain()
        # NATS remembers the deleted keys for a while.
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while (left := set(await bucket_keys(server.url, "wsaas-members"))) != {"version"}:
            assert asyncio.get_running_loop().time() < deadline, left
            await asyncio.sleep(POLL_S)


@pytest.mark.slow
async def test_a_node_that_cannot_listen_leaves_the_cluster(stage, tmp_path):
    async with nats(tmp_path) as server:
        one = await node_of(stage, server.url)
        port = one.gateway.addresses[0].port
        with pytest.raises(OSError, match="in use"):
            await node_of(stage, server.url, listen=f"127.0.0.1:{port}")
        await wait_until(lambda: not membership_of(one).members)


async def test_nats_is_down_at_the_start(stage, tmp_path):
    server = NatsServer(tmp_path)
    node = await node_of(stage, server.url)
    assert not membership_of(node).is_ready
    assert logged(stage, "cannot join the cluster yet: clients are accepted")
    assert logged(stage, f"cannot use NATS at {server.url}: Connection refused") or logged(stage, "Connect call failed")
    await check_flow(stage, node)
    try:
        await server.start()
        await wait_until(lambda: membership_of(node).is_ready)
        assert logged(stage, "joined the cluster")
    finally:
        await node.drain()
        server.kill()


@pytest.mark.slow
async def test_nats_goes_down_and_comes_back(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(trouble_module, "REMINDER_S", 0.5)
    async with nats(tmp_path) as server:
        one, two = await node_of(stage, server.url), await node_of(stage, server.url)
        membership_of(one).trouble.details = lambda: "3 connections are not replicated"
        orphans = list[str]()
        for node in (one, two):
            membership_of(node).on_orphan = orphans.append
        server.kill()
        # Longer than a lease.
        await wait_until(
            lambda: re.search("no contact with the cluster for [1-9]", "\n".join(stage.messages(logging.INFO)))
        )
        await until_logged(stage, "; 3 connections are not replicated")
        assert logged(stage, "lost the connection to NATS at")
        await check_flow(stage, one)
        assert membership_of(one).is_ready
        await asyncio.sleep(1)
        await server.start()
        await until_logged(stage, "in contact with the cluster again after")
        await wait_until(lambda: membership_of(one).may_declare_dead and membership_of(two).may_declare_dead)
        assert orphans == []
        assert set(membership_of(one).members) == {two.prefix}
        await check_flow(stage, two)


async def test_nats_loses_its_files(stage, tmp_path):
    async with nats(tmp_path / "a") as server:
        node = await node_of(stage, server.url)
        lost = list[bool]()
        membership_of(node).on_new_buckets(lambda: lost.append(True))
        server.kill()
        for path in sorted((tmp_path / "a" / "store").rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        await server.start()
        await wait_until(lambda: lost == [True])
        assert {f"lease.{node.prefix}", f"member.{node.prefix}"} < set(await bucket_keys(server.url, "wsaas-members"))
        await check_flow(stage, node)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_one_of_three_servers_fails(stage, tmp_path, how):
    async with nats_cluster(tmp_path) as cluster:
        one = await node_of(stage, cluster.url, cluster_lease="5000")
        two = await node_of(stage, cluster.url, cluster_lease="5000")
        async with nats_bus(cluster.url) as bus:
            answer = await bus.request("$JS.API.STREAM.INFO.KV_wsaas-members")
            assert answer is not None
            assert b'"num_replicas":3' in answer.data
        leader = await cluster.leader("KV_wsaas-members")
        getattr(leader, how)()
        await check_flow(stage, one)
        before = [membership_of(node).lease_revision for node in (one, two)]
        for node, revision in zip((one, two), before, strict=True):
            await wait_until(partial(is_renewed, node, revision + 2))
        assert set(membership_of(one).members) == {two.prefix}
        await check_flow(stage, two)
        leader.thaw()
        await one.drain()
        await two.drain()


async def test_jetstream_is_disabled(stage, tmp_path):
    async with nats(tmp_path, jetstream=False) as server:
        node = await node_of(stage, server.url)
        await until_logged(stage, "no contact with the cluster: JetStream does not answer: it is disabled")
        await check_flow(stage, node)


async def test_the_buckets_have_another_format(stage, tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        bucket = Bucket(bus, "wsaas-members")
        await bucket.set_up()
        assert (await bucket.create("version", b"99")).is_stored
        node = await node_of(stage, server.url)
        await until_logged(
            stage,
            "no contact with the cluster: the bucket wsaas-members has format 99, but this version of wsaas uses "
            "format 1: set another CLUSTER_NAME",
        )
        await check_flow(stage, node)
        assert not membership_of(node).is_ready


async def test_a_bucket_was_made_by_somebody_else(stage, tmp_path):
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        stream = b'{"name":"KV_wsaas-members","subjects":["$KV.wsaas-members.>"],"max_msgs_per_subject":5}'
        assert await bus.request("$JS.API.STREAM.CREATE.KV_wsaas-members", stream) is not None
        node = await node_of(stage, server.url)
        await until_logged(
            stage,
            "the bucket wsaas-members was made with another allow_msg_ttl, allow_rollup_hdrs, "
            "subject_delete_marker_ttl, max_msgs_per_subject: delete it",
        )
        await check_flow(stage, node)


async def test_the_credentials_are_wrong(stage, tmp_path):
    async with nats(tmp_path, ["authorization { user: me, password: right }"]) as server:
        node = await node_of(stage, server.url.replace("nats://", "nats://me:wr0ng@"))
        assert logged(stage, f"cannot use NATS at {server.url}: Authorization Violation")
        await check_flow(stage, node)
        assert not any("wr0ng" in message for message in stage.messages(logging.DEBUG))


async def test_the_user_may_not_use_the_subjects(stage, tmp_path):
    lines = ['authorization { users: [{ user: me, password: x, permissions: { publish: [none], subscribe: [">"] } }] }']
    async with nats(tmp_path, lines) as server:
        node = await node_of(stage, server.url.replace("nats://", "nats://me:x@"))
        await until_logged(stage, "permissions violation for publish to")
        await check_flow(stage, node)


async def test_there_is_no_space_left_for_leases(stage, tmp_path):
    async with nats(tmp_path) as server:
        node = await node_of(stage, server.url)
        async with nats_bus(server.url) as bus:
            answer = await bus.request("$JS.API.STREAM.INFO.KV_wsaas-members")
            assert answer is not None
            config = {**json.loads(answer.data)["config"], "max_bytes": 1}
            await bus.request("$JS.API.STREAM.UPDATE.KV_wsaas-members", json.dumps(config).encode())
            await until_logged(stage, "no contact with the cluster: JetStream: maximum bytes exceeded")
            await check_flow(stage, node)
            await bus.request(
                "$JS.API.STREAM.UPDATE.KV_wsaas-members", json.dumps({**config, "max_bytes": -1}).encode()
            )
            await until_logged(stage, "in contact with the cluster again after")


async def test_each_worker_of_a_node_is_a_member(stage, tmp_path):
    async with nats(tmp_path / "nats") as server, joined(server.url, "watching") as (watching,):
        settings = {"cluster": server.url, "node_address": "10.0.0.5:8081", "workers": 2}
        async with gateway_process(stage, tmp_path / "log", **settings) as node:
            await wait_until(lambda: sum(each.is_listening for each in watching.members.values()) == 2)
            one, two = sorted(watching.members.values(), key=lambda member: member.worker)
            assert (one.worker, two.worker) == (0, 1)
            assert one.node == two.node
            assert one.workers == 2
            assert one.address == "http://10.0.0.5:8081"
            assert await node.stop() == 0
            await wait_until(lambda: not watching.members)
