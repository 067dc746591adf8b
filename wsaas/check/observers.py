"""What observes the requests to the backend and the answers of the REST API during a check.

In a module of its own, as subclasses of compiled classes are compiled, and coroutines are not.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from wsaas.api.api import Api
from wsaas.api.route import Response as ApiResponse
from wsaas.delivery.circuit_breaker import CircuitBreaker
from wsaas.delivery.pool import Exchange, Outcome, Pool
from wsaas.delivery.verdicts import Verdict
from wsaas.delivery.webhook import Delivery, Webhook
from wsaas.errors import HTTPError
from wsaas.events import Event
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.sessions.fan_out import FanOutQueue
from wsaas.sessions.registry import Registry
from wsaas.settings import Settings

_HEALTH: Final = frozenset({b"/healthz", b"/readyz"})

Explanation = tuple[str, str]
NO_EXPLANATION: Final[Explanation] = ("", "")


class ObservedWebhook(Webhook):
    """Reports the next verdict on each kind of event to the future in `waiting`."""

    def __init__(self, settings: Settings, pool: Pool, breaker: CircuitBreaker, wall: Callable[[], float]) -> None:
        """Send through `pool`, like a `Webhook`."""
        super().__init__(settings, pool, breaker, wall)
        self.waiting: dict[type[Event], asyncio.Future[tuple[Outcome, Verdict, Explanation]]] = {}
        self._explanation = NO_EXPLANATION

    def call(self, delivery: Delivery, event: Event, is_direct: bool = False) -> None:  # noqa: ARG002 - see below
        """Send `event`, never as a direct one: the usual answers to those are not judged."""
        super().call(delivery, event)

    def explain(self, detail: str, advice: str) -> None:
        """Keep what is known about the failure that `judge` gets next."""
        self._explanation = detail, advice

    def judge(self, event: Event, outcome: Outcome) -> Verdict:
        """Return the verdict, and report it."""
        verdict = super().judge(event, outcome)
        explanation, self._explanation = self._explanation, NO_EXPLANATION
        waiter = self.waiting.pop(type(event), None)
        if waiter is not None and not waiter.done():
            waiter.set_result((outcome, verdict, explanation))
        return verdict


class ObservedApi(Api):
    """Records the status of each answer in `statuses`, except to health checks. `arrived`: set by the first one."""

    def __init__(self, settings: Settings, registry: Registry, queue: FanOutQueue) -> None:
        """Serve the connections of `registry`."""
        super().__init__(settings, registry, queue)
        self.statuses: list[int] = []
        self.arrived = asyncio.Event()

    def respond(self, request: Request) -> ApiResponse:
        """Answer a request, and record the status."""
        response = super().respond(request)
        self._record(request, response.status if isinstance(response, OutgoingResponse) else OK.status)
        return response

    def body_limit(self, request: Request) -> int:
        """Refuse a request by its head, and record the status."""
        try:
            return super().body_limit(request)
        except HTTPError as error:
            self._record(request, error.status)
            raise

    def _record(self, request: Request, status: int) -> None:
        if request.target not in _HEALTH:
            self.statuses.append(status)
            self.arrived.set()


class DirectExchange(Exchange):
    """A request outside of any order. `done`: its outcome."""

    __slots__ = ("done", "explanation")

    def __init__(self, request: bytes, timeout: float, done: "asyncio.Future[Outcome]") -> None:
        """Send `request`, which may wait for a connection for `timeout` seconds."""
        super().__init__(request, timeout, retried=False)
        self.done = done
        self.explanation = NO_EXPLANATION

    def explain(self, detail: str, advice: str) -> None:
        """Keep what is known about a failure."""
        self.explanation = detail, advice

    def answered(self, outcome: Outcome) -> None:
        """Report the outcome."""
        if not self.done.done():
            self.done.set_result(outcome)
