"""One client's life, from the handshake to the last word that the backend has of it.

`Session` owns the state, the counters and the outbox; an `ClientConnection` owns the socket.
"""

from dataclasses import dataclass
from enum import Enum
from functools import partial
from logging import DEBUG
from typing import Any, Protocol, cast

from wsaas import errors
from wsaas.clock import Clock, rfc3339
from wsaas.delivery.event_delivery import OutboxListener
from wsaas.delivery.journal import Entry
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.webhook import Accepted, Rejected, Subject, opened_body
from wsaas.errors import RETRY_AFTER
from wsaas.events import Closed, Message, Opened, Reason
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.memory.limit import NO_MEMORY_LIMIT, MemoryLimit
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.ports import NO_CONNECTION, ClientConnection, EarlyFrames, PendingClient
from wsaas.websocket import frames
from wsaas.websocket.handshake import Handshake, select_subprotocol


class State(Enum):
    """How far a client is."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"

    __hash__ = object.__hash__
    """There is one of each: `Enum` hashes names, in Python."""


# A member of an enumeration is searched for each time, a name is there.
CONNECTING, OPEN, CLOSING, DISCONNECTED, CLOSED = State

MOVES: dict[State, set[State]] = {
    CONNECTING: {OPEN, CLOSED},
    OPEN: {CLOSING, DISCONNECTED, CLOSED},
    CLOSING: {DISCONNECTED, CLOSED},
    DISCONNECTED: {CLOSED},
    CLOSED: set(),
}
"""CONNECTING: the backend is asked. OPEN: messages flow. CLOSING: the gateway's Close waits for the client's.
DISCONNECTED: the client is gone, but some of what it sent was not handed on yet. CLOSED: all of it was; the backend may
still have to be told."""


class SessionListener(Protocol):
    """Who is told that a session ends."""

    @property
    def is_open(self) -> bool:
        """Whether the node goes on."""

    def given_up(self, session: "Session") -> None:
        """The DELETE of a session, which is settled, was given up: the backend is still owed it."""

    def left(self, session: "Session") -> None:
        """The client is gone, and its id with it."""

    def settled(self, session: "Session") -> None:
        """The backend's books are straight, or will never be: nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Services(DeliveryServices):
    """What all sessions share."""

    keeper: SessionListener
    memory: MemoryLimit = NO_MEMORY_LIMIT

    @property
    def send_limit(self) -> float:
        """Bytes that may wait for one client before a push is refused."""
        return min(self.settings.send_buffer, self.memory.allowance)


