"""What a session needs of its client's socket: before the 101 a `PendingClient`, from then on a `ClientConnection`."""

from typing import Protocol

from wsaas.errors import HTTPError


class PendingClient(Protocol):
    """The socket of a client whose handshake waits for the backend's word."""

    def accept(self, subprotocol: str | None, early: bytes) -> "ClientConnection":
        """Send the 101 and `early` behind it; return the connection that goes on from here."""

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error` instead, and close."""


class ClientConnection(Protocol):
    """The socket of a client that is in."""

    def start(self) -> None:
        """Read what the client sent so far."""

    def write(self, frame: bytes) -> None:
        """Send a frame, or buffer it."""

    def buffered(self) -> int:
        """Return how many bytes wait for the client."""

    def expect_close(self) -> None:
        """Give the client its time to answer a Close."""

    def close_gracefully(self) -> None:
        """Send what is buffered and end the connection."""

    def pause(self) -> None:
        """Do not read the client."""

    def resume(self) -> None:
        """Read the client again."""


class RefusableConnection(ClientConnection, Protocol):
    """The connection of a session whose client waits for the answer to its handshake."""

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error`, and close."""


class NoConnection:
    """Stands in where there is no socket: nothing can be read, and what is written is lost."""

    __slots__ = ()

    def start(self) -> None:
        """Do nothing."""

    def write(self, frame: bytes) -> None:
        """Do nothing."""

    def buffered(self) -> int:
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


NO_CONNECTION: ClientConnection = NoConnection()
"""The connection of a client that is gone."""
