"""The events of a client, as data.

`Opened`, `Message` and `Closed` are the events that are sent to the backend, as POST, PUT and DELETE.
`delivery.event_bodies` turns them into JSON.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class _Event:  # noqa: PLW1641 - one that changes has no hash
    """Compares events as values. They are not dataclasses: compiled, those are made slowly."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """Return whether `other` is an equal event."""
        return isinstance(other, _Event) and type(other) is type(self) and self._values() == other._values()

    def __repr__(self) -> str:
        """Show the values."""
        return f"{type(self).__name__}{self._values()}"

    @abstractmethod
    def _values(self) -> tuple[object, ...]:
        """Return the values."""


class Opened(_Event):
    """A client asks to connect. `at`: seconds since the epoch; `timeout_ms`: `WS_TIMEOUT` in milliseconds.

    The other fields come from the handshake. Those may hold secrets.
    """

    __slots__ = (
        "at",
        "headers",
        "id",
        "path",
        "query",
        "remote_address",
        "subprotocols",
        "timeout_ms",
        "ws_uri",
    )

    number: ClassVar[int] = 0

    def __init__(  # noqa: PLR0913, PLR0917 - it only keeps them
        self,
        at: float,
        connection_id: str,
        ws_uri: str,
        timeout_ms: int,
        remote_address: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        subprotocols: Sequence[str],
    ) -> None:
        """Keep the values."""
        self.at = at
        self.headers = headers
        self.id = connection_id
        self.path = path
        self.query = query
        self.remote_address = remote_address
        self.subprotocols = subprotocols
        self.timeout_ms = timeout_ms
        self.ws_uri = ws_uri

    def __repr__(self) -> str:
        """Show what holds no secret."""
        return f"Opened({self.at}, {self.ws_uri!r})"

    def _values(self) -> tuple[object, ...]:
        texts = self.id, self.ws_uri, self.remote_address, self.path, self.query
        return self.at, self.timeout_ms, self.headers, self.subprotocols, *texts


class Message(_Event):
    """A client sent a message. `data`: its payload, valid UTF-8 if `text`; `at`: seconds since the epoch.

    `number`: 1 for the first message of the connection, and so on.
    """

    __slots__ = ("at", "data", "number", "text")

    def __init__(self, text: bool, data: bytes, at: float = 0.0, number: int = 0) -> None:
        """Keep the values."""
        self.at = at
        self.data = data
        self.number = number
        self.text = text

    def _values(self) -> tuple[object, ...]:
        return self.text, self.data, self.at, self.number


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


class Closed(_Event):
    """A client has disconnected. `at`: seconds since the epoch; `delay`: seconds before the event is sent.

    `disconnect`: the content of the DELETE. Empty until all earlier events are done, since its counters depend on them;
    it does not change afterwards. If an earlier process sent the DELETE, it is the body from the journal, so that the
    same bytes are sent again. `number` is a constant, so every process sends the same `ce-id`.
    """

    __slots__ = ("at", "delay", "disconnect")

    number: ClassVar[str] = "end"

    def __init__(self, at: float, delay: float = 0.0, disconnect: Disconnect | bytes = b"") -> None:
        """Keep the values."""
        self.at = at
        self.delay = delay
        self.disconnect = disconnect

    def _values(self) -> tuple[object, ...]:
        return self.at, self.delay, self.disconnect


Event = Opened | Message | Closed
