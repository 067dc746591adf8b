"""The nodes of a cluster, each in processes of its own, with a NATS server."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets

from tests.support.gateway_process import GatewayProcess
from tests.support.nats import nats
from tests.support.ports import free_port
from tests.support.program import gateway_program
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout
from wsaas.sessions.registry import PREFIX_LENGTH

LEASE_MS = 1000

MAX_CLIENTS = 100
"""So many clients reach each of two workers, whatever the ports that they connect from."""

JOINS = 100


class Node:
    """A node. `control`: the port of its REST API."""

    def __init__(self, process: GatewayProcess, control: int, http: aiohttp.ClientSession) -> None:
        self.control = control
        self.process = process
        self._http = http

    async def end(self) -> None:
        """Stop it, if it runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.program.terminate()
        await self.process.program.wait()

    async def ask(self, method: str, target: str, body: str = "") -> tuple[int, Any]:
        """Make a REST request; return the status and the JSON of the answer."""
        url = f"http://127.0.0.1:{self.control}{target if target.startswith('/') else f'/{target}'}"
        async with self._http.request(method, url, data=body) as answer:
            return answer.status, await answer.json()

    async def connect(self) -> tuple[websockets.ClientConnection, str]:
        """Connect a client; return it and its id."""
        stage = self.process.stage
        uri = f"ws://127.0.0.1:{self.process.port}/"
        client = await with_timeout(websockets.connect(uri, ping_interval=None))
        stage.stack.callback(client.transport.abort)
        return client, (await stage.backend.take("POST")).client

    async def spread(self, workers: int) -> list[tuple[websockets.ClientConnection, str]]:
        """Connect clients until each of the workers has one; return them."""
        clients: list[tuple[websockets.ClientConnection, str]] = []
        while len({name[:PREFIX_LENGTH] for _, name in clients}) < workers:
            assert len(clients) < MAX_CLIENTS, "the kernel does not distribute the connections"
            clients.append(await self.connect())
        return clients


@contextlib.asynccontextmanager
async def cluster(
    stage: Stage, folder: Path, count: int, workers: int = 1, *, lease_ms: int = LEASE_MS, ports: bool = False
) -> AsyncIterator[list[Node]]:
    """Run nodes. `ports`: whether each worker has an address of its own."""
    await stage.backend.start()
    async with (
        nats(folder / "nats") as server,
        aiohttp.ClientSession(headers={"Content-Type": "text/plain"}) as http,
    ):
        nodes: list[Node] = []
        try:
            for number in range(count):
                control, port = free_port(), free_port()
                last = control + workers - 1
                options = {
                    "cluster": server.url,
                    "cluster_lease": lease_ms,
                    "listen": f"127.0.0.1:{port}",
                    "control_listen": f"127.0.0.1:{control}-{last}" if ports else f"127.0.0.1:{control}",
                    "node_address": "127.0.0.1:{port}" if ports else f"127.0.0.1:{control}",
                    "workers": workers,
                }
                program = gateway_program(f"{stage.backend.authority}/hook", port, folder / f"log-{number}", options)
                nodes.append(Node(GatewayProcess(stage, program, port), control, http))
            for node in nodes:
                await node.process.program.start()
            yield nodes
        finally:
            await stage.stack.aclose()
            for node in nodes:
                await node.end()
            await wait_until(lambda: not stage.backend.connections)


async def test_three_nodes_are_one_gateway(stage: Stage, tmp_path: Path) -> None:
    async with cluster(stage, tmp_path, 3) as nodes:
        clients = [await node.connect() for node in nodes]
        for number, node in enumerate(nodes):
            assert (await node.ask("GET", "/readyz"))[0] == 200
            for client, name in clients:
                assert (await node.ask("PUT", name, str(number)))[0] == 200
                assert await with_timeout(client.recv()) == str(number)
            _, found = await node.ask("PUT", "/connections", "all")
            assert (found["code"], found["sent"]) == ("OK", 3)
            for client, _ in clients:
                assert await with_timeout(client.recv()) == "all"
            _, found = await node.ask("GET", "/nodes")
            assert len(found["nodes"]) == 3
            assert [each["address"] for each in found["nodes"] if each["lease_age"] is not None] == sorted(
                (f"http://127.0.0.1:{each.control}" for each in nodes if each is not node),
                key=[each["address"] for each in found["nodes"]].index,
            )
        await check_joins(nodes, clients[0][1], JOINS)
        # A node that stops takes its clients with it, and its place in the cluster.
        assert await nodes[2].process.stop() == 0
        assert (await nodes[0].ask("PUT", clients[2][1], "late"))[0] == 410
        _, found = await nodes[1].ask("PUT", "/connections", "all")
        assert (found["code"], found["sent"]) == ("OK", 2)


