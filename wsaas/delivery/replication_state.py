"""The states of the replication to NATS, and every transition between them.

=========  =========================================================================================================
state      what is published
=========  =========================================================================================================
OFFLINE    nothing: there is no connection to NATS, or the lease of this process is not valid
PROBING    one write at a time, until one is acknowledged: NATS has refused a write, or has not acknowledged it in time
ONLINE     every change at once, and up to `MAX_REWRITES` earlier ones that are not replicated yet
=========  =========================================================================================================
"""

from enum import Enum
from typing import Final


class State(Enum):
    """What is published. See the table in the module's docstring."""

    OFFLINE = "offline"
    PROBING = "probing"
    ONLINE = "online"

    __hash__ = object.__hash__
    """Hash by identity: `Enum` hashes the name, in Python code."""


OFFLINE: Final = State.OFFLINE
PROBING: Final = State.PROBING
ONLINE: Final = State.ONLINE

TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    OFFLINE: {
        PROBING: "NATS can be reached, and the lease is valid",
    },
    PROBING: {
        ONLINE: "a write was acknowledged, or nothing waits any more",
        OFFLINE: "the connection to NATS was lost, or the lease is over",
    },
    ONLINE: {
        PROBING: "a write was refused, or not acknowledged in time",
        OFFLINE: "the connection to NATS was lost, or the lease is over",
    },
}
"""The reason for each transition, by the state before and the state after."""
