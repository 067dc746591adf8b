"""A client's edge: the protocols of its transport while its handshake waits for the backend, and from the 101 on."""

import asyncio

from wsaas import errors, frames
from wsaas.answers import dated, fault_answer
from wsaas.clock import NO_LIMIT, Allowance, Timer
from wsaas.common import Common
from wsaas.departed import FlushingProtocol, UnreadFrames
from wsaas.events import Message, Reason
from wsaas.frames import Close, Ping, Received, Violation
from wsaas.framing import FrameStream
from wsaas.handshake import Handshake, accept
from wsaas.progress import SendProgress
from wsaas.run_queue import SLICE_S
from wsaas.session import CLOSING, OPEN, Session

MAX_EAGER = 64 * 1024
"""Bytes that a client may send before it has its 101; past it, it is not read until then."""


class _Queued:
    """Stands for the timer of a connection that waits in the run queue."""

    def cancel(self) -> None:
        """Do nothing: who is called when its turn comes finds that it waits no longer."""


_QUEUED = _Queued()


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
        self.session.lost()

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
        "_last_deadline",
        "_owed",
        "_paused",
        "_pinged",
        "_progress",
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
        self._last_deadline = 0.0
        self._owed: bytes | None = None
        self._paused = False
        self._pinged = 0.0
        self._progress: SendProgress | None = None
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

    def eof_received(self) -> None:
        """End: a client that closes its side without a Close is gone. What waits for it is still sent."""
        self._detach()
        if self.buffered():
            FlushingProtocol(self._common, self._transport)

    def connection_lost(self, _exc: Exception | None) -> None:
        """End; what was read before is still handed on."""
        self._detach()

    def pause_writing(self) -> None:
        """More than `SEND_BUFFER` waits: `Session.send` sees that for itself."""

    def resume_writing(self) -> None:
        """The client took what waited for it."""
        owed, self._owed = self._owed, None
        if owed is not None and self.session.state is OPEN:
            self.write(frames.encode(frames.PONG, owed))
        self.session.outbox.release()

    # What the session wants.

    def start(self) -> None:
        """Hand on what was read: one frame, and as many more as time allows while no other connection waits for it."""
        if self._paused or self._rest:
            return
        stream = self._frames
        received = stream.next()
        if type(received) is Message:
            self._take(received)
        elif received is not None:
            self._control(received)
        if stream.pending:
            self._read_on()

    def expect_close(self) -> None:
        """Wait for the client's Close, but not for ever."""
        self._deadline = self._common.closing_deadline()
        self._last_deadline = self._common.clock.now() + self._common.last_messages_window

    def finish(self) -> None:
        """Close: what is buffered is still sent, but not for ever, and what was read is still handed on."""
        self._transport.close()
        self._detach()
        if self.buffered():
            FlushingProtocol(self._common, self._transport)

    def pause(self) -> None:
        """Let TCP tell the client to wait."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Go on where reading stopped."""
        self._paused = False
        self.start()
        if not (self._paused or self._rest or self._transport.is_closing()):
            self._transport.resume_reading()

    # What the heartbeat wants.

    def sweep(self, now: float) -> None:
        """Ping a client that is quiet, give up one that is gone, drop one that does not close."""
        if self._deadline:
            if now >= self._deadline:
                self._overdue(now)
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
            self._progress = None
            if session.messages_out:
                progress = SendProgress(self._transport)
                self._progress = progress if progress.waiting else None
            self.write(frames.encode(frames.PING, b""))
        elif now - self._pinged >= patience:
            if self._progress is not None and self._progress.made():
                # The ping waits behind messages that the client is taking, if slowly.
                self._pinged = now
            else:
                session.close(Reason.TIMED_OUT)

    # Everything else.

    def _take(self, message: Message) -> None:
        self.session.receive(message)

    def _read_on(self) -> None:
        """Read the frames behind the first one, unless others wait for their turn."""
        if self._common.run_queue:
            if not (self._paused or self._rest):
                self._wait_for_turn()
        else:
            self._read_slice()

    def _read_slice(self) -> None:
        """Hand on frames for a slice of time. Pongs leave in one write: a million pings may have come at once."""
        stream, timer = self._frames, self._common.run_queue.timer
        pongs = bytearray()
        end = timer() + SLICE_S
        while stream.pending and not (self._paused or self._rest):
            received = stream.next()
            if type(received) is Message:
                self._take(received)
            elif isinstance(received, Ping):
                pongs += self._pong(received, len(pongs))
            elif received is not None:
                self._send_pongs(pongs)
                self._control(received)
            if timer() >= end:
                if stream.pending and not (self._paused or self._rest):
                    self._wait_for_turn()
                break
        self._send_pongs(pongs)

    def _wait_for_turn(self) -> None:
        """Do not read the client until others had their turn."""
        self._transport.pause_reading()
        self._rest = _QUEUED
        self._common.run_queue.add(self._go_on)

    def _wait(self, seconds: float) -> None:
        """Do not read the client for so long."""
        self._transport.pause_reading()
        self._rest = self._common.clock.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        if self._rest is None:
            # The connection ended meanwhile.
            return
        self._rest = None
        # What it sent may have waited here for long: that is no silence of the client's.
        self.session.last_seen = self._common.clock.now()
        if not self._paused:
            self._read_slice()
            if not (self._paused or self._rest or self._transport.is_closing()):
                self._transport.resume_reading()

    def _pong(self, ping: Ping, unsent: int = 0) -> bytes:
        """Return the answer to `ping`, behind `unsent` bytes of other answers; empty where it has to wait.

        A client that pings and does not read must not make the gateway hoard pongs: it is owed an answer to its latest
        ping, once it reads (RFC 6455 section 5.5.3), and none to a later one before that.
        """
        if self._owed is not None or self.buffered() + unsent > self._common.settings.send_buffer:
            self._owed = ping.payload
            return b""
        return frames.encode(frames.PONG, ping.payload)

    def _send_pongs(self, pongs: bytearray) -> None:
        if pongs:
            self.write(bytes(pongs))
            pongs.clear()

    def _control(self, received: Received) -> None:
        session = self.session
        if isinstance(received, Ping):
            if pong := self._pong(received):
                self.write(pong)
        elif isinstance(received, Close):
            if session.state is OPEN:
                self.write(frames.encode_close(received.code, received.reason))
            session.closed_by_client(received.code, received.reason)
            self.finish()
        elif isinstance(received, Violation):
            self._fail(received)

    def _fail(self, violation: Violation) -> None:
        """Say why, and go on reading for a while: a socket closed with bytes unread would take the Close with it."""
        if self.session.state is OPEN:
            self.write(frames.encode_close(violation.code, violation.reason))
        self._deadline = self._common.closing_deadline()
        self._last_deadline = 0.0
        self._transport.write_eof()
        self.session.violated(violation.code, violation.reason)

    def _overdue(self, now: float) -> None:
        """Drop a client that did not close in time, unless its Close may wait behind what is not read here."""
        if now < self._last_deadline and (self._paused or self._rest):
            self._deadline = self._common.closing_deadline()
        else:
            self._transport.abort()

    def _detach(self) -> None:
        """Leave the session, whose client is gone, to the frames that were read and not handed on, if there are any."""
        self._common.sweeper.forget(self)
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        session = self.session
        if session.state is OPEN or session.state is CLOSING:
            if self._frames.pending:
                session.disconnected(UnreadFrames(self._common, session, self._frames, paused=self._paused))
            else:
                session.lost()


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
