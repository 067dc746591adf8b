"""The nodes of a cluster and their NATS server, each in a process of its own, and where they are in the network."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

from tests.chaos.link import Address, show
from tests.support.nats import NatsServer, bucket_keys
from tests.support.ports import free_port
from tests.support.program import Program, gateway_program

LEASE_S = 3.0
"""`CLUSTER_LEASE`. Long enough for a busy machine, and short enough for many losses of nodes in a minute."""

SPARES = 2
"""Further addresses, for nodes that replace others."""


class Place(NamedTuple):
    """A place in the network for a node. All are on this machine, unless a test makes a network of its own.

    `host`: where clients reach it. `rest_host`: where the backend does. `peer_host`: where the other nodes do.
    `nats_host`, `backend_host`: how it reaches them. `prefix`: of its command.
    """

    host: str = "127.0.0.1"
    rest_host: str = "127.0.0.1"
    peer_host: str = "127.0.0.1"
    nats_host: str = "127.0.0.1"
    backend_host: str = "127.0.0.1"
    prefix: Sequence[str] = ()


HERE = Place()


@dataclass(eq=False)
class Node:
    """One node. `absences`: how often it was frozen or cut off for so long that it may have been declared dead."""

    name: str
    place: Place
    port: int
    journal: Path
    program: Program
    absences: int = 0

    @property
    def address(self) -> Address:
        """Where clients reach it."""
        return self.place.host, self.port

    @property
    def rest_address(self) -> Address:
        """Where the backend reaches it."""
        return self.place.rest_host, self.port

    def freeze(self) -> None:
        os.kill(self.program.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.program.pid, signal.SIGCONT)


class Nodes:
    """The nodes that run or will run again, in `live`; those that never come back are in `lost`."""

    def __init__(
        self, folder: Path, places: Sequence[Place], backend_port: int, settings: Mapping[str, object], nats_listen: str
    ) -> None:
        self._backend_port = backend_port
        self._folder = folder
        self._numbers = count(1)
        self._settings = settings
        self._spares = [free_port() for _ in range(SPARES)]
        self.nats = NatsServer(folder / "nats", listen=nats_listen)
        self.lost: list[Node] = []
        self._ports = [free_port() for _ in places]
        self.ws_hostname = show((places[0].rest_host, self._ports[0]))
        self.live = [self._make(place, port) for place, port in zip(places, self._ports, strict=True)]

    @property
    def rest_addresses(self) -> list[Address]:
        """Where the backend reaches the nodes, now or later."""
        return [*(node.rest_address for node in self.live), *((HERE.rest_host, port) for port in self._spares)]

    @property
    def everyone(self) -> list[Node]:
        return [*self.live, *self.lost]

    async def start(self) -> None:
        await self.nats.start()
        for node in self.live:
            await node.program.start()

    def replace(self, node: Node, *, elsewhere: bool) -> Node:
        """Return a fresh node in place of `node`, which never comes back. It does not run yet."""
        self.live.remove(node)
        self.lost.append(node)
        port = node.port
        if elsewhere:
            port = self._spares.pop(0)
            self._spares.append(node.port)
        fresh = self._make(node.place, port)
        self.live.append(fresh)
        return fresh

    def kill(self) -> None:
        """Kill everything."""
        for node in self.everyone:
            node.program.kill()
        self.nats.kill()

    async def stored(self) -> list[str]:
        """Return the ids of the connections in NATS."""
        return sorted(key.partition(".")[2] for key in await bucket_keys(self.nats.url, "wsaas-connections"))

    async def members(self) -> list[str]:
        """Return the entries of processes in NATS, but those about connections that others have adopted."""
        keys = await bucket_keys(self.nats.url, "wsaas-members")
        return sorted(key for key in keys if not key.startswith("adopted.") and key != "version")

    async def until_stopped(self) -> dict[str, int]:
        """Stop all nodes by a signal; return their exit statuses by name."""
        for node in self.live:
            node.program.terminate()
        statuses = await asyncio.gather(*(node.program.wait() for node in self.live))
        return dict(zip((node.name for node in self.live), statuses, strict=True))

    def _make(self, place: Place, port: int) -> Node:
        name = f"node-{next(self._numbers)}"
        journal = self._folder / f"{name}.journal"
        settings = {
            **self._settings,
            "cluster": f"nats://{place.nats_host}:{self.nats.port}",
            "cluster_lease": round(LEASE_S * 1000),
            "cluster_secret": "a-secret-that-all-nodes-have",
            "journal": journal,
            "listen": f"{'127.0.0.1' if place == HERE else '0.0.0.0'}:{port}",
            "node_address": f"{place.peer_host}:{port}",
            "ws_hostname": self.ws_hostname,
        }
        backend = f"{place.backend_host}:{self._backend_port}/hook"
        program = gateway_program(backend, port, self._folder / f"{name}.log", settings, prefix=place.prefix)
        return Node(name, place, port, journal, program)