async def check_joins(nodes: list[Node], name: str, count: int) -> None:
    """Let a client join groups by one node, and publish by another one at once."""
    for number in range(count):
        by, then = nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)]
        group = f"/groups/g{number}"
        assert (await by.ask("PUT", f"{group}/connections/{name}"))[0] == 200
        _, found = await then.ask("PUT", group, "x")
        assert (found["code"], found["sent"]) == ("OK", 1), number
        assert (await by.ask("DELETE", f"{group}/connections/{name}"))[0] == 200


@pytest.mark.slow
async def test_no_publish_after_a_join_by_another_node_is_missed(stage: Stage, tmp_path: Path) -> None:
    async with cluster(stage, tmp_path, 3) as nodes:
        client, name = await nodes[0].connect()
        reading = asyncio.ensure_future(drain(client))
        await check_joins(nodes, name, 10_000)
        reading.cancel()


async def drain(client: websockets.ClientConnection) -> None:
    async for _ in client:
        pass


@pytest.mark.parametrize("ports", [False, True])
async def test_nodes_with_workers_are_one_gateway(stage: Stage, tmp_path: Path, *, ports: bool) -> None:
    async with cluster(stage, tmp_path, 2, workers=2, ports=ports) as nodes:
        clients = [client for node in nodes for client in await node.spread(2)]
        names = [name for _, name in clients]
        for number, node in enumerate(nodes):
            for client, name in clients:
                assert (await node.ask("PUT", name, str(number)))[0] == 200
                assert await with_timeout(client.recv()) == str(number)
            _, found = await node.ask("PUT", "/connections", "all")
            assert (found["code"], found["sent"]) == ("OK", len(clients))
            status, found = await node.ask("POST", "/send", json.dumps({"to": names, "text": "each"}))
            assert (status, found["sent"]) == (200, len(clients))
            for client, _ in clients:
                assert [await with_timeout(client.recv()) for _ in range(2)] == ["all", "each"]
            for each in range(20):
                assert (await nodes[each % 2].ask("PUT", names[0], str(each)))[0] == 200
            assert [await with_timeout(clients[0][0].recv()) for _ in range(20)] == [str(each) for each in range(20)]
            _, found = await node.ask("GET", "/connections")
            assert found["total"] == len(clients)
            _, found = await node.ask("GET", "/nodes")
            assert [each["workers"] for each in found["nodes"]] == [2, 2]


async def test_clients_of_a_killed_node_are_unreachable_until_its_lease_ends_and_gone_then(
    stage: Stage, tmp_path: Path
) -> None:
    async with cluster(stage, tmp_path, 2, lease_ms=2 * LEASE_MS) as (here, there):
        _, name = await there.connect()
        assert (await here.ask("PUT", name, "x"))[0] == 200
        there.process.program.kill()
        # The end of the connection has been read when this is answered.
        await here.ask("GET", "/healthz")
        status, found = await here.ask("PUT", name, "x")
        assert (status, found["code"]) == (503, "UNAVAILABLE")
        status, found = await here.ask("PUT", "/connections", "x")
        assert (status, found["code"], found["sent"], len(found["missing"])) == (200, "PARTIAL", 0, 1)
        await until_gone(stage, here, name)
        status, found = await here.ask("PUT", "/connections", "x")
        assert (status, found["code"], found["sent"]) == (200, "OK", 0)


async def until_gone(stage: Stage, node: Node, name: str) -> None:
    """Wait for the DELETE that another node sends for a client. It is gone by then."""
    call = await stage.backend.take("DELETE")
    assert (call.client, call.json["reason"]) == (name, "gateway lost")
    status, found = await node.ask("PUT", name, "x")
    assert (status, found["code"]) == (410, "GONE")


async def test_clients_of_a_node_that_stands_still_are_gone_when_its_lease_ends(stage: Stage, tmp_path: Path) -> None:
    async with cluster(stage, tmp_path, 2) as (here, there):
        client, name = await there.connect()
        assert (await here.ask("PUT", name, "x"))[0] == 200
        os.kill(there.process.program.pid, signal.SIGSTOP)
        try:
            status, found = await here.ask("PUT", name, "y")
            assert (status, found["code"]) == (410, "GONE")
            await until_gone(stage, here, name)
        finally:
            os.kill(there.process.program.pid, signal.SIGCONT)
        assert await with_timeout(client.recv()) == "x"
        await with_timeout(client.wait_closed())
        assert client.close_code == 1012
