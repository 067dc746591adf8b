"""A response that is produced later, because another process has to answer the request.

The HTTP protocol keeps the place of the request in the pipeline, so that responses leave in the order of their
requests.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from wsaas.http.serialize import OutgoingResponse


class DeferredState(Enum):
    """The state of a deferred response.

    PENDING: not resolved yet. RESOLVED: the response was passed to the callback. CANCELLED: a response is not wanted
    any more.
    """

    __hash__ = object.__hash__  # that of `Enum` is a function in Python

    PENDING = "pending"
    RESOLVED = "resolved"
    CANCELLED = "cancelled"


PENDING: Final = DeferredState.PENDING
RESOLVED: Final = DeferredState.RESOLVED
CANCELLED: Final = DeferredState.CANCELLED

TRANSITIONS: Final[dict[DeferredState, dict[DeferredState, str]]] = {
    PENDING: {
        RESOLVED: "the response arrived",
        CANCELLED: "the caller went away, the deadline passed, or the node is stopping",
    },
    RESOLVED: {},
    CANCELLED: {},
}
"""The reason for each transition, by the state before and the state after."""


class DeferredResponse:
    """A response that arrives later, at most once.

    The producer calls `resolve`, never before the consumer has called `on_response`. `deadline`: the time (monotonic
    seconds) at which the caller of the REST API gets 504 instead.
    """

    __slots__ = ("_cancelled", "_resolved", "deadline", "state")

    def __init__(self, deadline: float, cancelled: Callable[[], None]) -> None:
        """Call `cancelled` when the response is not wanted any more."""
        self._cancelled = cancelled
        self._resolved: Callable[[OutgoingResponse], None] = _unexpected
        self.deadline = deadline
        self.state = PENDING

    def on_response(self, resolved: Callable[[OutgoingResponse], None]) -> None:
        """Call `resolved` with the response when it arrives, unless `cancel` is called first."""
        self._resolved = resolved

    def resolve(self, response: OutgoingResponse) -> None:
        """Pass `response` to the callback. Does nothing after `cancel`, since the two may race."""
        if self.state is not CANCELLED:
            self._move(RESOLVED)
            self._resolved(response)

    def cancel(self) -> None:
        """Stop waiting: drop a response that arrives later."""
        self._move(CANCELLED)
        self._cancelled()

    def give_up(self, response: OutgoingResponse) -> None:
        """Cancel, and pass `response` to the callback instead."""
        self.cancel()
        self._resolved(response)

    def _move(self, state: DeferredState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"a deferred response that is {self.state.value} cannot be {state.value}")
        self.state = state


def _unexpected(response: OutgoingResponse) -> None:
    raise AssertionError(f"a response with status {response.status} came before on_response was called")
