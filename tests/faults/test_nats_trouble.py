"""NATS takes no entries for a while: its disk is full, it refuses the node, it is slow. Nodes go on, and catch up."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import websockets

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
from tests.support.frames import close_frame
from tests.support.nats import NatsServer, nats, nats_bus, nats_credentials
from tests.support.slow_link import slow_link
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until
from wsaas.membership import membership as membership_module
from wsaas.membership.bucket import Bucket
from wsaas.statistics import ClusterStatistics


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice soon that a node cannot join."""
    monkeypatch.setattr(membership_module, "JOIN_TIMEOUT_S", 0.3)


async def start(stage: Stage, url: str, **settings: Any) -> Node:
    usual = {"cluster": url, "cluster_lease": round(LEASE_S * 1000), "node_address": "127.0.0.1:1"}
    return await stage.node(**{**usual, **settings})


def cluster_of(node: Node) -> ClusterStatistics:
    found = node.statistics.cluster
    assert found is not None
    return found


async def until_logged(stage: Stage, text: str) -> None:
    await wait_until(lambda: any(text in each for each in stage.messages(logging.INFO)), text, stage.messages)


async def until_caught_up(node: Node) -> None:
    await wait_until(lambda: cluster_of(node).is_in_contact and not cluster_of(node).unreplicated)


class Exchange:
    """A client that stays, and whose messages and pushes arrive whatever happens to NATS."""

    def __init__(self, stage: Stage, node: Node) -> None:
        self._node = node
        self._stage = stage
        self.count = 0
        self.name = ""
        self._client: websockets.ClientConnection

    async def start(self) -> "Exchange":
        self._client, self.name = await self._node.admit()
        return self

    async def check(self) -> None:
        """Check that a message of this client and a push to it arrive, and that another one can come and go."""
        self.count += 1
        await self._client.send(f"{self.count}")
        put: Call = await self._stage.backend.take("PUT")
        assert (put.client, put.body) == (self.name, b"%d" % self.count)
        assert (await self._node.rest("PUT", self.name, f"{self.count}")).status == 200
        assert await self._client.recv() == f"{self.count}"
        visitor, name = await self._node.admit()
        await visitor.close()
        await self._stage.backend.take("DELETE", client=name)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Mount a file system of `size` bytes in memory at `folder`."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if sys.platform != "linux" or os.geteuid() or mount is None or umount is None:
        pytest.skip("needs to mount a file system: Linux, root, and the command mount")
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "wsaas-test", str(folder)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"needs the permission to mount a file system: {mounted.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run([umount, "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.mark.slow
async def test_the_disk_of_nats_is_full(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "nats"
    with small_disk(folder, "8m"):
        server = NatsServer(folder)
        await server.start()
        try:
            node = await start(stage, server.url, journal=tmp_path / "journal")
            exchange = await Exchange(stage, node).start()
            await exchange.check()
            ballast = folder / "ballast"
            fill(ballast)
            names = [exchange.name]
            while cluster_of(node).is_in_contact:
                names.append((await node.admit())[1])
                await exchange.check()
            names.append((await node.admit())[1])
            await exchange.check()
            await until_logged(stage, "JetStream does not answer: it is disabled, slow, without a leader, or its disk")
            assert cluster_of(node).unreplicated
            ballast.unlink()
            # NATS does not try again to write to a disk that was full.
            server.kill()
            await server.start()
            await until_caught_up(node)
            await until_nats_has(server.url, *names)
        finally:
            await asyncio.gather(*(each.drain() for each in stage.nodes))
            server.kill()


@pytest.mark.usefixtures("impatient")
async def test_credentials_that_become_right(stage: Stage, tmp_path: Path) -> None:
    right, config = nats_credentials(tmp_path)
    (tmp_path / "other").mkdir()
    wrong, _ = nats_credentials(tmp_path / "other")
    used = tmp_path / "used.creds"
    shutil.copy(wrong, used)
    async with nats(tmp_path / "nats", config) as server:
        node = await start(stage, server.url, cluster_credentials=used, journal=tmp_path / "journal")
        assert not cluster_of(node).is_in_contact
        exchange = await Exchange(stage, node).start()
        await exchange.check()
        assert cluster_of(node).unreplicated >= 1
        await until_logged(stage, f"cannot use NATS at {server.url}: Authorization Violation")
        shutil.copy(right, used)
        await until_caught_up(node)
        await exchange.check()
        assert cluster_of(node).since_renewal_ms < LEASE_S * 1000
        await node.drain()


@pytest.mark.usefixtures("impatient")
async def test_buckets_of_another_version_that_is_upgraded(stage: Stage, tmp_path: Path) -> None:
    async with nats(tmp_path / "nats") as server, nats_bus(server.url) as bus:
        bucket = Bucket(bus, "wsaas-members")
        await bucket.set_up()
        ack = await bucket.create("version", b"99")
        node = await start(stage, server.url, journal=tmp_path / "journal")
        exchange = await Exchange(stage, node).start()
        await exchange.check()
        await until_logged(stage, "the bucket wsaas-members has format 99")
        assert not cluster_of(node).is_in_contact
        assert (await bucket.update("version", b"1", ack.sequence)).is_stored
        await until_caught_up(node)
        await until_nats_has(server.url, exchange.name)
        await exchange.check()
        await node.drain()


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.7, 2.5])
async def test_nats_is_slow(stage: Stage, tmp_path: Path, delay: float) -> None:
    """`delay`: each way. Acknowledgements come after their time limit; with the larger one, answers do, too."""
    async with nats(tmp_path / "nats") as server, slow_link(server) as link:
        node = await start(stage, link.url, journal=tmp_path / "journal", cluster_lease=5000)
        exchange = await Exchange(stage, node).start()
        await exchange.check()
        await until_nats_has(server.url, exchange.name)
        link.delay = delay
        names = [exchange.name]
        end = asyncio.get_running_loop().time() + 10
        while asyncio.get_running_loop().time() < end:
            names.append((await node.admit())[1])
            await exchange.check()
        assert cluster_of(node).unreplicated
        await until_logged(stage, "NATS does not acknowledge (no answer in time)")
        link.delay = 0.0
        await until_caught_up(node)
        await until_nats_has(server.url, *names)
        await exchange.check()
        await node.drain()


