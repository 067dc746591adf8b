"""The states of a session, and every transition between them.

=============  ====================================================================================================
state          what it means
=============  ====================================================================================================
CONNECTING     the backend has not decided yet whether the client may connect
OPEN           messages flow in both directions
CLOSING        the gateway has sent a Close, and waits for the client's
DISCONNECTED   the socket is closed, but received data is still unread
CLOSED         the socket is closed and all received data was read; the outbox may still deliver events
=============  ====================================================================================================
"""

from enum import Enum
from typing import Final


class State(Enum):
    """The states of a session. See the table in the module's docstring."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"

    __hash__ = object.__hash__
    """Hash by identity: `Enum` hashes the name, in Python code."""


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
CONNECTING: Final = State.CONNECTING
OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
DISCONNECTED: Final = State.DISCONNECTED
CLOSED: Final = State.CLOSED

TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    CONNECTING: {
        OPEN: "the backend accepted the client",
        CLOSED: "the client was refused, or went away",
    },
    OPEN: {
        CLOSING: "the gateway sent a Close",
        DISCONNECTED: "the socket is closed, but received data is still unread",
        CLOSED: "the client sent a Close, broke the protocol, or went away",
    },
    CLOSING: {
        DISCONNECTED: "the socket is closed, but received data is still unread",
        CLOSED: "the client answered the Close, broke the protocol, went away, or did not answer in time",
    },
    DISCONNECTED: {
        CLOSED: "all received data was read",
    },
    CLOSED: {},
}
"""The reason for each transition, by the state before and the state after."""
