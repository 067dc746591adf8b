"""Nodes of a cluster in processes of their own, which can be killed, and what NATS keeps of them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.backend import Call
from tests.support.clients import RawClient
from tests.support.gateway_process import GatewayProcess
from tests.support.nats import bucket_keys
from tests.support.ports import free_port
from tests.support.program import gateway_program
from tests.support.stage import Stage
from tests.support.waiting import wait_until

LEASE_S = 1.0
"""The lease of nodes in tests: the shortest."""


class ClusterNode(GatewayProcess):
    """A node in another process. Its clients have paths that name them to the backend."""

    _paths = count()

    async def client(self, *headers: str) -> tuple[RawClient, str]:
        """Connect a client; return it and its id."""
        path = f"/cluster-{next(self._paths)}"
        raw = await self.upgraded(path, *headers)
        # The latest calls come last.
        posts = (call for call in reversed(self.stage.backend.calls) if call.method == "POST")
        return raw, next(post.client for post in posts if post.json["request"]["path"] == path)

    async def clients(self, number: int, at_once: int = 50) -> dict[str, RawClient]:
        """Connect clients; return them by id."""
        found: dict[str, RawClient] = {}
        for start in range(0, number, at_once):
            some = await asyncio.gather(*(self.client() for _ in range(min(at_once, number - start))))
            found.update({name: raw for raw, name in some})
        return found

    @property
    def prefix(self) -> str:
        """The prefix of the ids of its clients. Only with a client."""
        return next(call.client for call in self.stage.backend.calls if call.method == "POST")[:8]

    @property
    def has_joined(self) -> bool:
        return "joined the cluster" in self.program.said()


@asynccontextmanager
async def cluster_nodes(
    stage: Stage, folder: Path, url: str | Sequence[str], number: int = 2, **settings: Any
) -> AsyncIterator[list[ClusterNode]]:
    """Run nodes in front of the backend of `stage`. `url`: of NATS, for all or for each; `settings`: of all nodes."""
    if not stage.backend.port:
        await stage.backend.start()
    urls = [url] * number if isinstance(url, str) else url
    nodes = [make_node(stage, folder, each, index, **settings) for index, each in enumerate(urls)]
    try:
        for node in nodes:
            await node.program.start()
        yield nodes
    finally:
        await stage.stack.aclose()
        for node in nodes:
            node.program.kill()


def make_node(stage: Stage, folder: Path, url: str, index: int, **settings: Any) -> ClusterNode:
    """Return a node that does not run yet. A `journal` in `settings` is the folder of its journal."""
    port = free_port()
    chosen = {
        "cluster": url,
        "cluster_lease": round(LEASE_S * 1000),
        "node_address": f"127.0.0.1:{port}",
        "drain_timeout": 5000,
        "log_level": "DEBUG",
        **settings,
    }
    if "journal" in chosen:
        chosen["journal"] = Path(chosen["journal"]) / f"journal-{index}"
    program = gateway_program(f"{stage.backend.authority}/hook", port, folder / f"node-{index}.log", chosen)
    return ClusterNode(stage, program, port)


async def connections_in_nats(url: str, name: str = "wsaas") -> list[str]:
    """Return the ids of the connections that NATS has."""
    return sorted(key.partition(".")[2] for key in await bucket_keys(url, f"{name}-connections"))


async def until_nats_has(url: str, *ids: str) -> None:
    """Wait until NATS has exactly the connections `ids`."""
    deadline = asyncio.get_running_loop().time() + 20
    while (found := await connections_in_nats(url)) != sorted(ids):
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.05)


def deletes(stage: Stage) -> Mapping[str, list[Call]]:
    """Return the DELETEs that the backend has got, by the id of the connection."""
    found: dict[str, list[Call]] = {}
    for call in stage.backend.calls:
        if call.method == "DELETE":
            found.setdefault(call.client, []).append(call)
    return found


async def until_deleted(stage: Stage, *ids: str) -> None:
    """Wait until the backend has got a DELETE for each of `ids`, and for no other connection."""
    await wait_until(lambda: deletes(stage).keys() >= set(ids), "DELETEs", lambda: set(ids) - deletes(stage).keys())
    assert deletes(stage).keys() == set(ids)


async def until_members(url: str, *prefixes: str) -> None:
    """Wait until NATS knows exactly these processes."""
    deadline = asyncio.get_running_loop().time() + 20
    while (found := await members_in_nats(url)) != sorted(prefixes):
        assert asyncio.get_running_loop().time() < deadline, found
        await asyncio.sleep(0.05)


async def members_in_nats(url: str, name: str = "wsaas") -> list[str]:
    """Return the prefixes of the processes of which NATS has a lease, a claim or an entry."""
    keys = [key.partition(".") for key in await bucket_keys(url, f"{name}-members")]
    return sorted({prefix for kind, _, prefix in keys if kind in {"lease", "claim", "member"}})
