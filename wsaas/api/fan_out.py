"""The response to a request about many clients: at once where the work is small, else deferred."""

from collections.abc import Hashable

import orjson

from wsaas.api.route import Response
from wsaas.clock import Clock
from wsaas.http.deferred import DeferredResponse
from wsaas.http.serialize import OutgoingResponse, error_response
from wsaas.sessions.fan_out import FanOut, FanOutQueue


class FanOutRunner:
    """Starts work on many clients and answers with its summary."""

    __slots__ = ("_clock", "_queue", "_timeout")

    def __init__(self, queue: FanOutQueue, clock: Clock, timeout: float) -> None:
        """Let a caller wait for `timeout` seconds at most."""
        self._clock = clock
        self._queue = queue
        self._timeout = timeout

    def run(self, work: FanOut, channel: Hashable) -> Response:
        """Start `work` on `channel` and return the response. Raises `TooManyRequests`.

        The work goes on where the caller goes away meanwhile: some clients have been served already.
        """
        self._queue.start(work, channel)
        if work.is_done:
            return _response(work)
        deferred = DeferredResponse(self._clock.now() + self._timeout, _ignore)
        work.on_done = lambda: deferred.resolve(_response(work))
        return deferred


def _response(work: FanOut) -> OutgoingResponse:
    if work.error is not None:
        return error_response(work.error)
    return OutgoingResponse(200, orjson.dumps({"code": "OK", **work.summary(), "missing": []}))


def _ignore() -> None:
    """Do nothing."""
