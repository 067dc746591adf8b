"""A client without a socket, and its handshake."""

from collections.abc import Iterable, Sequence
from typing import Final

from wsaas import __version__
from wsaas.errors import HTTPError
from wsaas.sessions.ports import ClientConnection, NoConnection
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import OPEN
from wsaas.websocket.handshake import Handshake

MARK: Final = "wsaas-check"
"""The header in the handshakes of a check, by which a backend can recognize them."""

CREDENTIALS: Final = frozenset({"authorization", "cookie"})


class Client(NoConnection):
    """Stands for the socket of a client: what it is sent is dropped.

    `refusal`: the error that answered its handshake, None if it was accepted.
    """

    def __init__(self, session: Session) -> None:
        """Stand for the client of `session`."""
        self.session = session
        self.refusal: HTTPError | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can send messages: it was accepted, and the backend has not closed it."""
        return self.session.state is OPEN and not self.session.discards_messages

    def accept(self, _subprotocol: str | None, _first_frames: bytes) -> ClientConnection:
        """Take the 101."""
        return self

    def refuse(self, error: HTTPError) -> None:
        """Take the answer to the handshake, which closes the connection."""
        self.refusal = error


def make_handshake(
    target: str, host: str, headers: Iterable[tuple[str, str]], subprotocols: Sequence[str] = ()
) -> Handshake:
    """Return the handshake of a client. `target`: path and query; `headers`: what it sends beyond the usual ones."""
    path, _, query = target.partition("?")
    sent = {
        "host": host,
        "user-agent": f"wsaas-check/{__version__}",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "d3NhYXMgY2hlY2sgdHJpZQ==",
        MARK: "1",
    }
    added: set[str] = set()
    if subprotocols:
        sent["sec-websocket-protocol"] = ", ".join(subprotocols)
    for given, value in headers:
        name = given.lower()
        sent[name] = f"{sent[name]}, {value}" if name in added else value
        added.add(name)
    authorization = sent.get("authorization")
    return Handshake(
        sent["sec-websocket-key"].encode(),
        path,
        query,
        sent,
        list(subprotocols),
        None if authorization is None else authorization.encode(),
    )
