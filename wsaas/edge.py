"""What a session needs of its client's socket: before the 101 a `Door`, from then on an `Edge`."""

from typing import Protocol

from wsaas.errors import Fault


class Door(Protocol):
    """The socket of a client whose handshake waits for the backend's word."""

    def accept(self, subprotocol: str | None, early: bytes) -> "Edge":
        """Send the 101 and `early` behind it; return the edge that goes on from here."""

    def refuse(self, fault: Fault) -> None:
        """Answer the handshake with `fault` instead, and close."""


class Edge(Protocol):
    """The socket of a client that is in."""

    def start(self) -> None:
        """Read what the client sent so far."""

    def write(self, frame: bytes) -> None:
        """Send a frame, or buffer it."""

    def buffered(self) -> int:
        """Return how many bytes wait for the client."""

    def expect_close(self) -> None:
        """Give the client its time to answer a Close."""

    def finish(self) -> None:
        """Send what is buffered and end the connection."""

    def pause(self) -> None:
        """Do not read the client."""

    def resume(self) -> None:
        """Read the client again."""


class _NoDoor:
    """What is left of a handshake that was decided: nothing to answer any more."""

    def accept(self, _subprotocol: str | None, _early: bytes) -> Edge:
        raise AssertionError("a handshake was answered twice")

    def refuse(self, _fault: Fault) -> None:
        raise AssertionError("a handshake was answered twice")


class _NoEdge:
    """What is left of the socket of a client that is gone, or not in yet: there is nothing to read or to write."""

    def start(self) -> None:
        """Do nothing."""

    def write(self, _frame: bytes) -> None:
        """Do nothing."""

    def buffered(self) -> int:
        """Return 0."""
        return 0

    def expect_close(self) -> None:
        """Do nothing."""

    def finish(self) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""


NO_DOOR: Door = _NoDoor()
NO_EDGE: Edge = _NoEdge()
