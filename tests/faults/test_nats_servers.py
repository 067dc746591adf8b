"""Three NATS servers under load: leaders are killed and frozen, also while the clients of a dead node are adopted."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.support.cluster import cluster_nodes, deletes
from tests.support.cluster_load import load
from tests.support.nats import nats_bus, nats_cluster
from tests.support.stage import Stage
from wsaas.membership.bucket import LONG_HISTORY, Bucket, BucketError
from wsaas.membership.bus import Ack, OnAck

pytestmark = [pytest.mark.slow, pytest.mark.cluster_slow]

LEASE_S = 10.0

ADOPTED_AT_ONCE = 16
"""How many DELETEs of an adopter are under way when it loses contact."""


@pytest.fixture(autouse=True)
def patient(stage: Stage) -> None:
    stage.timeout = 300.0


async def test_leaders_are_killed_and_frozen_under_load(stage: Stage, tmp_path: Path) -> None:
    settings = {"journal": tmp_path, "cluster_lease": round(LEASE_S * 1000), "log_level": "INFO"}
    async with (
        nats_cluster(tmp_path / "nats") as cluster,
        cluster_nodes(stage, tmp_path, cluster.url, 3, **settings) as nodes,
        load(nodes, 60) as found,
    ):
        await asyncio.sleep(5)
        leader = await cluster.leader("KV_wsaas-connections")
        leader.kill()
        await asyncio.sleep(12)
        await leader.start()
        await asyncio.sleep(5)
        leader = await cluster.leader("KV_wsaas-members")
        leader.freeze()
        await asyncio.sleep(LEASE_S + 3)
        leader.thaw()
        # Nobody may be declared dead before a whole lease was renewed.
        await asyncio.sleep(LEASE_S + 5)
        assert not any("declared dead" in node.program.said() for node in nodes)
        leader = await cluster.leader("KV_wsaas-connections")
        before = len(deletes(stage))
        found.lose(nodes[2])
        orphans = {each.name for each in found.of(nodes[2])}
        await found.until(lambda: bool(deletes(stage).keys() & orphans))
        leader.kill()
        await found.until(lambda: deletes(stage).keys() >= orphans)
        assert len(deletes(stage)) > before
        await asyncio.sleep(5)
        await leader.start()
        await found.stop()
        await found.check_messages()
        repeats = await found.check_books(cluster.url, repeats=ADOPTED_AT_ONCE)
        print(f"{found.numbers()}; {len(orphans)} adopted, {repeats} DELETEs twice")


class Keys:
    """Keys of a bucket that come and go all the time. `present`: those that may be there."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._tasks = [asyncio.ensure_future(self._come_and_go(number)) for number in range(12)]
        self.present: set[str] = set()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def returned(self) -> set[str]:
        """Return the keys that are there, although they were removed."""
        while True:
            with suppress(BucketError):
                before = {*self.present}
                keys = await self._bucket.keys(">")
                return {entry.key for entry in await self._bucket.entries(keys)} - before - self.present

    async def _come_and_go(self, worker: int) -> None:
        for number in count():
            key = f"worker-{worker}.{number}"
            self.present.add(key)
            await self._insist(partial(self._bucket.put, key, b"v" * 200))
            await asyncio.sleep(random.uniform(0, 0.3))
            await self._insist(partial(self._bucket.purge, key))
            self.present.discard(key)

    async def _insist(self, write: Callable[[OnAck], None]) -> None:
        """Write until it is acknowledged."""
        while True:
            answer: asyncio.Future[Ack | None] = asyncio.get_running_loop().create_future()
            write(answer.set_result)
            if (ack := await answer) is not None and ack.is_stored:
                return
            await asyncio.sleep(0.3)


@pytest.mark.usefixtures("stage")
async def test_what_was_removed_does_not_come_back_when_servers_are_killed(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as cluster, nats_bus(cluster.url) as bus:
        bucket = Bucket(bus, "wsaas-connections", LONG_HISTORY)
        await bucket.set_up()
        keys = Keys(bucket)
        try:
            for _ in range(4):
                # Longer than NATS keeps the markers.
                await asyncio.sleep(4)
                leader = await cluster.leader(bucket.stream)
                leader.kill()
                await asyncio.sleep(2)
                assert await keys.returned() == set()
                await leader.start()
                await asyncio.sleep(4)
                assert await keys.returned() == set()
        finally:
            await keys.stop()
