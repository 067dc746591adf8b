"""The other processes of this gateway, and the router that finds the one that holds a connection."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from wsaas.cluster.peer_link import LinkServices, PeerLink, serialize_request
from wsaas.cluster.router import Peer
from wsaas.cluster.unix_connector import UnixConnector
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.sessions.registry import ID_LENGTH, PREFIX_LENGTH, Registry
from wsaas.sessions.session import Session

BULK_LINKS: Final = 4
"""Links to a peer for requests about many clients, which may take long. Requests with one target share a link, so that
two publishes to a group keep their order."""


class Place(NamedTuple):
    """Where a process is: its `name`, for people, and the `path` of its private Unix socket."""

    name: str
    path: str


class PeerProcess:
    """Another process. `holder`: forwards requests about one of its connections."""

    __slots__ = ("_bulk", "holder", "name", "prefix")

    def __init__(self, prefix: str, name: str, make_link: Callable[[], PeerLink]) -> None:
        """Reach the process whose ids start with `prefix` by links that connect when they are used."""
        self._bulk = tuple(make_link() for _ in range(BULK_LINKS))
        self.holder = make_link()
        self.name = name
        self.prefix = prefix

    @property
    def links(self) -> tuple[PeerLink, ...]:
        """All links."""
        return (self.holder, *self._bulk)

    def forward(self, request: Request) -> DeferredResponse:
        """Forward a request about many clients. A response 410 says that the peer is gone, and its clients with it.

        Raises `Unavailable` where too much waits for the peer already, `Gone` if it is gone.
        """
        path = request.target.partition(b"?")[0]
        return self._bulk[hash(path) % BULK_LINKS].send(serialize_request(request))


class Peers:
    """All other processes, by the prefix of their ids."""

    def __init__(self, services: LinkServices, loop: asyncio.AbstractEventLoop) -> None:
        """Start without peers."""
        self._connector = UnixConnector(loop)
        self._holders: dict[str, PeerLink] = {}
        self._processes: dict[str, PeerProcess] = {}
        self._services = services

    def __len__(self) -> int:
        """Return the number of peers."""
        return len(self._processes)

    def __iter__(self) -> Iterator[PeerProcess]:
        """Iterate over the peers as they are now."""
        return iter([*self._processes.values()])

    def update(self, places: Mapping[str, Place]) -> None:
        """Know the peers in `places`, by the prefix of their ids, and no other.

        A process that is missing has ended, and its clients are gone: requests that wait for it are answered with 410.
        """
        gone = [self._processes.pop(prefix) for prefix in [*self._processes] if prefix not in places]
        for prefix, place in places.items():
            if prefix not in self._processes:
                connect = partial(self._connector.open, place.path)
                make_link = partial(PeerLink, self._services, place.name, connect)
                self._processes[prefix] = PeerProcess(prefix, place.name, make_link)
        self._holders = {each.prefix: each.holder for each in self}
        for process in gone:
            for link in process.links:
                link.close()

    def find(self, connection_id: str, /) -> Peer | None:
        """Return the link to the process whose ids start like `connection_id`, or None."""
        # A path of this length that is not the form of an id gets 404 from the peer, as it would here.
        return self._holders.get(connection_id[:PREFIX_LENGTH]) if len(connection_id) == ID_LENGTH else None

    def sweep(self, now: float) -> None:
        """Resolve the responses that are overdue by `now` (monotonic seconds), and connect again after failures."""
        for process in self:
            for link in process.links:
                link.sweep(now)

    async def close(self) -> None:
        """Close all connections."""
        self.update({})
        await self._connector.close()


class PeerRouter:
    """The router of a process with peers."""

    __slots__ = ("find", "find_peer")

    def __init__(self, registry: Registry, peers: Peers) -> None:
        """Find the sessions of `registry`, and the connections that `peers` hold."""
        self.find: Callable[[str], Session | None] = registry.find
        self.find_peer: Callable[[str], Peer | None] = peers.find
