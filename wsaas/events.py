"""What happens to a client, as data that all packages share.

`Opened`, `Message` and `Closed` are the events that are sent to the backend, as POST, PUT and DELETE; `Reason` says why
a client ended. `delivery.event_bodies` turns them into JSON.
"""

from collections.abc import Mapping, Sequence
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
    """A client asks to connect. `at`: seconds since the epoch; `timeout_ms`: what `WS_TIMEOUT` is set to.

    The rest is what its handshake says. A traceback shows none of what may be secret.
    """

    at: float
    id: str
    ws_uri: str
    timeout_ms: int
    remote_address: str
    path: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    subprotocols: Sequence[str]
    number: ClassVar[int] = 0


@dataclass(slots=True)
class Message:
    """A client sent a message: `data` as it is, which is valid UTF-8 when `text`."""

    text: bool
    data: bytes
    at: float = 0.0
    number: int = 0


@dataclass(slots=True)
class Disconnect:
    """How a connection ended. `code` and `reason`: those of the Close that went over the wire; `duration_ms`: its life.

    Of one that was lost with its gateway, the numbers of messages are not known: they are None.
    """

    ws_uri: str
    code: int
    reason: str
    duration_ms: int
    messages_in: int | None = None
    messages_out: int | None = None
    undelivered: int | None = None


@dataclass(slots=True)
class Closed:
    """A client is gone. `at`: seconds since the epoch; `delay`: seconds before it is sent.

    `disconnect`: what the backend is told. It is empty until all events before are done, as they count, and never
    changes from then on; where an earlier process had sent it, it is the body that the journal kept, so that it is sent
    again byte by byte. The number is the same whoever sends the event, and whatever it knows of those before.
    """

    at: float
    delay: float = 0.0
    disconnect: Disconnect | bytes = b""
    number: ClassVar[str] = "end"


Event = Opened | Message | Closed
