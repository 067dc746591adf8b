"""A node is cut off from NATS, but neither from its clients nor from the backend; later, the network is whole again."""

import asyncio
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from tests.support.clients import RawClient
from tests.support.cluster import LEASE_S, cluster_nodes, deletes, until_deleted, until_nats_has
from tests.support.frames import TEXT, close_frame, frame
from tests.support.partition import partition
from tests.support.stage import Stage
from tests.support.waiting import wait_until


class Talker:
    """A client that sends messages until it is closed. `sent`: how many."""

    def __init__(self, raw: RawClient, name: str) -> None:
        self.closed_with: tuple[int, str] | None = None
        self.name = name
        self.raw = raw
        self.sent = 0
        self._task = asyncio.ensure_future(self._talk())

    async def _talk(self) -> None:
        for number in count(1):
            self.raw.send(frame(TEXT, f"{number}".encode()))
            self.sent = number
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """Wait for the Close, and answer it."""
        try:
            self.closed_with = await self.raw.closing()
        finally:
            self._task.cancel()
        self.raw.send(close_frame(self.closed_with[0]))
        await self.raw.rest()


@pytest.mark.slow
async def test_a_partition_that_heals(stage: Stage, tmp_path: Path) -> None:
    async with (
        partition(tmp_path / "nats") as network,
        cluster_nodes(stage, tmp_path, network.urls, journal=tmp_path) as (whole, cut_off),
    ):
        url = network.urls[0]
        before = [Talker(*await cut_off.client()) for _ in range(5)]
        unaffected = Talker(*await whole.client())
        await until_nats_has(url, unaffected.name, *(each.name for each in before))
        await asyncio.sleep(LEASE_S)
        network.cut()
        # The other node says that the clients are lost. They go on: nobody has told this node.
        await until_deleted(stage, *(each.name for each in before))
        during = [Talker(*await cut_off.client()) for _ in range(5)]
        sent = [each.sent for each in before]
        await wait_until(lambda: all(each.sent > past + 10 for each, past in zip(before, sent, strict=True)))
        assert len(deletes(stage)) == 5
        network.heal()
        for each in [*before, *during]:
            await each.end()
            assert each.closed_with == (1012, "node declared dead")
        await until_deleted(stage, *(each.name for each in [*before, *during]))
        for name, calls in deletes(stage).items():
            assert [call.headers["ce-id"] for call in calls] == [f"{name}:end"]
        # Each message was delivered, or the DELETE or the log says that it was not.
        delivered = Counter(call.client for call in stage.backend.calls if call.method == "PUT")
        for each in before:
            lost = each.sent - delivered[each.name]
            told = f"{each.name}: the node was declared dead: {lost} message{'' if lost == 1 else 's'} not delivered"
            assert not lost or told in cut_off.program.said()
        for each in during:
            (delete,) = deletes(stage)[each.name]
            assert each.sent == delivered[each.name] + delete.json["undelivered"]
        # It has a new start.
        await wait_until(lambda: cut_off.program.said().count("joined the cluster") == 2)
        await asyncio.sleep(0.1)
        raw, later = await cut_off.client()
        await until_nats_has(url, unaffected.name, later)
        unaffected.raw.close()
        raw.close()
