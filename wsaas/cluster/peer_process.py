"""Another process of this gateway, and the links to it."""

from collections.abc import Callable
from typing import Final

from wsaas.cluster.forwarded import serialize_parts, serialize_request
from wsaas.cluster.peer_link import PeerLink
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request

BULK_LINKS: Final = 4
"""Links to a peer for requests about many clients, which may take long. Requests with one path share a link, so that
two publishes to a group keep their order."""


class PeerProcess:
    """Another process. `holder`: forwards requests about one of its connections. `name`: for people.

    The other methods send requests about many clients. A response 410 says that the process has ended, and that its
    clients are gone. They raise `Unavailable` where too much waits for the process already, `Gone` if it has ended.
    """

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
        """Forward a request as it is."""
        return self._send(request.target, serialize_request(request))

    def get(self, target: bytes) -> DeferredResponse:
        """Send a GET."""
        return self._send(target, serialize_parts(b"GET", target))

    def post(self, target: bytes, content_type: bytes, body: bytes) -> DeferredResponse:
        """Send a POST."""
        return self._send(target, serialize_parts(b"POST", target, b"Content-Type: %b\r\n" % content_type, body))

    def _send(self, target: bytes, request: bytes) -> DeferredResponse:
        return self._bulk[hash(target.partition(b"?")[0]) % BULK_LINKS].send(request)
