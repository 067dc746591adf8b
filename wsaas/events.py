"""The events of a client, as data.

`Opened`, `Message` and `Closed` are the events that are sent to the backend, as POST, PUT and DELETE.
`delivery.event_bodies` turns them into JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar


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
