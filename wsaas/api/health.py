"""`/healthz` and `/readyz`, for load balancers and orchestrators. They need no token and reveal nothing else."""

from wsaas.cluster.view import ClusterView
from wsaas.errors import Unavailable
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.sessions.registry import Registry


def is_alive(_request: Request) -> OutgoingResponse:
    """Answer 200 as long as the event loop runs."""
    return OK


def is_ready(registry: Registry, view: ClusterView | None, _request: Request) -> OutgoingResponse:
    """Answer 200 while clients are admitted.

    Raises `Unavailable` while the node drains, and until it has joined its cluster.
    """
    if not registry.is_open:
        raise Unavailable("This node is shutting down.")
    if view is not None and not view.is_ready:
        raise Unavailable("This node has not joined its cluster yet.")
    return OK
