"""What is known of a client, and what the backend is told of it at its end."""

import orjson

from wsaas.clock import Clock
from wsaas.events import Reason
from wsaas.websocket.handshake import Handshake


class ConnectionInfo:
    """What is known of a client.

    `order`: its number among the clients of this process, and after its end among those that ended. Times:
    `connected_at` in seconds since the epoch; `since`, the same, `last_seen` and `ended` (0 before) on the monotonic
    clock. `messages_undelivered`: those of `messages_in` that were given up.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "close_code",
        "close_text",
        "connected_at",
        "context",
        "ended",
        "id",
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

    def __init__(self, connection_id: str, handshake: Handshake, remote_address: str, clock: Clock) -> None:
        """Take down what the handshake of a client tells."""
        self.since = self.last_seen = clock.now()
        self.bytes_in = self.bytes_out = self.messages_in = self.messages_out = self.messages_undelivered = 0
        self.close_code = Reason.CLIENT_LOST.code
        self.close_text = ""
        self.connected_at = clock.wall()
        self.context: str | None = None
        self.ended = 0.0
        self.id = connection_id
        self.order = 0
        self.path = handshake.path
        self.query = handshake.query
        self.remote_address = remote_address
        self.subprotocol: str | None = None

    def note_close(self, code: int, text: str) -> None:
        """Remember what a Close said that went over the wire, in whichever direction; only the first one counts."""
        if self.close_code == Reason.CLIENT_LOST.code:
            self.close_code, self.close_text = code, text

    def farewell(self, ws_uri: str) -> bytes:
        """Return the JSON of a DELETE: how the client, whom the backend knows as `ws_uri`, ended."""
        body = orjson.dumps(
            {
                "ws_uri": ws_uri,
                "code": self.close_code,
                "reason": self.close_text,
                "duration": round((self.ended - self.since) * 1000),
                "messages_in": self.messages_in,
                "messages_out": self.messages_out,
                "undelivered": self.messages_undelivered,
            }
        )
        # orjson leaves its buffer of some kilobytes behind the bytes: a copy may be kept for long.
        return bytes(memoryview(body))
