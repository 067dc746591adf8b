"""`POST /console/api/connections/{id}/replay`: sends a recorded request to the backend once more, and shows its answer.

It is sent outside the outbox, so it is not retried, and holds up no message. Nothing that its answer asks for is done.
"""

from functools import partial
from itertools import count
from typing import Any, Final

import orjson

from wsaas.api.connections import find_peer
from wsaas.api.message import refuse_content_coding
from wsaas.api.route import Response
from wsaas.cluster.router import Router
from wsaas.delivery.pool import Outcome
from wsaas.delivery.watched_webhook import Answer, Replayed, ReplayExchange, ReplayWebhook
from wsaas.errors import RETRY_AFTER, BadRequest, NotFound, TooManyRequests
from wsaas.http.deferred import DeferredResponse
from wsaas.http.request import Request
from wsaas.http.serialize import OutgoingResponse
from wsaas.sessions.registry import Registry
from wsaas.watching.events import Replayable, shown
from wsaas.watching.recorder import shown_outcome
from wsaas.watching.watcher import Watcher

MAX_BODY: Final = 1024
"""Bytes of the body of a request."""

MAX_REPLAYS: Final = 4
"""Requests that are sent again at a time, so that messages have nearly all connections to the backend."""

_EXAMPLE: Final = '{"seq": 17}'


class Replays:
    """The requests of this process that are sent again, whichever process was asked to do so."""

    __slots__ = ("_numbers", "_under_way", "_webhook")

    def __init__(self, webhook: ReplayWebhook) -> None:
        """Send nothing yet, and with `webhook` later."""
        self._numbers = count(1)
        self._under_way = 0
        self._webhook = webhook

    def send(self, replayable: Replayable) -> DeferredResponse:
        """Send a request again; return the response that shows its answer. Raises `TooManyRequests`."""
        if self._under_way >= MAX_REPLAYS:
            raise TooManyRequests(f"{MAX_REPLAYS} requests are being sent again already.", RETRY_AFTER)
        deferred = DeferredResponse(float("inf"), _ignore)
        self._under_way += 1
        replayed = Replayed(replayable.event, replayable.subject, replayable.webhook, next(self._numbers))
        self._webhook.replay(replayed, ReplayExchange(partial(self._answered, deferred)))
        return deferred

    def _answered(self, deferred: DeferredResponse, outcome: Outcome, answer: Answer) -> None:
        self._under_way -= 1
        fields: dict[str, Any] = shown({**shown_outcome(outcome, answer), "took_ms": answer.took * 1000})
        deferred.resolve(OutgoingResponse(200, orjson.dumps({"code": "OK", **fields})))


class ReplayResource:
    """Sends requests again."""

    __slots__ = ("_registry", "_replays", "_router", "_watcher")

    def __init__(self, registry: Registry, watcher: Watcher, router: Router, replays: Replays) -> None:
        """Send what `watcher` has recorded with `replays`."""
        self._registry = registry
        self._replays = replays
        self._router = router
        self._watcher = watcher

    def body_limit(self, _request: Request, _connection_id: str) -> int:
        """Return how many bytes of the body are needed."""
        return MAX_BODY

    def post(self, request: Request, connection_id: str) -> Response:
        """Send the request with the number in the body again.

        Raises `BadRequest`, `Gone`, `NotFound` when the request is not kept any more, and `TooManyRequests`.
        """
        watch = self._watcher.known(connection_id)
        if watch is None:
            if self._registry.remembered(connection_id) is not None:
                raise NotFound("This connection is not watched, so no request of it is kept.")
            return find_peer(self._router, request, connection_id).forward(request, connection_id)
        refuse_content_coding(request)
        event = watch.ring.find(_read_seq(request.body))
        if event is None or event.replayable is None:
            raise NotFound("There is no such request: it is not kept any more, or was too large to be kept.")
        return self._replays.send(event.replayable)


def _read_seq(body: bytes) -> int:
    """Return the number in the body. Raises `BadRequest`."""
    try:
        content: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    seq = content.get("seq") if isinstance(content, dict) else None
    if type(seq) is not int:
        raise BadRequest(f"The body must be JSON such as {_EXAMPLE}.")
    return seq


def _ignore() -> None:
    """Let the request go on: its caller went away."""