class Session(ConnectionInfo, OutboxListener):
    """A client. Made when its handshake was read; ends when the backend knows of its end."""

    __slots__ = ("_encode", "_number", "_services", "drops_messages", "edge", "outbox", "reason", "state")

    def __init__(
        self, services: Services, connection_id: str, handshake: Handshake, remote_address: str, door: PendingClient
    ) -> None:
        """Ask the backend whether the client at `door` may come in."""
        super().__init__(connection_id, handshake, remote_address, services.clock)
        self._encode: frames.Encoder = frames.deflating(handshake.agreement) if handshake.agreement else frames.encode
        self._number = 0
        self._services = services
        self.drops_messages = False
        self.edge: ClientConnection = EarlyFrames(door, handshake.subprotocols)
        self.reason: Reason | None = None
        self.state = CONNECTING
        settings, ws_uri = services.settings, self.ws_uri
        subject = Subject(connection_id, ws_uri, handshake.authorization)
        self.outbox = Outbox(services.webhook, services.clock, subject, self, settings.inbox)
        body = opened_body(connection_id, ws_uri, round(settings.ws_timeout * 1000), handshake, remote_address)
        services.journal.opened(self, partial(self._remembered, Opened(body, self.connected_at)))

    @property
    def ws_uri(self) -> str:
        """Where the backend reaches this client."""
        return f"{self._services.settings.ws_hostname.text}/{self.id}"

    def receive(self, message: Message) -> None:
        """The client sent `message`: it goes to the backend behind those before it."""
        self.messages_in += 1
        self.bytes_in += len(message.data)
        if self.drops_messages:
            self.messages_undelivered += 1
            return
        self._number += 1
        message.number = self._number
        message.at = self._services.clock.wall()
        self.outbox.put(message)

    def closed_by_client(self, code: int, text: str) -> None:
        """The client sent a Close: its own, or its answer to the gateway's."""
        self._leave(Reason.CLIENT_CLOSED, code, text)

    def violated(self, code: int, text: str) -> None:
        """The client broke the protocol and was failed with `code`."""
        self._leave(Reason.VIOLATION, code, text)

    def disconnected(self, unread: ClientConnection) -> None:
        """The client's socket is gone; `unread` hands on what was read of it, and then reports the end."""
        self._end(DISCONNECTED, Reason.CLIENT_LOST, unread)
        unread.start()

    def lost(self) -> None:
        """The client's socket is gone, and all that was read of it was handed on."""
        if self.state is not CLOSED:
            self._leave(Reason.CLIENT_LOST)

    # What the backend, the heartbeat and the gateway want of the client.

    def send(self, *, text: bool, data: bytes) -> None:
        """Send a message to the client, or keep it until the handshake is done.

        Raises `Gone`, `BadText` for text that is not UTF-8, `SlowClient` when `SEND_BUFFER` bytes would wait.
        """
        if (state := self.state) is not OPEN and state is not CONNECTING:
            raise errors.Gone("This connection ended.")
        if text and not frames.valid_text(data):
            raise errors.BadText("A text message has to be UTF-8; send other data with another Content-Type.")
        frame = self._encode(frames.TEXT if text else frames.BINARY, data)
        waits = self.edge.buffered()
        if waits:
            if waits + len(frame) > self._services.send_limit:
                raise errors.SlowClient("The client has not read what is already queued for it.", RETRY_AFTER)
            self._services.memory.note(len(frame))
        self.messages_out += 1
        self.bytes_out += len(data)
        self.edge.write(frame)

    def close(self, reason: Reason, code: int = 0, text: str | None = None) -> None:
        """End the client for `reason`, with its close code and text unless others are given; harmless when it ended."""
        if self.state is CONNECTING:
            self._refuse(_refusal(reason), reason)
        elif self.state is OPEN:
            self.note_close(code or reason.code, reason.value if text is None else text)
            self.edge.write(frames.encode_close(self.close_code, self.close_text))
            if reason.is_final:
                self.reason = reason
                self.edge.close_gracefully()
                return
            self._move(CLOSING, reason)
            self.edge.expect_close()

    def abandon(self) -> None:
        """Deliver nothing more, and read on: what is not delivered is counted in `messages_undelivered`."""
        events = self.outbox.abandon()
        if events and isinstance(final := events[0], Closed) and final.body:
            self._services.journal.ended(self.id, final)
        self.messages_undelivered += sum(isinstance(event, Message) for event in events)
        self.drops_messages = True
        self.edge.resume()

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client."""
        return self.edge.buffered()

    def information(self) -> dict[str, Any]:
        """Return what `GET ws_uri` tells."""
        return _information(self, self._services.clock)

    # What the outbox tells (see `outbox.OutboxListener`), and the journal.

    def decided(self, verdict: Accepted | Rejected) -> None:
        """The backend answered the POST."""
        if self.state is CONNECTING:
            denied = self._enter(verdict) if isinstance(verdict, Accepted) else verdict
            if denied is None:
                return
            self._refuse(denied.fault, Reason.REFUSED)
            verdict = denied
        if isinstance(verdict, Accepted) or verdict.told:
            self._owe_delete(_grace(verdict, self._services))
        else:
            self._settle()

    def replied(self, reply: Message) -> None:
        """The backend answered a message with one for the client."""
        if self.state is not OPEN:
            logger.debug("%s: a reply came after the client", self.ws_uri)
            return
        self.messages_out += 1
        self.bytes_out += len(reply.data)
        self.edge.write(self._encode(frames.TEXT if reply.text else frames.BINARY, reply.data))
        if self.buffered > self._services.send_limit:
            self.outbox.hold()

    def undelivered(self, reason: Reason, why: str) -> None:
        """A message is given up, and so are those behind it: the client is closed, unless it ends already."""
        throttle.warning(("undelivered", why.partition(", ")[0]), "%s: message not delivered: %s", self.ws_uri, why)
        self.drops_messages = True
        self.close(reason)
        # Only now: it may resume the client, what of it is read then is given up too, and counted before this is.
        given_up = 1 + self.outbox.discard_messages()
        self.messages_undelivered += given_up

    def leaving(self, farewell: Closed) -> None:
        """The DELETE is next: what it says is final."""
        farewell.body = self.farewell(self.ws_uri)

    def delayed(self, farewell: Closed) -> None:
        """The DELETE was not taken at once: from now on, a crash leaves it to the next start as it is."""
        self._services.journal.ended(self.id, farewell)

    def settled(self, why: str) -> None:
        """The DELETE is done, or given up."""
        if why:
            logger.error("%s: the backend was not told that this connection ended: %s", self.ws_uri, why)
            self._forget()
            self._services.keeper.given_up(self)
        else:
            self._settle()

    def entry(self) -> Entry:
        """Return what the journal has to hold of it."""
        return _entry(self)

    def pause(self) -> None:
        """Too much waits for the backend."""
        self._services.memory.note(self._services.settings.inbox)
        self.edge.pause()

    def resume(self) -> None:
        """Little enough waits for the backend."""
        if self.state is not CLOSED:
            self.last_seen = self._services.clock.now()
            self.edge.resume()

    def _remembered(self, opened: Opened, written: bool) -> None:
        """Ask the backend, now that the connection outlives this process."""
        if self.state is CONNECTING:
            if written:
                self.outbox.put(opened)
                return
            self._refuse(errors.Unavailable("This node cannot take clients now.", RETRY_AFTER), Reason.REFUSED)
        if written:
            self._settle()
        else:
            # There is nothing to take out of the journal: no write may pile up while it cannot be written.
            self._forget()

    def _move(self, state: State, reason: Reason | None) -> None:
        if state not in MOVES[self.state]:
            raise AssertionError(f"{self.ws_uri}: {self.state} to {state}")
        self.state = state
        self.reason = self.reason or reason
        if logger.isEnabledFor(DEBUG):
            logger.debug("%s: %s, %s", self.ws_uri, state.value, self.reason.value if self.reason else "admitted")

    def _enter(self, verdict: Accepted) -> Rejected | None:
        """Let the client in; return why not where the backend's word cannot be carried out."""
        early, ours = cast(EarlyFrames, self.edge), self._services.settings.subprotocols
        try:
            self.subprotocol = select_subprotocol(verdict.subprotocol, early.subprotocols, ours)
        except ValueError:
            return _not_offered(self.ws_uri, verdict.subprotocol)
        self._move(OPEN, None)
        self.context = verdict.context
        if verdict.context is not None:
            self.outbox.subject.remember(verdict.context)
            self._services.journal.admitted(self.id, verdict.context)
        self.edge = early.accept(self.subprotocol)
        self.edge.start()
        return None

    def _refuse(self, fault: errors.HTTPError, reason: Reason) -> None:
        cast(EarlyFrames, self.edge).refuse(fault)
        self._leave(reason)

    def _leave(self, reason: Reason, code: int = 0, text: str = "") -> None:
        """End; `code` and `text` are those of a Close that went over the wire."""
        if code:
            self.note_close(code, text)
        asked = self.state is not CONNECTING
        self._end(CLOSED, reason, NO_CONNECTION)
        if asked:
            self._owe_delete()

    def _end(self, state: State, reason: Reason, edge: ClientConnection) -> None:
        """The client is gone: from now on its id is not found."""
        is_first = self.state is not DISCONNECTED
        self._move(state, reason)
        self.edge = edge
        if is_first:
            self.ended = self._services.clock.now()
            self._services.keeper.left(self)
            self.outbox.release()

    def _owe_delete(self, delay: float = 0.0) -> None:
        """Tell the backend of the end, behind all messages. How it ended, the DELETE says when it is its turn."""
        clock = self._services.clock
        self.outbox.put(Closed(b"", clock.wall() - (clock.now() - self.ended), delay))

    def _settle(self) -> None:
        self._services.journal.settled(self.id)
        self._forget()

    def _forget(self) -> None:
        self.outbox.detach()
        self._services.keeper.settled(self)


