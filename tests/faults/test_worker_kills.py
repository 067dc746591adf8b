"""A worker that is killed while a node has many clients."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.support.clients import RawClient
from tests.support.frames import TEXT
from tests.support.processes import WORKERS, Client, WorkersNode, prefixes, workers
from tests.support.stage import Stage
from tests.support.waiting import wait_until
from wsaas.transport import descriptors

CLIENTS = 3000
DEATH_TIMEOUT_S = 2.0
"""Seconds after the end of a worker in which the backend gets the DELETEs of its clients."""


@pytest.mark.slow
async def test_a_killed_worker_of_many_clients_is_noticed_by_its_own_clients_only(stage: Stage, tmp_path: Path) -> None:
    descriptors.raise_limit()
    # Many clients connect at once: the last ones wait for a while before they send their handshake.
    async with workers(stage, tmp_path / "log", handshake_timeout=20_000) as node:
        clients = await node.connect_many(CLIENTS)
        by_worker = Counter(client.worker for client in clients)
        assert len(by_worker) == WORKERS
        prefix, number = by_worker.most_common(1)[0]
        lost = [client for client in clients if client.worker == prefix]
        others = [client for client in clients if client.worker != prefix]
        (pid,) = [pid for pid in node.pids() if prefix in prefixes(pid)]
        loop = asyncio.get_running_loop()
        os.kill(pid, signal.SIGKILL)
        death = loop.time()
        await wait_until(lambda: node.backend.count("DELETE") >= number, f"{number} DELETEs")
        assert loop.time() - death < DEATH_TIMEOUT_S, "the DELETEs came late"
        await push_to_all(node, others)
        for client in others:
            # It got nothing before.
            assert await client.raw.frame() == (TEXT, client.name.encode())
        for client in lost:
            await client.raw.end()
        assert (await node.ask("GET", "/connections")).json["total"] == len(others)
        # Meanwhile, no DELETE was repeated, and no other client has got one.
        await node.deletes(lost)
        for client in others:
            client.raw.close()
        await node.deletes(clients)
        assert await node.process.stop() == 0
        await node.deletes(clients)


async def push_to_all(node: WorkersNode, clients: list[Client]) -> None:
    """Push to each of `clients`, on one connection."""
    raw = await node.process.raw()
    for client in clients:
        assert await push(raw, client) == {"code": "OK"}


async def push(raw: RawClient, client: Client) -> object:
    head = f"PUT /{client.name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(client.name)}\r\n\r\n"
    raw.send(f"{head}{client.name}".encode())
    return json.loads((await raw.answer()).body)
