"""The states of a worker, as the supervisor sees them."""

from enum import Enum
from typing import Final


class WorkerState(Enum):
    """The state of a worker. Only `WorkerProcess.set_state` changes it."""

    WAITING = "waiting"
    STARTING = "starting"
    REACHABLE = "reachable"
    LISTENING = "listening"
    ENDED = "ended"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
WAITING: Final = WorkerState.WAITING
STARTING: Final = WorkerState.STARTING
REACHABLE: Final = WorkerState.REACHABLE
LISTENING: Final = WorkerState.LISTENING
ENDED: Final = WorkerState.ENDED

_DIED: Final = "its process ended"
_OVER: Final = "its process ended, and the node is stopping"
TRANSITIONS: Final[dict[WorkerState, dict[WorkerState, str]]] = {
    WAITING: {
        STARTING: "the back-off is over",
        WAITING: "its process could not be started",
        ENDED: "the node is stopping",
    },
    STARTING: {REACHABLE: "the other workers can reach it", WAITING: _DIED, ENDED: _OVER},
    REACHABLE: {LISTENING: "all other workers know it, and it listens", WAITING: _DIED, ENDED: _OVER},
    LISTENING: {WAITING: _DIED, ENDED: _OVER},
    ENDED: {},
}
