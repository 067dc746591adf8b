"""One response made of what this process and its peers answer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from wsaas.api.route import Response
from wsaas.errors import HTTPError
from wsaas.http.deferred import CANCELLED, DeferredResponse
from wsaas.http.serialize import OutgoingResponse, error_response


class PeerAnswers:
    """Waits for the peers, and for this process. The links to the peers see to it that each of them answers in time."""

    __slots__ = ("_deferred", "_pending", "_respond")

    def __init__(self, respond: Callable[[], OutgoingResponse]) -> None:
        """Wait for this process. `respond`: called at the end for the response."""
        self._deferred: DeferredResponse | None = None
        self._pending = 1
        self._respond = respond

    def ask(self, request: Callable[[], DeferredResponse], on_answer: Callable[[OutgoingResponse], None]) -> None:
        """Make a `request` to a peer, before `done`.

        `on_answer`: called with its response, or with the error that stands for it.
        """
        try:
            deferred = request()
        except HTTPError as error:
            on_answer(error_response(error))
        else:
            self.wait_for(deferred, on_answer)

    def wait_for(self, deferred: DeferredResponse, on_answer: Callable[[OutgoingResponse], None]) -> None:
        """Wait for the response of a peer, too. `on_answer`: called with it."""
        self._pending += 1
        deferred.on_response(partial(self._answered, on_answer))

    @property
    def is_cancelled(self) -> bool:
        """Whether the response is not wanted any more."""
        return self._deferred is not None and self._deferred.state is CANCELLED

    def done(self) -> None:
        """This process is done."""
        self._one_done()

    def response(self, deadline: float) -> Response:
        """Return the response, which is due by `deadline` (monotonic seconds) if it is deferred."""
        if not self._pending:
            return self._respond()
        self._deferred = DeferredResponse(deadline, ignore)
        return self._deferred

    def _answered(self, on_answer: Callable[[OutgoingResponse], None], answer: OutgoingResponse) -> None:
        on_answer(answer)
        self._one_done()

    def _one_done(self) -> None:
        self._pending -= 1
        if not self._pending and self._deferred is not None:
            self._deferred.resolve(self._respond())


def missing_at(peer: str, answer: Mapping[str, Any]) -> list[str]:
    """Return names for the workers of the node `peer` that its `answer` says are missing."""
    return [f"{each} of {peer}" for each in answer.get("missing", ())]


def ignore() -> None:
    """Do nothing."""
