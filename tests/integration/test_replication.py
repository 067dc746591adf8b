"""Gateways of a cluster in this process, with a real NATS server: what it keeps of their connections."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.backend import Call
from tests.support.cluster import connections_in_nats, deletes, until_deleted, until_members, until_nats_has
from tests.support.nats import NatsServer, nats, nats_bus
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, with_timeout
from tests.support.workers import lone_worker
from wsaas.clock import Clock
from wsaas.cluster import comparison, replication
from wsaas.cluster.replication import Replication
from wsaas.delivery import recovery
from wsaas.membership import bucket_watch
from wsaas.membership.bucket import Bucket, BucketError
from wsaas.membership.bucket_watch import read
from wsaas.statistics import ClusterStatistics

LEASE_S = 1.0
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ERRORS = ["declared dead", "did not get"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "DELAYS_S", (0.05, 0.2))
    monkeypatch.setattr(replication, "FLUSH_TIMEOUT_S", 0.5)


def replication_of(node: Node) -> Replication:
    found = node.gateway.journals.replication
    assert found is not None
    return found


async def start(stage: Stage, server: NatsServer, **settings: Any) -> Node:
    chosen = {"cluster": server.url, "cluster_lease": round(LEASE_S * 1000), "node_address": "127.0.0.1:1"}
    return await stage.node(**{**chosen, **settings})


@asynccontextmanager
async def connection_bucket(server: NatsServer, kind: str = "connections") -> AsyncIterator[Bucket]:
    """Open a bucket of the cluster, as an operator could."""
    async with nats_bus(server.url) as bus:
        yield Bucket(bus, f"wsaas-{kind}")


async def put(bucket: Bucket, key: str, value: bytes) -> None:
    acked = asyncio.Event()
    bucket.put(key, value, lambda _: acked.set())
    await with_timeout(acked.wait())


async def until_logged(stage: Stage, text: str) -> None:
    await wait_until(lambda: any(text in each for each in stage.messages(logging.DEBUG)), text, stage.messages)


async def declare_dead(server: NatsServer, node: Node, by: str = "somebody") -> None:
    async with connection_bucket(server, "members") as members:
        await members.create(f"claim.{node.prefix}", by.encode(), 60)


async def test_a_connection_is_in_nats_until_its_delete_is_delivered(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server)
        client, name = await node.admit()
        assert await connections_in_nats(server.url) == [name]
        await client.close()
        await stage.backend.take("DELETE")
        await until_nats_has(server.url)
        await node.drain()
        await until_members(server.url)


async def test_a_drain_leaves_nothing_in_nats(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server, journal=tmp_path / "journal")
        for _ in range(3):
            await node.admit()
        async with connection_bucket(server) as connections:
            # A server that was frozen may store what was sent to it much later.
            await put(connections, f"{node.prefix}.{node.prefix}stray", b"{}")
        await node.drain()
        await until_nats_has(server.url)
        await until_members(server.url)


async def test_a_delete_that_was_given_up_stays_in_nats_and_is_sent_by_another_node(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.expected_errors = ["not told"]
    monkeypatch.setattr(recovery, "RETRY_INTERVAL_S", 1000.0)
    async with nats(tmp_path) as server:
        node = await start(stage, server, api_retry=1)
        other = await start(stage, server)
        await wait_until(lambda: replication_of(other).membership.may_declare_dead)
        stage.backend.on["DELETE"] = lambda call: call.answer(500)
        client, name = await node.admit(additional_headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
        await client.close(4002, "bye")
        await wait_until(lambda: node.statistics.recovered_disconnects_owed == 1)
        stage.backend.on["DELETE"] = Call.ok
        await node.drain()
        await wait_until(lambda: not other.statistics.recovered_disconnects_owed and len(deletes(stage)[name]) > 1)
        assert {(call.headers["ce-id"], call.json["code"]) for call in deletes(stage)[name]} == {(f"{name}:end", 4002)}
        (sent,) = {(call.headers["traceparent"], call.headers["tracestate"]) for call in deletes(stage)[name]}
        assert sent[0].startswith(TRACEPARENT[:36])
        assert sent[0] != TRACEPARENT
        assert sent[1] == "vendor=1"
        await until_nats_has(server.url)
        assert other.statistics.cluster is not None
        assert other.statistics.cluster.adopted == 1


async def test_a_process_that_was_claimed_leaves_its_clients_to_the_claimant(stage: Stage, tmp_path: Path) -> None:
    stage.expected_errors = ERRORS
    async with nats(tmp_path) as server:
        node = await start(stage, server, journal=tmp_path / "journal")
        prefix = node.prefix
        client, name = await node.admit()
        await declare_dead(server, node)
        await with_timeout(client.wait_closed())
        assert client.close_code == 1012
        assert node.prefix != prefix
        await wait_until(lambda: not node.gateway.sessions.is_paused)
        _, later = await node.admit()
        await until_nats_has(server.url, name, later)
        assert name not in deletes(stage)


async def test_clients_that_only_the_local_journal_knows_get_their_deletes_from_a_claimed_process(
    stage: Stage, tmp_path: Path
) -> None:
    stage.expected_errors = ERRORS
    async with nats(tmp_path) as server:
        node = await start(stage, server, journal=tmp_path / "journal")
        _, name = await node.admit()
        server.kill()
        await wait_until(lambda: not replication_of(node).membership.bus.is_connected)
        _, unreplicated = await node.admit()
        prefix = node.prefix
        # The claim is in NATS before this process has its lease again.
        replication_of(node).membership.on_lease(lambda _: None)
        replication_of(node).journal.renewed(0.0)
        await server.start()
        await declare_dead(server, node)
        await wait_until(lambda: node.prefix != prefix)
        await until_deleted(stage, unreplicated)
        assert name not in deletes(stage)


async def test_clients_are_admitted_again_although_the_cluster_cannot_be_joined(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.expected_errors = ERRORS
    monkeypatch.setattr(replication, "PAUSE_S", 0.1)
    async with nats(tmp_path) as server:
        node = await start(stage, server)
        membership = replication_of(node).membership
        rejoin = membership.rejoin
        monkeypatch.setattr(membership, "rejoin", lambda _prefix: membership._joined.clear())  # noqa: SLF001
        await declare_dead(server, node)
        await wait_until(lambda: node.gateway.sessions.is_paused)
        await wait_until(lambda: not node.gateway.sessions.is_paused)
        rejoin(node.prefix)
        await wait_until(lambda: membership.is_ready)


async def test_a_worker_that_was_claimed_closes_its_clients_and_ends(stage: Stage, tmp_path: Path) -> None:
    stage.expected_errors = ERRORS
    async with nats(tmp_path / "nats") as server:
        lease = round(LEASE_S * 1000)
        worker = await lone_worker(stage, tmp_path, cluster=server.url, cluster_lease=lease, node_address="127.0.0.1:1")
        prefix = await worker.listen()
        connecting = websockets.connect(f"ws://127.0.0.1:{worker.port}/", ping_interval=None)
        client = await with_timeout(connecting)
        call = await stage.backend.take("POST")
        async with connection_bucket(server, "members") as members:
            await members.create(f"claim.{prefix}", b"somebody", 60)
        assert await worker.status() == 0
        assert client.close_code == 1012
        assert call.client not in deletes(stage)
        await until_nats_has(server.url, call.client)


async def test_a_worker_without_a_journal_leaves_its_deletes_to_other_nodes_when_its_node_stops(
    stage: Stage, tmp_path: Path
) -> None:
    async with nats(tmp_path / "nats") as server:
        worker = await lone_worker(stage, tmp_path, cluster=server.url, node_address="127.0.0.1:1", drain_timeout=200)
        await worker.listen()
        client = await with_timeout(websockets.connect(f"ws://127.0.0.1:{worker.port}/", ping_interval=None))
        call = await stage.backend.take("POST")
        await until_nats_has(server.url, call.client)
        stage.backend.on["DELETE"] = lambda call: call.answer(503)
        await client.close()
        worker.channel.send(stop=True)
        assert await worker.status() == 0
        assert any("1 DELETE is left for other nodes" in each for each in stage.messages())
        await until_nats_has(server.url, call.client)


async def test_what_differs_after_a_new_connection_is_put_right(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server)
        _, kept = await node.admit()
        _, lost = await node.admit()
        stray = f"{node.prefix}{'s' * 22}"
        async with connection_bucket(server) as connections:
            await put(connections, f"{node.prefix}.{stray}", b"{}")
            await connections.remove(f"{node.prefix}.{lost}")
        server.kill()
        await server.start()
        await until_logged(stage, "NATS has lost 1 connection")
        await until_nats_has(server.url, kept, lost)


async def test_a_lost_bucket_is_filled_again(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path / "nats") as server:
        node = await start(stage, server)
        names = [(await node.admit())[1] for _ in range(3)]
        server.kill()
        (tmp_path / "nats" / "store").rename(tmp_path / "lost")
        await server.start()
        await until_nats_has(server.url, *names)


async def test_a_check_without_an_answer_is_left_to_the_next_connection(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_prefix: str) -> None:
        raise BucketError("JetStream does not answer")

    async with nats(tmp_path) as server:
        node = await start(stage, server)
        monkeypatch.setattr(replication_of(node).comparison, "stored", fail)
        server.kill()
        await server.start()
        await until_logged(stage, "could not be compared")


async def test_a_check_is_repeated_if_others_may_have_adopted_the_connections_meanwhile(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0

    async def find_nothing_without_a_lease(prefix: str) -> Mapping[str, bytes]:
        nonlocal checks
        checks += 1
        if checks == 1:
            replication_of(node).journal.renewed(0.0)
            return {}
        return await left_by(prefix)

    async with nats(tmp_path) as server:
        node = await start(stage, server)
        _, name = await node.admit()
        left_by = replication_of(node).comparison.stored
        monkeypatch.setattr(replication_of(node).comparison, "stored", find_nothing_without_a_lease)
        server.kill()
        await server.start()
        await wait_until(lambda: checks > 1)
        await until_nats_has(server.url, name)
        assert not any("NATS has lost" in each for each in stage.messages())
        monkeypatch.undo()


async def test_a_client_whose_handshake_is_not_over_does_not_count_as_lost(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    async def find_nothing(prefix: str) -> dict[str, bytes]:
        checked.append(prefix)
        return {}

    async with nats(tmp_path) as server:
        node = await start(stage, server)
        stage.backend.hold("POST")
        admitting = asyncio.ensure_future(node.admit())
        await wait_until(lambda: stage.backend.count("POST"))
        monkeypatch.setattr(replication_of(node).comparison, "stored", find_nothing)
        server.kill()
        await server.start()
        await wait_until(lambda: checked)
        stage.backend.release()
        await admitting
        assert not any("NATS has lost" in each for each in stage.messages())
        monkeypatch.undo()


async def test_without_nats_a_stop_does_not_wait_for_it(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server, journal=tmp_path / "journal")
        client, name = await node.admit()
        server.kill()
        await wait_until(lambda: not replication_of(node).membership.bus.is_connected)
        await client.close()
        await until_deleted(stage, name)
        before = asyncio.get_running_loop().time()
        await node.drain()
        assert asyncio.get_running_loop().time() - before < 5


async def test_what_is_not_replicated_is_named_in_the_log(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server)
        details = replication_of(node).membership.trouble.details
        assert details() == ""
        server.kill()
        await wait_until(lambda: not replication_of(node).membership.bus.is_connected)
        await node.admit()
        assert details() == "1 connection is not replicated"
        await server.start()
        await wait_until(lambda: details() == "")


async def test_the_statistics_say_what_is_not_replicated(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server)

        def cluster() -> ClusterStatistics:
            found = node.statistics.cluster
            assert found is not None
            return found

        await wait_until(lambda: cluster().since_renewal_ms < LEASE_S * 1000 / 2)
        assert (cluster().is_in_contact, cluster().unreplicated, cluster().adopted) == (True, 0, 0)
        server.kill()
        await wait_until(lambda: not cluster().is_in_contact)
        await node.admit()
        assert cluster().unreplicated == 1
        await wait_until(lambda: cluster().since_renewal_ms > LEASE_S * 1000)
        await server.start()
        await wait_until(lambda: cluster().is_in_contact and not cluster().unreplicated)
        assert cluster().since_renewal_ms < LEASE_S * 1000


async def test_a_process_is_lost_if_nats_has_no_trace_of_it(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path) as server:
        node = await start(stage, server)
        claims = replication_of(node)
        assert await claims.is_lost("nobody__")
        assert not await claims.is_lost(node.prefix)


@pytest.mark.usefixtures("stage")
async def test_reading_a_bucket_is_given_up_without_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_watch, "READ_TIMEOUT_S", 0.2)
    async with nats(tmp_path) as server, nats_bus(server.url) as bus:
        server.freeze()
        with pytest.raises(BucketError):
            await read(bus, Bucket(bus, "wsaas-connections"), Clock(asyncio.get_running_loop()), "x.*")
        server.thaw()
