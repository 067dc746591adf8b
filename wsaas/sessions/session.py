"""The session of one client, from its handshake until its last event is delivered or given up.

A `Session` owns the state, the facts and the outbox; a `ClientConnection` owns the socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from logging import DEBUG
from typing import Final, Protocol, cast

from wsaas import errors
from wsaas.delivery.event_bodies import stored_disconnect_body
from wsaas.delivery.event_delivery import NO_LISTENER, OutboxListener
from wsaas.delivery.failure_report import log_lost_disconnect
from wsaas.delivery.journal import Entry
from wsaas.delivery.outbox import Outbox
from wsaas.delivery.outbox_state import ABANDONED
from wsaas.delivery.services import DeliveryServices
from wsaas.delivery.verdicts import Actions
from wsaas.errors import RETRY_AFTER
from wsaas.events import Closed, Message
from wsaas.log import about, logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted
from wsaas.memory.limit import NO_MEMORY_LIMIT, MemoryLimit
from wsaas.reason import Reason
from wsaas.sessions.bookkeeping import count_states, count_undelivered, note_closed, note_disconnect
from wsaas.sessions.connection_info import ConnectionInfo
from wsaas.sessions.groups import Groups
from wsaas.sessions.ports import NO_CONNECTION, ClientConnection, RefusableConnection
from wsaas.sessions.session_state import CLOSED, CLOSING, CONNECTING, DISCONNECTED, OPEN, TRANSITIONS, State
from wsaas.websocket import frames
from wsaas.websocket.frames import Close
from wsaas.websocket.handshake import Handshake

REFUSALS: Final[Mapping[Reason, errors.HTTPError]] = {
    Reason.BACKEND_CLOSED: errors.Forbidden("The backend refused the connection."),
    Reason.DECLARED_DEAD: errors.Unavailable("This node has to join its cluster again.", RETRY_AFTER),
    Reason.SHUTDOWN: errors.Unavailable("This node is shutting down.", RETRY_AFTER),
    Reason.SLOW_CLIENT: errors.Unavailable("Too many messages are queued for this client.", RETRY_AFTER),
}
"""The response to the handshake, by the reason for which `Session.close` is called before the backend has answered."""


class SessionListener(Protocol):
    """Callbacks about the end of a session."""

    @property
    def is_open(self) -> bool:
        """Whether the node admits clients: it does until it drains."""

    def disconnect_failed(self, session: "Session") -> None:
        """The DELETE of a finished session was given up."""

    def client_disconnected(self, session: "Session") -> None:
        """The client has disconnected: its id is no longer valid."""

    def session_finished(self, session: "Session") -> None:
        """The session has nothing left to deliver."""


@dataclass(frozen=True, slots=True)
class Services(DeliveryServices):
    """The parts of a node that all sessions share."""

    listener: SessionListener
    groups: "Groups[Session]"
    memory: MemoryLimit = NO_MEMORY_LIMIT

    @property
    def send_limit(self) -> float:
        """Bytes that may wait for one client before a push is refused."""
        return min(self.settings.send_buffer, self.memory.allowance)


class Session(OutboxListener):
    """Passes messages between one client and the backend.

    `discards_messages`: further messages of the client are counted as undelivered and dropped.
    """

    __slots__ = (
        "_services",
        "_transport",
        "connection",
        "discards_messages",
        "encode",
        "info",
        "outbox",
        "reason",
        "state",
    )

    def __init__(self, services: Services, info: ConnectionInfo, handshake: Handshake) -> None:
        """Represent the client that sent `handshake`. The caller calls `attach` next."""
        self.encode: frames.Encoder = frames.deflating(handshake.agreement) if handshake.agreement else frames.encode
        self._services = services
        self.attach(NO_CONNECTION)
        self.discards_messages = False
        self.info = info
        self.outbox = Outbox(services, info, self)
        self.reason: Reason | None = None
        self.state = CONNECTING

    @property
    def id(self) -> str:
        """The connection's id."""
        return self.info.id

    @property
    def ws_uri(self) -> str:
        """The URI at which the backend reaches this client."""
        return self.info.ws_uri

    def receive(self, message: Message) -> None:
        """Deliver `message` of the client after all earlier messages."""
        info, services, size = self.info, self._services, len(message.data)
        info.messages_in += 1
        info.bytes_in += size
        counters = services.counters
        counters.messages_in += 1
        counters.bytes_in += size
        if self.discards_messages:
            count_undelivered(info, counters, 1)
            return
        # No message was discarded so far, so `messages_in` is also the number in the `ce-id`.
        message.number = info.messages_in
        message.at = services.clock.wall()
        self.outbox.put(message)

    def closed_by_client(self, code: int, text: str) -> None:
        """The client sent a Close, on its own or in answer to a Close of the gateway."""
        self._set_closed(Reason.CLIENT_CLOSED, code, text)

    def violated(self, code: int, text: str) -> None:
        """The client broke the protocol, and was sent a Close with `code`."""
        self._set_closed(Reason.VIOLATION, code, text)

    def disconnected(self, unread: ClientConnection) -> None:
        """The socket is closed, but received data is still unread: `unread` passes it on, then reports the end."""
        self._detach_client(DISCONNECTED, Reason.CLIENT_LOST, unread)
        unread.start()

    def lost(self) -> None:
        """The socket is closed, and all received data was passed on. May be called again."""
        if self.state is not CLOSED:
            self._set_closed(Reason.CLIENT_LOST)

    # What the REST API and the node call.

    def send(self, opcode: int, data: bytes) -> None:
        """Send a message to the client; while CONNECTING, keep it until the 101. `data`: UTF-8 if `opcode` is TEXT.

        Raises `Gone` in other states, and `SlowClient` where more than `SEND_BUFFER` bytes would wait for the client.
        """
        if (state := self.state) is not OPEN and state is not CONNECTING:
            raise errors.Gone("This connection has ended.")
        frame, transport = self.encode(opcode, data), self._transport
        if not transport.get_write_buffer_size():
            # What `send_frame` does in this case, without its call (`python -m benchmarks micro`, case `push`).
            transport.write(frame)
        elif not self.send_frame(frame):
            raise errors.SlowClient("The client has not read what is already queued for it.", RETRY_AFTER)
        info, counters, size = self.info, self._services.counters, len(data)
        # What `count_sent` does, without its call.
        info.messages_out += 1
        info.bytes_out += size
        counters.pushed += 1
        counters.bytes_out += size

    def send_frame(self, frame: bytes) -> bool:
        """Send `frame`, which `encode` returned. Only while CONNECTING or OPEN. The caller counts the message.

        Returns False, and sends nothing, if more than `SEND_BUFFER` bytes would wait for the client.
        """
        transport = self._transport
        waiting = transport.get_write_buffer_size()
        if waiting:
            if waiting + len(frame) > self._services.send_limit:
                return False
            self._services.memory.note(len(frame))
        transport.write(frame)
        return True

    def settle(self) -> None:
        """Count what the groups of the client were sent, so that the counters in `info` are complete."""
        self._services.groups.settle(self.info.id)

    def close(self, reason: Reason, code: int = 0, text: str | None = None) -> None:
        """Close with the code and text of `reason`, unless others are given; do nothing if it is closing already.

        While CONNECTING, only for a reason in `REFUSALS`.
        """
        if self.state is CONNECTING:
            self.refuse(REFUSALS[reason], reason)
        elif self.state is OPEN:
            close = Close(code or reason.code, reason.value if text is None else text)
            self.info.note_close(close)
            self._transport.write(frames.encode_close(close.code, close.reason))
            if reason.is_final:
                self.reason = reason
                self.connection.close_gracefully()
                return
            self._move(CLOSING, reason)
            self.connection.expect_close()

    def abandon(self) -> None:
        """Stop delivering. Messages of the client are still read, and counted in `messages_undelivered`."""
        count_undelivered(
            self.info, self._services.counters, sum(isinstance(event, Message) for event in self.outbox.abandon())
        )
        self.discards_messages = True
        self.connection.resume()

    @property
    def buffered(self) -> int:
        """Bytes that are buffered for the client."""
        return self._transport.get_write_buffer_size()

    # What the opening handshake calls.

    def attach(self, connection: ClientConnection) -> None:
        """Send to, and control, `connection` from now on."""
        self.connection, self._transport = connection, connection.transport

    def open(self, subprotocol: str | None) -> None:
        """Change to OPEN; the caller calls `attach` next."""
        self.info.subprotocol = subprotocol
        self._move(OPEN, None)

    def refuse(self, error: errors.HTTPError, reason: Reason) -> None:
        """Answer the handshake with `error`. Only while CONNECTING."""
        cast(RefusableConnection, self.connection).refuse(error)
        self._set_closed(reason)

    def owe_disconnect(self, delay: float = 0.0) -> None:
        """Queue the DELETE behind all messages. `delay`: seconds before it is sent, once it is the next event."""
        clock = self._services.clock
        self.outbox.put(Closed(clock.wall() - (clock.now() - self.info.ended), delay))

    def finish_without_disconnect(self) -> None:
        """Remove the connection from the journal and finish: the backend needs no DELETE."""
        self._services.journal.remove(self.id)
        self.finish()

    def finish(self) -> None:
        """Report that nothing is left to deliver."""
        self.outbox.listener = NO_LISTENER
        self._services.listener.session_finished(self)

    # What the outbox calls (see `event_delivery.OutboxListener`), and the journal.

    def disconnect_delivered(self) -> None:
        """Finish."""
        self.finish()

    def requested(self, actions: Actions) -> None:
        """Do what the backend asks for."""
        _carry_out(actions, self, self._services)

    def undelivered(self, reason: Reason, why: str) -> None:
        """Close the connection, as a message was given up, and give up the messages behind it."""
        fields = about(self.ws_uri, why=why)
        throttle.warning(("undelivered", why.partition(", ")[0]), "%(ws_uri)s: message not delivered: %(why)s", fields)
        self.discards_messages = True
        self.close(reason)
        # Discard last: this may resume reading, and messages that are read then must be counted as undelivered, too.
        count_undelivered(self.info, self._services.counters, 1 + self.outbox.discard_messages())

    def disconnecting(self, closed: Closed) -> None:
        """Set `closed.disconnect`. No message is under way any more, so all counters are final."""
        closed.disconnect = self.info.disconnect()

    def disconnect_failed(self, why: str) -> None:
        """Finish, and pass the DELETE on to the listener; the connection stays in the journal."""
        log_lost_disconnect(self.ws_uri, why)
        self._services.counters.disconnects_given_up += 1
        self.finish()
        self._services.listener.disconnect_failed(self)

    def entry(self) -> Entry:
        """Return the entry for the journal."""
        return _entry(self)

    def pause(self) -> None:
        """Stop reading from the client: the inbox is full."""
        self._services.memory.note(self._services.settings.inbox)
        self.connection.pause()

    def resume(self) -> None:
        """Read from the client again."""
        if self.state is not CLOSED:
            self.connection.resume()

    def _move(self, state: State, reason: Reason | None) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.ws_uri}: {self.state} to {state}")
        count_states(self._services.counters, self.state, state)
        self.state = state
        self.reason = self.reason or reason
        _log_state(self)

    def _set_closed(self, reason: Reason, code: int = 0, text: str = "") -> None:
        """Change to CLOSED. `code`, `text`: from the Close that went over the wire; 0 if there was none."""
        if code:
            self.info.note_close(Close(code, text))
        is_decided = self.state is not CONNECTING
        self._detach_client(CLOSED, reason, NO_CONNECTION)
        if is_decided:
            note_closed(self.info, self.reason or reason, self._services.settings)
        if self.outbox.state is ABANDONED:
            finish_disowned(self, self._services.listener)
        elif is_decided:
            self.owe_disconnect()

    def _detach_client(self, state: State, reason: Reason, connection: ClientConnection) -> None:
        """Change to `state`; report once that the client has disconnected."""
        before = self.state
        self._move(state, reason)
        self.attach(connection)
        if before is not DISCONNECTED:
            self.info.ended = self._services.clock.now()
            note_disconnect(self.info, before, self.reason or reason, self._services)
            self._services.listener.client_disconnected(self)
            self.outbox.release()


