"""The states of an outbox, and every transition between them.

One event is *current* while it is being delivered; the others wait in the inbox. The state says what happens to the
current event:

===========  ============================================  =====================================================
state        what happens to the current event             how it is left
===========  ============================================  =====================================================
IDLE         there is none                                 a new event, or the next one of the inbox
DELAYED      a `Closed` waits until its delay is over      the timer, or `skip_delay`
DELIVERING   its request is under way                      the verdict on the outcome
BACKING_OFF  it failed, and waits for its own timer        the timer
QUEUED       it waits in the queue of the circuit breaker  `attempt`, or `give_up_overdue`
DONE         the `Closed` was delivered, or given up       never
ABANDONED    there is none: nothing further is sent        never
===========  ============================================  =====================================================

An outbox can be *held* in any state: while its client does not read the replies, it starts no further event, but the
current one continues.
"""

from enum import Enum
from typing import Final


class State(Enum):
    """What happens to the current event. See the table in the module's docstring."""

    IDLE = "idle"
    DELAYED = "delayed"
    DELIVERING = "delivering"
    BACKING_OFF = "backing off"
    QUEUED = "queued"
    DONE = "done"
    ABANDONED = "abandoned"

    __hash__ = object.__hash__
    """Hash by identity: `Enum` hashes the name, in Python code."""


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
IDLE: Final = State.IDLE
DELAYED: Final = State.DELAYED
DELIVERING: Final = State.DELIVERING
BACKING_OFF: Final = State.BACKING_OFF
QUEUED: Final = State.QUEUED
DONE: Final = State.DONE
ABANDONED: Final = State.ABANDONED

TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    IDLE: {
        DELAYED: "a Closed with a delay",
        DELIVERING: "sent at once",
        QUEUED: "the circuit breaker is not closed",
        ABANDONED: "abandoned",
    },
    DELAYED: {
        DELIVERING: "the delay is over",
        QUEUED: "the delay is over, but the circuit breaker is not closed",
        ABANDONED: "abandoned",
    },
    DELIVERING: {
        IDLE: "delivered, or given up",
        BACKING_OFF: "failed, to be retried",
        QUEUED: "failed, to be retried when the circuit breaker allows it",
        DONE: "the Closed was delivered, or given up",
        ABANDONED: "abandoned",
    },
    BACKING_OFF: {
        DELIVERING: "the retry is due",
        QUEUED: "the retry is due, but the circuit breaker is not closed",
        ABANDONED: "abandoned",
    },
    QUEUED: {
        DELIVERING: "the circuit breaker allows it",
        IDLE: "given up in the queue",
        DONE: "the Closed was given up in the queue",
        ABANDONED: "abandoned",
    },
    DONE: {},
    ABANDONED: {},
}
"""The reason for each transition, by the state before and the state after."""
