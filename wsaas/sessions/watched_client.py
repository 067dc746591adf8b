"""What takes the place of parts of a session while its client is watched. What it sends stays the same."""

from typing import Protocol

from wsaas.errors import HTTPError
from wsaas.sessions.ports import ClientConnection, ConnectionRecorder, PendingClient
from wsaas.websocket.frames import Encoder


class WatchedClient(PendingClient):
    """A client that waits for the answer to its handshake, and whose connection is watched from the 101 on.

    `client`: the client itself.
    """

    __slots__ = ("_recorder", "client")

    def __init__(self, client: PendingClient, recorder: ConnectionRecorder) -> None:
        """Report the answer to `recorder`."""
        self._recorder = recorder
        self.client = client

    def accept(self, subprotocol: str | None, first_frames: bytes) -> ClientConnection:
        """Send the 101 followed by `first_frames`; return the connection that takes over."""
        connection = self.client.accept(subprotocol, first_frames)
        self._recorder.accepted(subprotocol)
        if first_frames:
            self._recorder.sent(first_frames)
        connection.watch(self._recorder)
        return connection

    def refuse(self, error: HTTPError) -> None:
        """Answer the handshake with `error`, and close."""
        self.client.refuse(error)
        self._recorder.refused(error)


class EncoderRecorder(Protocol):
    """Records the messages for a watched client."""

    def encoded(self, frame: bytes, opcode: int, data: bytes, *, shared: bool) -> None:
        """A message became a `frame`, which is written next, or never. `shared`: it goes to many clients."""


class WatchedEncoder:
    """The encoder of a watched session. `encode`: the usual one."""

    __slots__ = ("_recorder", "encode")

    def __init__(self, encode: Encoder, recorder: EncoderRecorder) -> None:
        """Report each message to `recorder`."""
        self._recorder = recorder
        self.encode = encode

    def __call__(self, opcode: int, data: bytes) -> bytes:
        """Return the frame of a message for this client."""
        frame = self.encode(opcode, data)
        self._recorder.encoded(frame, opcode, data, shared=False)
        return frame

    def shared(self, opcode: int, data: bytes) -> bytes:
        """Return the frame of a message for many clients."""
        frame = self.encode(opcode, data)
        self._recorder.encoded(frame, opcode, data, shared=True)
        return frame
