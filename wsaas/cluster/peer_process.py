"""Another process of this node, or another node, and the links to it."""

from collections.abc import Callable
from typing import Final

from wsaas.cluster.forwarded import serialize_parts, serialize_request
from wsaas.cluster.peer_link import PeerLink
from wsaas.errors import HTTPError
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request

BULK_LINKS: Final = 4
"""Links to a peer for requests about many clients, which may take long. Requests with one path share a link, so that
two publishes to a group keep their order."""


class PeerProcess:
    """Another process, or a node. `holder`: forwards requests about one of its connections. `name`: for people.

    The other methods send requests about many clients on behalf of the caller of a request. A response 410 says that
    the peer has ended, and that its clients are gone. They raise `Unavailable` where too much waits for the peer
    already, `Gone` if it has ended.
    """

    __slots__ = ("_bulk", "holder", "may_have_clients", "name")

    def __init__(self, name: str, make_link: Callable[[], PeerLink]) -> None:
        """Reach the peer by links that connect when they are used.

        `may_have_clients`: whether it is missed if it does not answer a request about many clients.
        """
        self._bulk = tuple(make_link() for _ in range(BULK_LINKS))
        self.holder = make_link()
        self.may_have_clients: Callable[[], bool] = _always
        self.name = name

    @property
    def links(self) -> tuple[PeerLink, ...]:
        """All links."""
        return (self.holder, *self._bulk)

    def forward(self, request: Request) -> DeferredResponse:
        """Forward a request as it is."""
        link = self._link(request.target)
        return link.send(serialize_request(request, link.head(request)))

    def get(self, request: Request, target: bytes) -> DeferredResponse:
        """Send a GET for `request`."""
        link = self._link(target)
        return link.send(serialize_parts(b"GET", target, link.head(request)))

    def post(self, request: Request, content_type: bytes, body: bytes) -> DeferredResponse:
        """Send a POST for `request`, with another body."""
        link = self._link(request.target)
        lines = b"%bContent-Type: %b\r\n" % (link.head(request), content_type)
        return link.send(serialize_parts(b"POST", request.target, lines, body))

    def sweep(self, now: float) -> None:
        """See `PeerLink.sweep`."""
        for link in self.links:
            link.sweep(now)

    def close(self, bulk_error: HTTPError | None = None) -> None:
        """Close all links: requests are answered with 410, those about many clients with `bulk_error` if given."""
        self.holder.close()
        for link in self._bulk:
            link.close(bulk_error)

    def _link(self, target: bytes) -> PeerLink:
        return self._bulk[hash(target.partition(b"?")[0]) % BULK_LINKS]


def _always() -> bool:
    return True