async def until_said(node: ClusterNode, text: str, count: int) -> None:
    await wait_until(lambda: node.program.said().count(text) >= count, text, node.program.said)


@pytest.mark.slow
@pytest.mark.parametrize("journal", [True, False])
async def test_all_workers_of_a_node_are_declared_dead(stage: Stage, tmp_path: Path, journal: bool) -> None:
    settings: dict[str, Any] = {"journal": tmp_path} if journal else {}
    async with (
        nats(tmp_path / "nats") as server,
        slow_link(server) as link,
        cluster_nodes(stage, tmp_path, [server.url, link.url], workers=2, **settings) as (whole, cut_off),
    ):
        unaffected, kept = await whole.client()
        before = await cut_off.clients(20)
        assert len({name[:8] for name in before}) == 2, "both workers have clients"
        await until_nats_has(server.url, kept, *before)
        await asyncio.sleep(LEASE_S)
        link.stall()
        during = await cut_off.clients(6)
        await until_deleted(stage, *before)
        link.go_on()
        for raw in [*before.values(), *during.values()]:
            assert await raw.closing() == (1012, "node declared dead")
            raw.send(close_frame(1012))
            await raw.end()
        await until_deleted(stage, *before, *during)
        await until_said(cut_off, "so that another process takes its place", 2)
        await until_said(cut_off, "joined the cluster", 4)
        after = await cut_off.clients(10)
        assert not {name[:8] for name in after} & {name[:8] for name in [*before, *during]}
        await until_nats_has(server.url, kept, *after)
        for raw in [*after.values(), unaffected]:
            raw.send(close_frame(1000))
            await raw.closing()
            raw.close()
        await until_deleted(stage, kept, *before, *during, *after)
        for name, calls in deletes(stage).items():
            assert {call.headers["ce-id"] for call in calls} == {f"{name}:end"}
            # NATS may have stored the entries of those that came meanwhile in time for the other node to find them.
            assert len(calls) <= (2 if name in during else 1)
        await until_nats_has(server.url)
        assert await cut_off.stop() == 0
        assert await whole.stop() == 0
        await until_members(server.url)
