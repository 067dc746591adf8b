"""NATS is gone, or frozen, for a minute under load. Nothing is lost, and everything is replicated afterwards."""

import asyncio
from pathlib import Path

import pytest

from tests.support.cluster import cluster_nodes
from tests.support.cluster_load import load
from tests.support.nats import nats
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.cluster_slow]

OUTAGE_S = 60.0


@pytest.fixture(autouse=True)
def patient(stage: Stage) -> None:
    stage.timeout = 240.0


@pytest.mark.parametrize("how", ["freeze", "kill"])
async def test_a_minute_without_nats_under_load(stage: Stage, tmp_path: Path, how: str) -> None:
    settings = {"journal": tmp_path, "cluster_lease": 5000, "log_level": "INFO"}
    async with (
        nats(tmp_path / "nats") as server,
        cluster_nodes(stage, tmp_path, server.url, 3, **settings) as nodes,
        load(nodes, 100) as found,
    ):
        await asyncio.sleep(8)
        getattr(server, how)()
        await asyncio.sleep(OUTAGE_S)
        if how == "freeze":
            server.thaw()
        else:
            await server.start()
        await wait_until(lambda: all("in contact with the cluster again" in node.program.said() for node in nodes))
        await asyncio.sleep(8)
        await found.stop()
        await found.check_messages()
        await found.check_books(server.url)
        assert found.refused == 0
        assert not any("was declared dead" in node.program.said() for node in nodes)
        print(found.numbers())