def _refusal(reason: Reason) -> errors.HTTPError:
    """Return what a client is told that is refused while the backend is still asked."""
    if reason is Reason.SHUTDOWN:
        return errors.Unavailable("This node is about to stop.", RETRY_AFTER)
    return errors.Forbidden("The backend refused the connection.")


def _not_offered(ws_uri: str, subprotocol: str | None) -> Rejected:
    """Return how a client is refused for which the backend chose a `subprotocol` that it did not offer; log it."""
    message = "%s: the backend chose the subprotocol %.100r, which the client did not offer: it was refused with 502"
    throttle.warning("subprotocol", message, ws_uri, subprotocol)
    return Rejected(errors.BadGateway("The backend chose a subprotocol that was not offered."), told=True)


def _information(session: Session, clock: Clock) -> dict[str, Any]:
    """Return what `GET ws_uri` tells, and of a client that is gone, how it ended."""
    told = {
        "id": session.id,
        "ws_uri": session.ws_uri,
        "state": session.state.value,
        "connected_at": rfc3339(session.connected_at),
        "last_seen_at": rfc3339(clock.wall() - (clock.now() - session.last_seen)),
        "remote_address": session.remote_address,
        "path": session.path,
        "query": session.query,
        "subprotocol": session.subprotocol,
        "context": session.context,
        "messages_in": session.messages_in,
        "messages_out": session.messages_out,
        "bytes_in": session.bytes_in,
        "bytes_out": session.bytes_out,
        "inbox": session.outbox.level,
        "buffered": session.buffered,
    }
    if session.ended:
        told |= {
            "ended_at": rfc3339(clock.wall() - (clock.now() - session.ended)),
            "code": session.close_code,
            "reason": session.close_text,
            "undelivered": session.messages_undelivered,
        }
    return told


def _grace(verdict: Accepted | Rejected, services: Services) -> float:
    """Return how many seconds a DELETE waits: it must not overtake a POST that the backend may still be handling."""
    is_unanswered = isinstance(verdict, Rejected) and isinstance(verdict.fault, errors.GatewayTimeout)
    return services.settings.api_timeout if is_unanswered and services.keeper.is_open else 0.0


def _entry(session: Session) -> Entry:
    subject, late = session.outbox.subject, session.outbox.late
    ended_at, farewell = (None, None) if late is None else (late.at, late.body)
    authorization, context = subject.authorization, session.context
    return Entry(session.id, session.ws_uri, authorization, context, session.connected_at, ended_at, farewell)
