"""From a connection id to what answers for it: a session of this process, or the peer that holds it."""

from collections.abc import Callable
from typing import Protocol

from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.sessions.registry import Registry
from wsaas.sessions.session import Session


class Peer(Protocol):
    """Another process that holds connections: a worker of this node, or another node."""

    def forward(self, request: Request, connection_id: str) -> DeferredResponse:
        """Pass a complete `request`, already authorized, on to the process that holds `connection_id`.

        The response never comes before this returns. One to a HEAD carries the body that a GET would be answered with.
        When the response is cancelled, nothing of it is read any more; the request may have been carried out.
        """


class Router(Protocol):
    """Finds what answers for a connection id."""

    def find(self, connection_id: str, /) -> Session | None:
        """Return the session in this process, None where it is not. Every push calls this."""

    def find_peer(self, connection_id: str, /) -> Peer | None:
        """Return the peer that holds an id which `find` did not find; None where the id is gone."""


class LocalRouter:
    """The router of a process that shares its connections with no other: `find` is the registry's own look-up."""

    __slots__ = ("find",)

    def __init__(self, registry: Registry) -> None:
        """Find the sessions of `registry`."""
        self.find: Callable[[str], Session | None] = registry.find

    def find_peer(self, _connection_id: str, /) -> Peer | None:
        """Return None: an id that is not here is gone."""
        return None
