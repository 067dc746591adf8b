"""What happens to a client, in the words that every floor shares.

`Opened`, `Message` and `Closed` are the three events that a backend is told of; `Reason` says why a
client ended. Nothing here knows HTTP, WebSocket bytes, time or the loop.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


class Reason(Enum):
    """Every way in which a client can end.

    `code`: the WebSocket close code (RFC 6455 section 7.4.1) that goes with it where the gateway decides it; 1006 where
    nobody sent one. `is_final`: the connection is closed right behind the Close, whose answer is not waited for.
    """

    code: int
    is_final: bool

    def __new__(cls, label: str, code: int, is_final: bool = False) -> "Reason":  # noqa: PYI034 - Self needs 3.11
        """Make a member whose value is its label."""
        member = object.__new__(cls)
        member._value_ = label
        member.code = code
        member.is_final = is_final
        return member

    CLIENT_CLOSED = ("client closed", 1005)
    CLIENT_LOST = ("client lost", 1006)
    TIMED_OUT = ("timeout", 1001, True)
    OUT_OF_MEMORY = ("out of memory", 1013, True)
    VIOLATION = ("protocol violation", 1002)
    BACKEND_CLOSED = ("closed by backend", 1000)
    BACKEND_GONE = ("backend gone", 1000)
    TOO_LARGE = ("message too large", 1009)
    UNDELIVERED = ("message not delivered", 1011)
    SHUTDOWN = ("going away", 1001)
    REFUSED = ("refused", 1006)
    GATEWAY_LOST = ("gateway lost", 1006)


@dataclass(slots=True)
class Opened:
    """A client wants in. `at`: seconds since the epoch; `number`: the event's number in its connection."""

    body: bytes = field(repr=False)
    at: float
    number: int = 0


@dataclass(slots=True)
class Message:
    """A client sent a message: `data` as it is, which is valid UTF-8 when `text`."""

    text: bool
    data: bytes
    at: float = 0.0
    number: int = 0


@dataclass(slots=True)
class Closed:
    """A client is gone. `body`: the JSON that tells the backend how. `delay`: seconds before it is sent.

    Its number is the same whoever sends it, be it a gateway that knows nothing of the events before.
    """

    body: bytes
    at: float
    delay: float = 0.0
    number: ClassVar[str] = "end"


Event = Opened | Message | Closed