def finish_disowned(session: Session, listener: SessionListener) -> None:
    """Finish a session whose DELETE another process sends, and log its messages. A drain logs those it gives up."""
    lost = session.info.messages_undelivered
    if lost and listener.is_open:
        fields = about(session.ws_uri, lost=counted(lost, "message"))
        logger.error("%(ws_uri)s: the node was declared dead: %(lost)s not delivered", fields)
    session.finish()


def _carry_out(actions: Actions, session: Session, services: Services) -> None:
    """Do what the backend asks for; once the client has disconnected, only the context still counts."""
    info = session.info
    if session.state is OPEN:
        try:
            services.groups.change(session, actions.join, actions.leave)
        except errors.TooManyGroups as error:
            session.undelivered(Reason.UNDELIVERED, f"the backend's Ws-Join cannot be done: {error.message}")
            return
        if actions.reply is not None:
            _reply(session, actions.reply, services)
    else:
        text = "%(ws_uri)s: actions of the backend's answer dropped: the client is gone"
        logger.debug(text, about(session.ws_uri))
    if actions.context is not None and (actions.context or None) != info.context:
        info.context = actions.context or None
        services.journal.set_context(session.id, info.context)
    if actions.close is not None:
        session.close(Reason.BACKEND_CLOSED, actions.close.code, actions.close.reason)


def _reply(session: Session, reply: Message, services: Services) -> None:
    """Send the backend's message to the client. If much waits then, the outbox is held until the client reads."""
    session.info.count_sent(1, len(reply.data))
    services.counters.count_reply(len(reply.data))
    session.connection.transport.write(session.encode(frames.TEXT if reply.text else frames.BINARY, reply.data))
    if session.buffered > services.send_limit:
        session.outbox.hold()


def _log_state(session: Session) -> None:
    if logger.isEnabledFor(DEBUG):
        why = session.reason.value if session.reason else "accepted"
        fields = about(session.ws_uri, state=session.state.value, why=why)
        logger.debug("%(ws_uri)s: state %(state)s (%(why)s)", fields)


def _entry(session: Session) -> Entry:
    info, late = session.info, session.outbox.late
    entry = Entry(info.id, info.ws_uri, info.authorization, info.context, info.connected_at, trace=info.trace_context)
    if late is not None:
        entry.ended_at, entry.disconnect_body = late.at, stored_disconnect_body(late)
    return entry
