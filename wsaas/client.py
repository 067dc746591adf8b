"""A client's edge: the protocols of its transport while its handshake waits for the backend, and from the 101 on."""

import asyncio
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from wsaas import errors, frames
from wsaas.answers import dated, fault_answer
from wsaas.clock import NO_LIMIT, Allowance, Clock, Timer
from wsaas.events import Message, Reason
from wsaas.frames import Close, Ping, Received, Violation
from wsaas.framing import FrameStream
from wsaas.handshake import Handshake, accept
from wsaas.run_queue import RunQueue
from wsaas.session import CLOSED, OPEN, Session
from wsaas.settings import Settings

MAX_EAGER = 64 * 1024
"""Bytes that a client may send before it has its 101; past it, it is not read until then."""


BURST = 64
"""Frames of one client that are not messages, before others have their turn."""


class Swept(Protocol):
    """Something that has to be looked after from time to time."""

    def sweep(self, now: float) -> None:
        """Do what is due at `now` (monotonic seconds)."""

    def finish(self) -> None:
        """Send what is buffered, but not for ever, and close."""


class Sweeper(Protocol):
    """Looks after what is watched."""

    def watch(self, what: Swept) -> None:
        """Sweep `what` from now on."""

    def forget(self, what: Swept) -> None:
        """Sweep `what` no more; harmless when it is not watched."""


@dataclass(frozen=True)
class Common:
    """What all edges share."""

    settings: Settings
    clock: Clock
    sweeper: Sweeper

    @cached_property
    def patience(self) -> float:
        """Seconds after which a quiet client is pinged, and after which one that does not answer is given up."""
        return self.settings.ws_timeout / 2000 or math.inf

    @cached_property
    def run_queue(self) -> RunQueue:
        """Where connections with more work than their share of a turn of the loop wait for the next."""
        return RunQueue(self.clock)

    def closing_deadline(self) -> float:
        """Return when a client that is told to close has had its time."""
        return self.clock.now() + self.settings.handshake_timeout / 1000


