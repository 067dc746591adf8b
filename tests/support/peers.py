"""A fake peer for `cluster.router`, which answers when a test says so."""

from collections.abc import Callable

from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse

REMOTE = "R" * 30
"""The id of a connection that the peer holds."""


class PeerDouble:
    """The peer that holds `REMOTE`. `requests`: forwarded and unanswered; `cancelled`: whose caller went away."""

    def __init__(self, now: Callable[[], float], timeout: float = 10.0) -> None:
        self.cancelled: list[Request] = []
        self.requests: list[Request] = []
        self._deferred: list[DeferredResponse] = []
        self._now = now
        self._timeout = timeout

    def find_peer(self, connection_id: str, /) -> "PeerDouble | None":
        return self if connection_id == REMOTE else None

    def forward(self, request: Request, connection_id: str) -> DeferredResponse:
        assert connection_id == REMOTE
        deferred = DeferredResponse(self._now() + self._timeout, lambda: self.cancelled.append(request))
        self.requests.append(request)
        self._deferred.append(deferred)
        return deferred

    def answer(self, response: OutgoingResponse = OK, which: int = 0) -> None:
        """Answer the oldest request, or another one."""
        self.requests.pop(which)
        self._deferred.pop(which).resolve(response)
