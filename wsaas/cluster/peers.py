"""The other processes of this gateway, and the router that finds the one that holds a connection."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from wsaas.cluster.link_policy import WORKER_POLICY
from wsaas.cluster.peer_link import LinkServices, PeerLink
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.router import Peer, Router
from wsaas.cluster.unix_connector import UnixConnector
from wsaas.http.request import Request
from wsaas.sessions.registry import ID_LENGTH, PREFIX_LENGTH, Registry
from wsaas.sessions.session import Session


class Place(NamedTuple):
    """Where a process is: its `name`, for people, and the `path` of its private Unix socket."""

    name: str
    path: str


class Peers:
    """All other processes. `processes`: by the prefix of their ids."""

    def __init__(self, services: LinkServices, loop: asyncio.AbstractEventLoop) -> None:
        """Start without peers."""
        self._connector = UnixConnector(loop)
        self._holders: dict[str, PeerLink] = {}
        self.processes: dict[str, PeerProcess] = {}
        self._services = services

    def update(self, places: Mapping[str, Place]) -> None:
        """Know the peers in `places`, by the prefix of their ids, and no other.

        A process that is missing has ended, and its clients are gone: requests that wait for it are answered with 410.
        """
        gone = [self.processes.pop(prefix) for prefix in [*self.processes] if prefix not in places]
        for prefix, place in places.items():
            if prefix not in self.processes:
                connect = partial(self._connector.open, place.path)
                make_link = partial(PeerLink, self._services, place.name, connect, WORKER_POLICY)
                self.processes[prefix] = PeerProcess(place.name, make_link)
        self._holders = {prefix: each.holder for prefix, each in self.processes.items()}
        for process in gone:
            process.close()

    def find(self, connection_id: str, /) -> Peer | None:
        """Return the link to the process whose ids start like `connection_id`, or None."""
        # A path of this length that is not the form of an id gets 404 from the peer, as it would here.
        return self._holders.get(connection_id[:PREFIX_LENGTH]) if len(connection_id) == ID_LENGTH else None

    def find_process(self, connection_id: str, /) -> PeerProcess | None:
        """Return the process whose ids start like `connection_id`, or None."""
        return self.processes.get(connection_id[:PREFIX_LENGTH])

    def sweep(self, now: float) -> None:
        """Resolve the responses that are overdue by `now` (monotonic seconds), and connect again after failures."""
        for process in [*self.processes.values()]:
            process.sweep(now)

    async def close(self) -> None:
        """Close all connections."""
        self.update({})
        await self._connector.close()


class PeerRouter:
    """The router of a node with several workers."""

    __slots__ = ("find", "find_peer", "find_process", "processes", "unknown")

    def __init__(self, registry: Registry, peers: Peers) -> None:
        """Find the sessions of `registry`, and the connections that `peers` hold."""
        self.processes: Mapping[str, PeerProcess] = peers.processes
        self.find: Callable[[str], Session | None] = registry.find
        self.find_peer: Callable[[str], Peer | None] = peers.find
        self.find_process: Callable[[str], PeerProcess | None] = peers.find_process
        self.unknown: Sequence[str] = ()

    def for_request(self, _request: Request, /) -> Router:
        """Return this router."""
        return self

    @property
    def within_node(self) -> Router:
        """This router."""
        return self
