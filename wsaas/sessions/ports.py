"""What a session needs of the socket of its client: a `PendingClient` before the 101, then a `ClientConnection`."""

from typing import Final, Protocol

from wsaas.errors import HTTPError
from wsaas.websocket.frames import Received


class ConnectionRecorder(Protocol):
    """Records what happens on the connection of a watched client."""

    def accepted(self, subprotocol: str | None) -> None:
        """The client was sent its 101."""

    def refused(self, error: HTTPError) -> None:
        """The handshake was answered with `error`."""

    def received(self, received: Received) -> None:
        """The client sent a message or a control frame, or broke the protocol."""

    def sent(self, data: bytes) -> None:
        """Complete frames were written to the client."""


class PendingClient(Protocol):
    """The socket of a client whose handshake waits for the backend's decision."""

    def accept(self, subprotocol: str | None, first_frames: bytes) -> "ClientConnection":
        """Send the 101 followed by `first_frames`; return the connection that takes over."""

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error`, and close."""


class FrameTransport(Protocol):
    """Takes frames for a client. Each `asyncio.Transport` does.

    The session keeps it beside the connection: with no object in between, a publish to many clients waits for less
    memory that is not in the cache.
    """

    def write(self, data: bytes, /) -> None:
        """Send `data`, or buffer it."""

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are buffered for the client."""


class ClientConnection(Protocol):
    """The socket of an accepted client."""

    def watch(self, recorder: ConnectionRecorder) -> None:
        """Report to `recorder` what is received and sent. The caller calls `Session.attach` next."""

    def unwatch(self) -> None:
        """Report nothing any more. The caller calls `Session.attach` next."""

    @property
    def transport(self) -> FrameTransport:
        """What the session writes frames to."""

    def start(self) -> None:
        """Read what the client has sent so far."""

    def expect_close(self) -> None:
        """Start the time-out of the client's answer to a Close."""

    def close_gracefully(self) -> None:
        """Send what is buffered, then close the connection."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read from the client again."""


class RefusableConnection(ClientConnection, Protocol):
    """The connection of a session whose client waits for the answer to its handshake."""

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error`, and close."""


class NoConnection:
    """Stands in where there is no socket: there is nothing to read, and frames are dropped."""

    __slots__ = ()

    @property
    def transport(self) -> FrameTransport:
        """This object."""
        return self

    def start(self) -> None:
        """Do nothing."""

    def write(self, data: bytes, /) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return 0."""
        return 0

    def expect_close(self) -> None:
        """Do nothing."""

    def close_gracefully(self) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def watch(self, recorder: ConnectionRecorder) -> None:
        """Do nothing."""

    def unwatch(self) -> None:
        """Do nothing."""


NO_CONNECTION: Final[ClientConnection] = NoConnection()
"""The connection of a session whose client has disconnected."""
