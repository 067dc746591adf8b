"""Three NATS servers under load: leaders are killed and frozen, also while the clients of a dead node are adopted."""

import asyncio
from pathlib import Path

import pytest

from tests.support.cluster import cluster_nodes, deletes
from tests.support.cluster_load import load
from tests.support.nats import nats_cluster
from tests.support.stage import Stage

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
