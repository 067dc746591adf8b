"""Finds a connection by its id: in a session of this process, or at a peer."""

from collections.abc import Callable, Mapping
from typing import Protocol

from wsaas.cluster.peer_process import PeerProcess
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session


class Peer(Protocol):
    """Another process that holds connections: a worker of this node, or another node."""

    def forward(self, request: Request, connection_id: str) -> DeferredResponse:
        """Forward a complete and authorized `request` to the process that holds `connection_id`.

        The response is never resolved before this method returns. The response to HEAD has the body of a response to
        GET. If it is cancelled, it is dropped when it arrives, but the request may have been carried out.
        """


class Router(Protocol):
    """Finds the session or the peer for a connection id. `processes`: all peers, by the prefix of their ids."""

    @property
    def processes(self) -> Mapping[str, PeerProcess]:
        """The peers. They come and go."""

    def find(self, connection_id: str, /) -> Session | None:
        """Return the session if it is in this process, else None. Every push calls this."""

    def find_peer(self, connection_id: str, /) -> Peer | None:
        """Return the peer for a connection id that `find` did not find; None if the connection is gone."""


class LocalRouter:
    """The router of a process without peers. `find` is `Registry.find`, without a call in between."""

    __slots__ = ("find", "processes")

    def __init__(self, registry: Registry) -> None:
        """Find the sessions of `registry`."""
        self.find: Callable[[str], Session | None] = registry.find
        self.processes: Mapping[str, PeerProcess] = {}

    def find_peer(self, _connection_id: str, /) -> Peer | None:
        """Return None: there are no peers."""
        return None
