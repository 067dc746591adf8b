"""The states of a link to another process."""

from enum import Enum
from typing import Final


class LinkState(Enum):
    """The state of a link.

    IDLE: there is no connection, and no request needs one. CONNECTING: requests wait for the connection. FAILED: no
    connection could be opened, and the next check tries again. CLOSED: the peer is gone, or the node is stopping.
    """

    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


IDLE: Final = LinkState.IDLE
CONNECTING: Final = LinkState.CONNECTING
CONNECTED: Final = LinkState.CONNECTED
FAILED: Final = LinkState.FAILED
CLOSED: Final = LinkState.CLOSED

_THE_END: Final = "the peer is gone, or the node is stopping"
TRANSITIONS: Final[dict[LinkState, dict[LinkState, str]]] = {
    IDLE: {CONNECTING: "a request has to be sent", CLOSED: _THE_END},
    CONNECTING: {
        CONNECTED: "the connection is open",
        FAILED: "the connection could not be opened",
        CLOSED: _THE_END,
    },
    CONNECTED: {
        IDLE: "the connection was lost, or idle for too long",
        CONNECTING: "the connection was lost, and requests were not sent yet",
        CLOSED: _THE_END,
    },
    FAILED: {
        IDLE: "no request is left",
        CONNECTING: "the next check",
        CLOSED: _THE_END,
    },
    CLOSED: {},
}
"""The reason for each transition, by the state before and the state after."""
