"""A response that is not there yet: another process has to be asked for it.

The protocol of the connection holds the place of its request until the response comes, so that pipelined responses
leave in the order of their requests.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from wsaas.http.serialize import OutgoingResponse


class DeferredState(Enum):
    """How far a deferred response is.

    PENDING: its response is awaited. RESOLVED: the response was passed on. CANCELLED: nobody waits for it any more.
    """

    PENDING = "pending"
    RESOLVED = "resolved"
    CANCELLED = "cancelled"


PENDING: Final = DeferredState.PENDING
RESOLVED: Final = DeferredState.RESOLVED
CANCELLED: Final = DeferredState.CANCELLED

TRANSITIONS: dict[DeferredState, dict[DeferredState, str]] = {
    PENDING: {
        RESOLVED: "the response came",
        CANCELLED: "the caller went away, the deadline passed, or the node stops",
    },
    RESOLVED: {},
    CANCELLED: {},
}
"""The reason for each transition, by the state before and the state after."""


class DeferredResponse:
    """A response that comes later, at most once.

    Code that returns one calls `resolve` later, and not before its caller has called `on_response`. `deadline`: the
    time (monotonic seconds) at which the wait is over and the client of the REST API gets 504.
    """

    __slots__ = ("_cancelled", "_resolved", "deadline", "state")

    def __init__(self, deadline: float, cancelled: Callable[[], None]) -> None:
        """Call `cancelled` when nobody waits for the response any more."""
        self._cancelled = cancelled
        self._resolved: Callable[[OutgoingResponse], None] = _unexpected
        self.deadline = deadline
        self.state = PENDING

    def on_response(self, resolved: Callable[[OutgoingResponse], None]) -> None:
        """Call `resolved` with the response when it comes, unless the wait is cancelled."""
        self._resolved = resolved

    def resolve(self, response: OutgoingResponse) -> None:
        """Pass the response to the callback. Does nothing after `cancel`, as both may happen at the same time."""
        if self.state is not CANCELLED:
            self._move(RESOLVED)
            self._resolved(response)

    def cancel(self) -> None:
        """Stop waiting: a response that comes later is dropped."""
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
