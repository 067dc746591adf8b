"""The states of a session, and the moves between them."""

from enum import Enum


class State(Enum):
    """How far a client is."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"

    __hash__ = object.__hash__
    """There is one of each: `Enum` hashes names, in Python."""


# A member of an enumeration is searched for each time, a name is there.
CONNECTING, OPEN, CLOSING, DISCONNECTED, CLOSED = State

MOVES: dict[State, set[State]] = {
    CONNECTING: {OPEN, CLOSED},
    OPEN: {CLOSING, DISCONNECTED, CLOSED},
    CLOSING: {DISCONNECTED, CLOSED},
    DISCONNECTED: {CLOSED},
    CLOSED: set(),
}
"""CONNECTING: the backend is asked. OPEN: messages flow. CLOSING: the gateway's Close waits for the client's.
DISCONNECTED: the client is gone, but some of what it sent was not handed on yet. CLOSED: all of it was; the backend may
still have to be told."""
