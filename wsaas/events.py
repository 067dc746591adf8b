"""The events of a client, as data.

`Opened`, `Message` and `Closed` are the events that are sent to the backend, as POST, PUT and DELETE; `Reason` says why
a client ended. `delivery.event_bodies` turns them into JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


class Reason(Enum):
    """Why a connection ended.

    `code`: the WebSocket close code (RFC 6455 section 7.4.1), unless the client or the backend chose another; 1006 if
    no Close was sent. `is_final`: the connection is closed right after the Close, without waiting for an answer.
    """

    code: int
    is_final: bool

    __hash__ = object.__hash__
    """Hash by identity: `Enum` hashes the name, in Python code."""

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
    SLOW_CLIENT = ("slow client", 1013, True)
    VIOLATION = ("protocol violation", 1002)
    BACKEND_CLOSED = ("closed by backend", 1000)
    BACKEND_GONE = ("backend gone", 1000)
    TOO_LARGE = ("message too large", 1009)
    UNDELIVERED = ("message not delivered", 1011)
    SHUTDOWN = ("going away", 1001)
    REFUSED = ("refused", 1006)
    DECLARED_DEAD = ("node declared dead", 1012)
    GATEWAY_LOST = ("gateway lost", 1006)


@dataclass(slots=True)
class Opened:
    """A client asks to connect. `at`: seconds since the epoch; `timeout_ms`: `WS_TIMEOUT` in milliseconds.

    The other fields come from the handshake. Fields that may hold secrets are left out of the representation.
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
    """A client sent a message. `data`: its payload, valid UTF-8 if `text`; `at`: seconds since the epoch.

    `number`: 1 for the first message of the connection, and so on.
    """

    text: bool
    data: bytes
    at: float = 0.0
    number: int = 0


@dataclass(slots=True)
class Disconnect:
    """How a connection ended. `code`, `reason`: from the Close; `duration_ms`: the time from handshake to end.

    The counters are None for a connection that was lost with its process.
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
    """A client has disconnected. `at`: seconds since the epoch; `delay`: seconds before the event is sent.

    `disconnect`: the content of the DELETE. Empty until all earlier events are done, since its counters depend on them;
    it does not change afterwards. If an earlier process sent the DELETE, it is the body from the journal, so that the
    same bytes are sent again. `number` is a constant, so every process sends the same `ce-id`.
    """

    at: float
    delay: float = 0.0
    disconnect: Disconnect | bytes = b""
    number: ClassVar[str] = "end"


Event = Opened | Message | Closed
