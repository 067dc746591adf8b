"""Fake peers, which answer when a test says so."""

import json
from collections.abc import Callable

from wsaas.cluster.forwarded import PEER_HEAD
from wsaas.cluster.peer_process import PeerProcess
from wsaas.cluster.router import LocalRouter
from wsaas.errors import Gone, Unavailable
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.sessions.registry import PREFIX_LENGTH

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


class FakeProcess(PeerProcess):
    """A peer that a test answers, or that takes no requests."""

    def __init__(self, name, *, is_full=False):
        self.has_ended = False
        self.is_full = is_full
        self.may_have_clients = lambda: True
        self.name = name
        self.requests: list[tuple[bytes, DeferredResponse]] = []

    def _link(self, _target):
        return self

    def head(self, _request):
        return PEER_HEAD

    def send(self, request):
        if self.has_ended:
            raise Gone("It has ended.")
        if self.is_full:
            raise Unavailable("Too much waits for it.")
        deferred = DeferredResponse(float("inf"), lambda: None)
        self.requests.append((request, deferred))
        return deferred

    def answer(self, status=200, **content):
        _, deferred = self.requests.pop(0)
        deferred.resolve(OutgoingResponse(status, json.dumps(content).encode()))


class FakeRouter(LocalRouter):
    def __init__(self, registry, processes):
        super().__init__(registry)
        self.processes = processes

    def find_process(self, connection_id, /):
        return self.processes.get(connection_id[:PREFIX_LENGTH])