class PendingProtocol(asyncio.Protocol):
    """A client that waits for the backend's word. It has to wait for its 101 before it speaks; what it says is kept."""

    __slots__ = ("_common", "_deadline", "_eager", "_handshake", "_transport", "session")

    def __init__(self, common: Common, transport: asyncio.Transport, handshake: Handshake, eager: bytes) -> None:
        """Take over `transport`, whose client sent `handshake` and, behind it, `eager`."""
        self._common = common
        self._deadline = 0.0
        self._eager = eager
        self._handshake = handshake
        self._transport = transport
        self.session: Session
        common.sweeper.watch(self)

    def data_received(self, data: bytes) -> None:
        """Keep what comes too early."""
        self._eager += data
        if len(self._eager) > MAX_EAGER:
            self._transport.pause_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client did not wait, or was refused and is done."""
        self._common.sweeper.forget(self)
        session = self.session
        # They know each other: nothing but the garbage collector would ever find them.
        del self.session
        session.lost()

    def sweep(self, now: float) -> None:
        """Drop a client that does not take its refusal."""
        if self._deadline and now >= self._deadline:
            self._transport.abort()

    def accept(self, subprotocol: str | None, early: bytes) -> "SocketProtocol":
        """Send the 101; the transport gets its WebSocket protocol."""
        self._common.sweeper.forget(self)
        transport = self._transport
        deflated = self._handshake.agreement is not None
        kind = ThrottledProtocol if self._common.settings.max_message_rate else SocketProtocol
        edge = kind(self._common, transport, self.session, self._eager, deflated=deflated)
        transport.set_protocol(edge)
        transport.write(accept(self._handshake, subprotocol) + early)
        transport.resume_reading()
        return edge

    def refuse(self, fault: errors.Fault) -> None:
        """Send the refusal and close."""
        self._transport.write(dated(fault_answer(fault, keep_alive=False), self._common.clock.wall()))
        self.finish()

    def finish(self) -> None:
        """Send what is buffered, but not for ever, and close."""
        self._deadline = self._common.closing_deadline()
        self._transport.close()


class SocketProtocol(asyncio.Protocol):
    """A client that is in: its frames become messages of its session, and the other way round."""

    __slots__ = (
        "_common",
        "_deadline",
        "_frames",
        "_owed",
        "_paused",
        "_pinged",
        "_rest",
        "_transport",
        "buffered",
        "session",
        "write",
    )

    def __init__(
        self, common: Common, transport: asyncio.Transport, session: Session, eager: bytes, *, deflated: bool = False
    ) -> None:
        """Take over `transport`, whose client sent `eager` behind its handshake and may send `deflated` messages."""
        self._common = common
        self._deadline = 0.0
        self._frames = FrameStream(common.settings.max_message_size, deflated=deflated)
        self._frames.receive(eager)
        self._owed: bytes | None = None
        self._paused = False
        self._pinged = 0.0
        self._rest: Timer | None = None
        self._transport = transport
        self.session = session
        self.buffered = transport.get_write_buffer_size
        self.write = transport.write
        transport.set_write_buffer_limits(high=common.settings.send_buffer)
        common.sweeper.watch(self)

    # What the transport tells.

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        self.session.last_seen = self._common.clock.now()
        self._frames.receive(data)
        self.start()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Deliver what was read before the end: there is nobody left to make wait."""
        self._common.sweeper.forget(self)
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        stream, session = self._frames, self.session
        while session.state is not CLOSED and ((received := stream.next()) is not None or stream.is_busy):
            if type(received) is Message:
                session.receive(received)
            elif received is not None:
                self._control(received)
        del self.session
        session.lost()

    def pause_writing(self) -> None:
        """More than `SEND_BUFFER` waits: `Session.send` sees that for itself."""

    def resume_writing(self) -> None:
        """The client took what waited for it."""
        owed, self._owed = self._owed, None
        if owed is not None and self.session.state is OPEN:
            self.write(frames.encode(frames.PONG, owed))
        self.session.drained()

    # What the session wants.

    def start(self) -> None:
        """Hand on the messages that were read, until there are no more, the session has enough, or others wait."""
        stream = self._frames
        others = 0
        while not (self._paused or self._rest):
            received = stream.next()
            if type(received) is Message:
                self._take(received)
            elif received is None and not stream.is_busy:
                break
            else:
                if received is not None:
                    self._control(received)
                # A million pings or empty fragments fill no inbox.
                others += 1
                if others == BURST:
                    self._wait(0.0)

    def expect_close(self) -> None:
        """Wait for the client's Close, but not for ever."""
        self._deadline = self._common.closing_deadline()

    def finish(self) -> None:
        """Send what is buffered, but not for ever, and close."""
        self._deadline = self._common.closing_deadline()
        self._transport.close()

    def pause(self) -> None:
        """Let TCP tell the client to wait."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on where reading stopped."""
        self._paused = False
        self.start()
        if not (self._paused or self._rest):
            self._transport.resume_reading()

    # What the heartbeat wants.

    def sweep(self, now: float) -> None:
        """Ping a client that is quiet, give up one that is gone, drop one that does not close."""
        if self._deadline:
            if now >= self._deadline:
                self._transport.abort()
            return
        session = self.session
        patience = self._common.patience
        if now - session.last_seen < patience:
            return
        if self._rest or session.outbox.backlogged:
            # It is not read, by our own decision: it cannot be blamed for its silence.
            session.last_seen = now
        elif self._pinged <= session.last_seen:
            # Nobody is given up who was not asked: not after a long wait for its 101, nor by a node that stood still.
            self._pinged = now
            self.write(frames.encode(frames.PING, b""))
        elif now - self._pinged >= patience:
            session.close(Reason.TIMED_OUT)

    def _take(self, message: Message) -> None:
        self.session.receive(message)

    def _wait(self, seconds: float) -> None:
        """Do not read the client for so long."""
        self._transport.pause_reading()
        self._rest = self._common.clock.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._rest = None
        # What it sent may have waited here for long: that is no silence of the client's.
        self.session.last_seen = self._common.clock.now()
        if not self._paused:
            self.resume()

    def _control(self, received: Received) -> None:
        session = self.session
        if isinstance(received, Ping):
            # A client that pings and does not read must not make the gateway hoard pongs: it is owed an answer to
            # its latest ping, once it reads (RFC 6455 section 5.5.3), and none to a later one before that.
            if self._owed is not None or self.buffered() > self._common.settings.send_buffer:
                self._owed = received.payload
            else:
                self.write(frames.encode(frames.PONG, received.payload))
        elif isinstance(received, Close):
            if session.state is OPEN:
                self.write(frames.encode_close(received.code, received.reason))
            self.finish()
            session.closed_by_client(received.code, received.reason)
        elif isinstance(received, Violation):
            self._fail(received)

    def _fail(self, violation: Violation) -> None:
        """Say why, and go on reading for a while: a socket closed with bytes unread would take the Close with it."""
        if self.session.state is OPEN:
            self.write(frames.encode_close(violation.code, violation.reason))
        self._deadline = self._common.closing_deadline()
        self._transport.write_eof()
        self.session.violated(violation.code, violation.reason)


class ThrottledProtocol(SocketProtocol):
    """A client that may send `MAX_MESSAGE_RATE` messages a second, and as many at once after a quiet second.

    One that sends more is not read for a moment, and TCP makes it wait: nothing is dropped.
    """

    __slots__ = ("_allowance",)

    def __init__(
        self, common: Common, transport: asyncio.Transport, session: Session, eager: bytes, *, deflated: bool = False
    ) -> None:
        """Take over `transport` (see `SocketProtocol`)."""
        super().__init__(common, transport, session, eager, deflated=deflated)
        self._allowance = Allowance(common.settings.max_message_rate, common.clock.now())

    def expect_close(self) -> None:
        """Wait for the client's Close, which is behind all that it sent before."""
        super().expect_close()
        self._allowance = NO_LIMIT
        if self._rest is not None:
            self._rest.cancel()
            self._rest = self._common.clock.call_later(0, self._go_on)

    def _take(self, message: Message) -> None:
        super()._take(message)
        if wait := self._allowance.spend(self._common.clock.now()):
            self._wait(wait)
