"""Why a connection is not read."""

from enum import Enum


class Hold(Enum):
    """One reason not to read a connection. There may be several at a time."""

    CONSUMER = "what was read before has not been taken yet"
    TURN = "other connections have their turn"
    RATE = "it sent more than MAX_MESSAGE_RATE"
    MEMORY = "it holds too much while memory is short"

    __hash__ = object.__hash__
    """The hash of `Enum` is computed from the name, in Python."""


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
CONSUMER, TURN, RATE, MEMORY = Hold

Holds = frozenset[Hold]

NOT_HELD: Holds = frozenset()
