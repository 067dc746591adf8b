"""The facts about one connection: its handshake, its times, its counters, and how it ended."""

from typing import Final

from wsaas.clock import Clock
from wsaas.delivery.webhook import Subject
from wsaas.events import Disconnect
from wsaas.reason import Reason
from wsaas.websocket.frames import Close
from wsaas.websocket.handshake import Handshake

NO_CLOSE: Final = Close(Reason.CLIENT_LOST.code, "")
"""Stands for the Close of a client that was lost without one."""


class ConnectionInfo(Subject):
    """The facts about a connection. Some are sent to the backend with every request (see `Subject`).

    Each has one writer: `order` the registry, `last_seen` the protocol of the socket, the others the session.

    `close`: the first Close that went over the wire, in either direction.
    `connected_at`: when the handshake arrived, in seconds since the epoch.
    `since`: the same moment, in monotonic seconds.
    `last_seen`: when data of the client last arrived or, while reading is paused, when its time-out was last checked
    (monotonic seconds).
    `ended`: when the client disconnected (monotonic seconds); 0 before that.
    `messages_undelivered`: how many of `messages_in` were given up.
    `order`: the serial number of the connection or, once it has ended, of its end.
    `remote_address`: empty if it is not known.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "close",
        "connected_at",
        "ended",
        "last_seen",
        "messages_in",
        "messages_out",
        "messages_undelivered",
        "order",
        "path",
        "query",
        "remote_address",
        "since",
        "subprotocol",
    )

    def __init__(self, connection_id: str, node: str, handshake: Handshake, remote_address: str, clock: Clock) -> None:
        """Describe the client that has just sent `handshake`. `node`: `WS_HOSTNAME`."""
        super().__init__(connection_id, node, handshake.authorization, None, handshake.trace)
        self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = self.messages_undelivered = 0
        self.close = NO_CLOSE
        self.connected_at = clock.wall()
        self.ended = 0.0
        self.order = 0
        self.path = handshake.path
        self.query = handshake.query
        self.remote_address = remote_address
        self.since = self.last_seen = clock.now()
        self.subprotocol: str | None = None

    def count_sent(self, messages: int, size: int) -> None:
        """Count messages that were sent to the client, `size` bytes in total. Negative numbers correct the count."""
        self.messages_out += messages
        self.bytes_out += size

    def note_close(self, close: Close) -> None:
        """Record a Close that went over the wire. Only the first counts."""
        if self.close is NO_CLOSE:
            self.close = close

    def disconnect(self) -> Disconnect:
        """Return how the connection ended."""
        return Disconnect(
            self.ws_uri,
            self.close.code,
            self.close.reason,
            round((self.ended - self.since) * 1000),
            self.messages_in,
            self.messages_out,
            self.messages_undelivered,
        )
