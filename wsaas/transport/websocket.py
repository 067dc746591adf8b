"""A client that is in: the protocol of its transport from the 101 on."""

import asyncio

from wsaas.events import Message, Reason
from wsaas.memory.limit import NONE
from wsaas.sessions.session import CLOSING, OPEN, Session
from wsaas.token_bucket import UNLIMITED, TokenBucket
from wsaas.transport.context import ServerContext
from wsaas.transport.departed import FlushingProtocol, UnreadFrames
from wsaas.transport.paced_reader import PacedReader
from wsaas.transport.send_progress import SendProgress
from wsaas.websocket import frames
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Close, Ping, Received, Violation


class WebSocketProtocol(PacedReader):
    """A client that is in: its frames become messages of its session, and the other way round."""

    __slots__ = ("_deadline", "_last_deadline", "_lingers_for", "_owed", "_pinged", "_progress", "buffered", "write")

    def __init__(
        self,
        common: ServerContext,
        transport: asyncio.Transport,
        session: Session,
        eager: bytes,
        *,
        deflated: bool = False,
    ) -> None:
        """Take over `transport`, whose client sent `eager` behind its handshake and may send `deflated` messages."""
        stream = FrameDecoder(common.settings.max_message_size, deflated=deflated)
        stream.receive(eager)
        super().__init__(common, transport, session, stream)
        self._deadline = 0.0
        self._last_deadline = 0.0
        self._lingers_for = ""
        self._owed: bytes | None = None
        self._pinged = 0.0
        self._progress: SendProgress | None = None
        self.buffered = transport.get_write_buffer_size
        self.write = transport.write
        transport.set_write_buffer_limits(high=common.settings.send_buffer)
        common.timeouts.add(self)

    # What the transport tells.

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        self.session.last_seen = self._common.clock.now()
        self._frames.receive(data)
        self.start()

    def eof_received(self) -> None:
        """End: a client that closes its side without a Close is gone. What waits for it is still sent."""
        self._detach()
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End; what was read before is still handed on."""
        self._common.timeouts.discard(self)
        self._common.addresses.end(self._lingers_for)
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

    def expect_close(self) -> None:
        """Wait for the client's Close, but not for ever."""
        self._deadline = self._common.closing_deadline()
        self._last_deadline = self._common.clock.now() + self._common.settings.delete_retry
        self._progress = SendProgress(self._transport)

    def close_gracefully(self) -> None:
        """Close: what is buffered is still sent, but not for ever, and what was read is still handed on."""
        self._transport.close()
        self._detach()
        self._flush()

    # What the heartbeat wants.

    def check_deadline(self, now: float) -> None:
        """Ping a client that is quiet, give up one that is gone, drop one that does not close."""
        if self._deadline:
            self._sweep_closing(now)
            return
        session = self.session
        if session.outbox.held:
            self._release_outbox()
        if self._common.memory.pressure is not NONE or self._is_throttled:
            self._sweep_memory(now)
        ping_interval = self._common.ping_interval
        if now - session.last_seen < ping_interval:
            return
        if self._rest or session.outbox.backlogged:
            # It is not read, by our own decision: it cannot be blamed for its silence.
            session.last_seen = now
        elif self._pinged <= session.last_seen:
            # Nobody is given up who was not asked: not after a long wait for its 101, nor by a node that stood still.
            self._ping(now)
        elif now - self._pinged >= ping_interval:
            if self._progress is not None and self._progress.made():
                # The ping waits behind messages that the client is taking, if slowly.
                self._pinged = now
            else:
                session.close(Reason.TIMED_OUT)

    # Everything else.

    def _pong(self, ping: Ping, unsent: int = 0) -> bytes:
        """Return the answer to `ping`; see `PacedReader`.

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
            self.close_gracefully()
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
        self._linger()

    def _sweep_closing(self, now: float) -> None:
        """Drop a client that did not close in time, unless its Close may wait behind what is not read here."""
        if now < self._deadline:
            if self._is_throttled:
                self._sweep_memory(now)
        elif now < self._last_deadline and (self._paused or self._rest) and not self._is_throttled:
            self._deadline = self._common.closing_deadline()
        elif self.buffered() and self._progress is not None and self._progress.made():
            # It cannot answer a Close that waits behind messages which it is still taking.
            self.close_gracefully()
        else:
            self._transport.abort()

    def _ping(self, now: float) -> None:
        self._pinged = now
        self._progress = None
        if self.session.messages_out:
            progress = SendProgress(self._transport)
            self._progress = progress if progress.left else None
        self.write(frames.encode(frames.PING, b""))

    def _release_outbox(self) -> None:
        """Go on with replies when few bytes wait.

        While memory is short, the outbox is held for less than `SEND_BUFFER`: no `resume_writing` follows.
        """
        common = self._common
        if self.buffered() <= min(common.settings.send_buffer, common.memory.allowance) / 2:
            self.session.outbox.release()

    def _flush(self) -> None:
        """Leave the transport, which is closed, to what waits for the client; else its end is next."""
        self._deadline = self._common.closing_deadline()
        self._linger()
        if self.buffered():
            self._common.timeouts.discard(self)
            FlushingProtocol(self._common, self._transport, self._lingers_for)

    def _linger(self) -> None:
        """Count the connection for its address until it is closed, although its session ended."""
        if not self._lingers_for:
            self._lingers_for = self._common.addresses.linger(self.session.remote_address)

    def _detach(self) -> None:
        """Leave the session, whose client is gone, to the frames that were read and not handed on, if there are any."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        session = self.session
        if session.state is OPEN or session.state is CLOSING:
            if self._frames.pending:
                session.disconnected(UnreadFrames(self._common, session, self._frames, paused=self._paused))
            else:
                session.lost()


class ThrottledProtocol(WebSocketProtocol):
    """A client that may send `MAX_MESSAGE_RATE` messages a second, and as many at once after a quiet second.

    One that sends more is not read for a moment, and TCP makes it wait: nothing is dropped.
    """

    __slots__ = ("_bucket",)

    def __init__(
        self,
        common: ServerContext,
        transport: asyncio.Transport,
        session: Session,
        eager: bytes,
        *,
        deflated: bool = False,
    ) -> None:
        """Take over `transport` (see `WebSocketProtocol`)."""
        super().__init__(common, transport, session, eager, deflated=deflated)
        self._bucket = TokenBucket(common.settings.max_message_rate, common.clock.now())

    def expect_close(self) -> None:
        """Wait for the client's Close, which is behind all that it sent before."""
        super().expect_close()
        self._bucket = UNLIMITED
        if self._rest is not None and self._is_waiting:
            self._rest.cancel()
            self._rest = self._common.clock.call_later(0, self._go_on)

    def _take(self, message: Message) -> None:
        super()._take(message)
        if wait := self._bucket.take(self._common.clock.now()):
            self._wait(wait)
