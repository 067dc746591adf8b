"""Why reading from a connection is paused."""

from enum import Enum
from typing import Final


class PauseReason(Enum):
    """One reason not to read a connection. Several may apply at the same time."""

    CONSUMER = "the session or protocol asked not to receive more"
    TURN = "other connections have their turn"
    RATE = "the client sent more than MAX_MESSAGE_RATE"
    MEMORY = "memory is short and the client uses too much of it"

    __hash__ = object.__hash__
    """The hash of `Enum` is computed from the name, in Python."""


# Bound once: up to Python 3.11, reading a member from its class is a call in Python.
CONSUMER: Final = PauseReason.CONSUMER
TURN: Final = PauseReason.TURN
RATE: Final = PauseReason.RATE
MEMORY: Final = PauseReason.MEMORY

PauseReasons = frozenset[PauseReason]

NOT_PAUSED: Final[PauseReasons] = frozenset()
