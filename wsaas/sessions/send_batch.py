"""The messages of one `POST /send`: each goes to the clients that it names, in the order of the request."""

from base64 import b64decode, b64encode
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

import orjson

from wsaas.counters import Counters
from wsaas.errors import BadRequest, HTTPError, TooLarge
from wsaas.sessions.fan_out import FanOut, Summary
from wsaas.sessions.publication import NamedClients, SharedMessage
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING, OPEN
from wsaas.websocket.frames import BINARY, TEXT

_EXAMPLE: Final = '{"to": ["<id or ws_uri>"], "text": "hello"}'


PeerT = TypeVar("PeerT", bound=Hashable)


class RemotePart:
    """What one peer has to send. `lines`: the messages as JSON, in order."""

    __slots__ = ("lines", "message", "recipients", "to")

    def __init__(self) -> None:
        """Start empty."""
        self.lines: list[bytes] = []
        self.message: SharedMessage | None = None
        self.recipients = NamedClients()
        self.to: list[str] = []

    def add(self, message: SharedMessage, to: str) -> None:
        """Add a recipient of `message`."""
        if message is not self.message:
            self.end_line()
            self.message = message
        self.recipients.add(to)
        self.to.append(to)

    def end_line(self) -> None:
        """Write the last message as JSON."""
        if self.message is not None:
            data = self.message.data
            content = {"text": data.decode()} if self.message.opcode == TEXT else {"base64": b64encode(data).decode()}
            self.lines.append(orjson.dumps({"to": self.to, **content}))
            self.message, self.to = None, []


class SendBatch(FanOut, Generic[PeerT]):
    """Reads all messages first, then sends them: a request with an error sends nothing.

    `sent`: the number of frames that were sent. `gone`, `slow`: the recipients that got none, as the request names
    them: they have disconnected, or `SEND_BUFFER` bytes wait for them. A recipient that is named twice counts twice.
    `remote`: what is for clients of other processes, by the peer that sends it. `unknown`: the recipients of whom it is
    not known where they are.
    """

    __slots__ = (
        "_bytes",
        "_documents",
        "_find",
        "_find_process",
        "_max_size",
        "_messages",
        "_pending",
        "gone",
        "remote",
        "sent",
        "slow",
        "unknown",
    )

    def __init__(
        self,
        find: Callable[[str], Session | None],
        documents: Iterable[bytes],
        max_size: int,
        find_process: Callable[[str], PeerT | None],
    ) -> None:
        """Send the messages in `documents`, one JSON object each, of at most `max_size` bytes a message.

        Blank documents count as none. `find`, `find_process`: see `cluster.router.Router`.
        """
        super().__init__()
        self._bytes = 0
        self._documents = enumerate(documents, 1)
        self._find = find
        self._max_size = max_size
        self._messages: list[tuple[SharedMessage, list[str]]] = []
        self._pending: Iterator[tuple[SharedMessage, str]] | None = None
        self._find_process = find_process
        self.gone = NamedClients()
        self.remote: dict[PeerT, RemotePart] = {}
        self.sent = 0
        self.slow = NamedClients()
        self.unknown = NamedClients()

    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Read the next messages or, once all are read, send to the next recipients."""
        if self._pending is None:
            try:
                if not self._read(timer, end):
                    return False
            except HTTPError as error:
                self.error = error.with_traceback(None)
                return True
            self._pending = ((message, each) for message, to in self._messages for each in to)
        return self._send(self._pending, timer, end)

    def summary(self) -> Summary:
        """Return how many frames were sent, and the recipients that got none."""
        gone, slow = self.gone, self.slow
        return {
            "sent": self.sent,
            "gone": gone.ids,
            "gone_count": gone.count,
            "slow": slow.ids,
            "slow_count": slow.count,
        }

    def count(self, counters: Counters) -> None:
        """Count the messages."""
        counters.batched += self.sent
        counters.bytes_out += self._bytes
        counters.refused_pushes["gone"] += self.gone.count
        counters.refused_pushes["slow"] += self.slow.count

    def _read(self, timer: Callable[[], float], end: float) -> bool:
        """Read the next messages; return whether all were read. Raises the `HTTPError` that refuses the request."""
        for number, document in self._documents:
            if document.strip():
                self._messages.append(_read_message(document, number, self._max_size))
            if timer() >= end:
                return False
        if not self._messages:
            raise BadRequest(f"The body has no message such as {_EXAMPLE}.")
        return True

    def _send(self, pending: Iterator[tuple[SharedMessage, str]], timer: Callable[[], float], end: float) -> bool:
        find = self._find
        for message, to in pending:
            connection_id = to.rpartition("/")[2]
            session = find(connection_id)
            if session is None:
                self._forward(message, to, connection_id)
            elif not (session.state is OPEN or session.state is CONNECTING):
                self.gone.add(to)
            elif session.send_frame(message[session.encode]):
                size = len(message.data)
                session.info.count_sent(1, size)
                self.sent += 1
                self._bytes += size
            else:
                self.slow.add(to)
            if timer() >= end:
                return False
        for part in self.remote.values():
            part.end_line()
        return True

    def _forward(self, message: SharedMessage, to: str, connection_id: str) -> None:
        """Add a recipient that is not in this process to the part of its peer."""
        try:
            peer = self._find_process(connection_id)
        except HTTPError:
            self.unknown.add(to)
            return
        if peer is None:
            self.gone.add(to)
        else:
            self.remote.setdefault(peer, RemotePart()).add(message, to)


def _read_message(document: bytes, number: int, max_size: int) -> tuple[SharedMessage, list[str]]:
    """Return the message in one JSON object, which has this `number` in the request, and its recipients.

    Raises `BadRequest`, `TooLarge`.
    """
    try:
        fields: Any = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"Message {number} is not JSON such as {_EXAMPLE}: {error}.") from None
    if not isinstance(fields, dict):
        raise BadRequest(f"Message {number} is not a JSON object such as {_EXAMPLE}.")
    to, text, encoded = fields.get("to"), fields.get("text"), fields.get("base64")
    if not isinstance(to, list) or not all(isinstance(each, str) for each in to):
        raise BadRequest(f'Message {number} has no "to" that is a list of ids or ws_uris.')
    if isinstance(text, str) and encoded is None:
        opcode, data = TEXT, text.encode()
    elif isinstance(encoded, str) and text is None:
        opcode, data = BINARY, _decode(encoded, number)
    else:
        raise BadRequest(f'Message {number} needs either "text" or "base64", a string.')
    if len(data) > max_size:
        raise TooLarge(f"Message {number} has {len(data)} bytes; MAX_MESSAGE_SIZE is {max_size}.")
    return SharedMessage(opcode, data), to


def _decode(encoded: str, number: int) -> bytes:
    try:
        return b64decode(encoded, validate=True)
    except ValueError:
        raise BadRequest(f'The "base64" of message {number} is not base64 with padding (RFC 4648 section 4).') from None
