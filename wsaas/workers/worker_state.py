"""The states of a worker, as the supervisor sees them."""

from enum import Enum


class WorkerState(Enum):
    """The state of a worker. Only `WorkerProcess.set_state` changes it."""

    WAITING = "waiting"
    STARTING = "starting"
    REACHABLE = "reachable"
    LISTENING = "listening"
    ENDED = "ended"


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
WAITING, STARTING, REACHABLE, LISTENING, ENDED = WorkerState

_DIED = "its process ended"
_OVER = "its process ended, and the node is stopping"
TRANSITIONS: dict[WorkerState, dict[WorkerState, str]] = {
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
