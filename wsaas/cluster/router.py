"""Finds a connection by its id: in a session of this process, or at a peer."""

from collections.abc import Callable, Mapping, Sequence
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
    """Finds the session or the peer for a connection id."""

    def for_request(self, request: Request, /) -> "Router":
        """Return the router for `request`: one without other nodes if the request is for this node only.

        Raises `Misdirected` if it is for another node.
        """

    @property
    def within_node(self) -> "Router":
        """The router without other nodes."""

    @property
    def processes(self) -> Mapping[str, PeerProcess]:
        """Which peer answers for the clients of another process, by the prefix of their ids. They come and go."""

    @property
    def unknown(self) -> Sequence[str]:
        """Names for the peers that are not known, for people. Usually there are none."""

    def find_process(self, connection_id: str, /) -> PeerProcess | None:
        """Return the peer of `processes` for a connection id that `find` did not find, as `find_peer` does."""

    def find(self, connection_id: str, /) -> Session | None:
        """Return the session if it is in this process, else None. Every push calls this."""

    def find_peer(self, connection_id: str, /) -> Peer | None:
        """Return the peer for a connection id that `find` did not find; None if the connection is gone.

        Raises `Unavailable` if that is not known at present.
        """


class LocalRouter:
    """The router of a process without peers. `find` is `Registry.find`, without a call in between."""

    __slots__ = ("find", "processes", "unknown")

    def __init__(self, registry: Registry) -> None:
        """Find the sessions of `registry`."""
        self.find: Callable[[str], Session | None] = registry.find
        self.processes: Mapping[str, PeerProcess] = {}
        self.unknown: Sequence[str] = ()

    def for_request(self, _request: Request, /) -> Router:
        """Return this router."""
        return self

    @property
    def within_node(self) -> Router:
        """This router."""
        return self

    def find_peer(self, _connection_id: str, /) -> Peer | None:
        """Return None: there are no peers."""
        return None

    def find_process(self, _connection_id: str, /) -> PeerProcess | None:
        """Return None: there are no peers."""
        return None
