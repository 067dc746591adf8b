"""A link to another node."""

import ssl
from dataclasses import dataclass
from typing import Final

from wsaas.cluster.forwarded import node_head, serialize_request
from wsaas.cluster.link_policy import LinkPolicy
from wsaas.cluster.peer_link import Connect, LinkServices, PeerLink
from wsaas.errors import TLS_NEEDED, BadRequest, Forbidden, Misdirected, Unauthorized, Unknown
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.log.throttle import throttle

_FIRST_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_UNKNOWN: Final = error_response(
    Unknown("A proxy answered for the node that holds this connection: the request may have been carried out.")
)
_TLS_NEEDED: Final = error_response(BadRequest(TLS_NEEDED)).body


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node is: its name (`node`), the `authority` (host and port) of its REST API, and a `label` for people."""

    node: bytes
    authority: bytes
    label: str


class NodeLink(PeerLink):
    """Forwards requests with the credentials of their callers: the other node authorizes them as any other request."""

    __slots__ = ("_address", "_authorization", "_head")

    def __init__(self, services: LinkServices, address: NodeAddress, connect: Connect, policy: LinkPolicy) -> None:
        """Reach the node at `address` by `connect`."""
        super().__init__(services, address.label, connect, policy)
        self._address = address
        # Most callers have the same credentials.
        self._authorization: bytes | None = None
        self._head = node_head(address.authority, address.node, None)

    def forward(self, request: Request, connection_id: str) -> DeferredResponse:  # noqa: ARG002 - see `router.Peer`
        """See `router.Peer`. Raises `Unavailable` where too much waits for the node already."""
        return self.send(serialize_request(request, self.head(request)))

    def head(self, request: Request) -> bytes:
        """Return the first headers of a request on behalf of the caller of `request`."""
        authorization = request.headers.get(b"authorization")
        if authorization != self._authorization:
            address = self._address
            self._head = node_head(address.authority, address.node, authorization)
            self._authorization = authorization
        return self._head

    def describe(self, error: Exception) -> str:
        """Return what an `error` of the connection was. In TLS 1.3, a certificate is refused after the handshake."""
        if type(error) is ssl.SSLError:
            hint = "if that node has CONTROL_TLS_CA, this one needs a TLS_CERT that is signed by it"
            return f" ({error.args[-1]}): {hint}"
        return super().describe(error)

    def judge(self, response: OutgoingResponse) -> OutgoingResponse:
        """Log what is wrong with the settings. A request that reached the wrong node was not carried out."""
        status, label = response.status, self._address.label
        if status == Misdirected.status:
            why = "it was restarted, or two nodes have the same NODE_ADDRESS"
            throttle.warning(("misdirected", label), "another node answers at the address of %s: %s", label, why)
            return error_response(self._unreachable())
        if status == BadRequest.status and response.body == _TLS_NEEDED:
            throttle.warning(("tls", label), "%s uses TLS: its NODE_ADDRESS has to begin with https://", label)
            return error_response(self._unreachable())
        if status >= _FIRST_ERROR and not response.body.startswith(b"{"):
            # Each error of a node is a JSON object. A proxy may have passed on what it answers with 502 or 504.
            text = "something else than %s answers at its address, with %d: is there a proxy in front of it?"
            throttle.warning(("no node", label), text, label, status)
            return _UNKNOWN if status >= _SERVER_ERROR else error_response(self._unreachable())
        if status in (Unauthorized.status, Forbidden.status):
            advice = "all nodes need the same CONTROL_TOKEN and CONTROL_TLS_CA"
            throttle.warning(("refused", label), "%s refused a request of a caller of this node: %s", label, advice)
        return response
