"""The protocol of a client's transport after the 101."""

import asyncio
import math
from typing import Final

from wsaas.clock import NO_TIMER
from wsaas.events import Message
from wsaas.memory.limit import NONE
from wsaas.reason import Reason
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CLOSING, OPEN
from wsaas.token_bucket import UNLIMITED, TokenBucket
from wsaas.transport.context import ServerContext
from wsaas.transport.departed import FlushingProtocol, UnreadFrames
from wsaas.transport.paced_reader import PacedReader
from wsaas.transport.pause_reason import CONSUMER, MEMORY, NOT_PAUSED, RATE
from wsaas.transport.send_progress import SendProgress
from wsaas.transport.timeouts import NOT_CLOSING
from wsaas.websocket import frames
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Close, Ping, Received, Violation

NOT_EXTENDED: Final = -math.inf
"""A final deadline that has passed already: the deadline of a closing connection is not extended."""


class WebSocketProtocol(PacedReader):
    """Turns the frames of a client into messages of its session, and pings it; writes the frames of the session."""

    __slots__ = (
        "_counted_block",
        "_deadline",
        "_final_deadline",
        "_owed_pong",
        "_pinged_at",
        "_progress",
    )

    def __init__(
        self, context: ServerContext, transport: asyncio.Transport, session: Session, decoder: FrameDecoder
    ) -> None:
        """Prepare for `transport`. `decoder` already contains what the client sent before its 101."""
        super().__init__(context, transport, session, decoder)
        self._counted_block = ""
        self._deadline = NOT_CLOSING
        self._final_deadline = NOT_EXTENDED
        self._owed_pong: bytes | None = None
        self._pinged_at = 0.0
        self._progress: SendProgress | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The transport of the client."""
        return self._transport

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        self.session.info.last_seen = self._context.clock.now()
        if not self._paused_by and (message := self._frames.decode_message(data)) is not None:
            # The shortcut for a message that arrives alone (`python -m benchmarks micro`, case `message`).
            self._take(message)
        else:
            self._frames.receive(data)
            self._read_frames()

    def eof_received(self) -> None:
        """Treat a client that ends its stream without a Close as gone, but send what is buffered for it."""
        self._detach()
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Detach from the session, which still gets the frames that were received before."""
        self._context.timeouts.discard(self)
        self._context.addresses.end(self._counted_block)
        self._detach()

    def pause_writing(self) -> None:
        """Do nothing: `Session.send` checks the size of the buffer itself."""

    def resume_writing(self) -> None:
        """Send the pending pong, and let the outbox continue with replies."""
        owed, self._owed_pong = self._owed_pong, None
        if owed is not None and self.session.state is OPEN:
            self._transport.write(frames.encode(frames.PONG, owed))
        self.session.outbox.release()

    # Called by the session.

    def start(self) -> None:
        """Start to read, beginning with what the client sent before its 101."""
        self._transport.set_write_buffer_limits(high=self._context.settings.send_buffer)
        if self._frames.pending:
            self._read_frames()

    def expect_close(self) -> None:
        """Wait for the client's Close, for `HANDSHAKE_TIMEOUT`.

        While earlier messages delay the Close, wait as long as a DELETE is retried: the backend has that much time for
        the messages.
        """
        self._deadline = self._context.closing_deadline()
        self._final_deadline = self._context.clock.now() + self._context.settings.delete_retry
        self._progress = SendProgress(self._transport)

    def close_gracefully(self) -> None:
        """Send what is buffered and close, within a bounded time. The session still gets what was received."""
        self._transport.close()
        self._detach()
        self._flush()

    # Called by the time-outs.

    def check_deadline(self, now: float) -> None:
        """Ping a quiet client; close the connection of a client that does not answer the ping or the Close in time."""
        if self._deadline != NOT_CLOSING:
            self._check_closing(now)
            return
        session = self.session
        if session.outbox.held:
            self._release_outbox()
        if self._context.memory.pressure is not NONE or MEMORY in self._paused_by:
            self._check_memory(now)
        ping_interval = self._context.ping_interval
        if now - session.info.last_seen < ping_interval:
            return
        if self._paused_by - {CONSUMER} or session.outbox.backlogged:
            # The gateway or the backend is the reason for a pause in reading, so the client's silence proves nothing.
            session.info.last_seen = now
        elif self._pinged_at <= session.info.last_seen:
            # Always ping before a time-out, even after a long wait for the 101 or a stall of this process.
            self._ping(now)
        elif now - self._pinged_at >= ping_interval:
            if self._progress is not None and self._progress.has_advanced():
                # The client reads slowly, and has not reached the ping yet.
                self._pinged_at = now
            else:
                session.close(Reason.TIMED_OUT)

    # Internals.

    def _pong(self, ping: Ping, unsent: int = 0) -> bytes:
        """Return the pong to `ping` (see `PacedReader`).

        While the send buffer is full, pongs are not buffered. When there is room again, only the latest ping is
        answered (RFC 6455 section 5.5.3).
        """
        if (
            self._owed_pong is not None
            or self._transport.get_write_buffer_size() + unsent > self._context.settings.send_buffer
        ):
            self._owed_pong = ping.payload
            return b""
        return frames.encode(frames.PONG, ping.payload)

    def _send_pongs(self, pongs: bytearray) -> None:
        if pongs:
            self._transport.write(bytes(pongs))
            pongs.clear()

    def _control(self, received: Received) -> None:
        session = self.session
        if isinstance(received, Ping):
            if pong := self._pong(received):
                self._transport.write(pong)
        elif isinstance(received, Close):
            if session.state is OPEN:
                self._transport.write(frames.encode_close(received.code, received.reason))
            session.closed_by_client(received.code, received.reason)
            self.close_gracefully()
        elif isinstance(received, Violation):
            self._fail(received)

    def _fail(self, violation: Violation) -> None:
        """Send a Close with the code of `violation`, and wait for the client to close."""
        if self.session.state is OPEN:
            self._transport.write(frames.encode_close(violation.code, violation.reason))
        self._deadline = self._context.half_close(self._transport)
        self._final_deadline = NOT_EXTENDED
        self.session.violated(violation.code, violation.reason)
        self._count_closing()

    def _check_closing(self, now: float) -> None:
        """Abort the connection if the client did not close in time, unless its Close may not have been read yet."""
        if now < self._deadline:
            if MEMORY in self._paused_by:
                self._check_memory(now)
        elif now < self._final_deadline and self._paused_by and MEMORY not in self._paused_by:
            self._deadline = self._context.closing_deadline()
        elif self._transport.get_write_buffer_size() and self._progress is not None and self._progress.has_advanced():
            # The client reads slowly, and has not reached the Close yet.
            self.close_gracefully()
        else:
            self._transport.abort()

    def _ping(self, now: float) -> None:
        self._pinged_at = now
        self._progress = None
        self.session.settle()
        if self.session.info.messages_out:
            progress = SendProgress(self._transport)
            self._progress = progress if progress.remaining else None
        self._transport.write(frames.encode(frames.PING, b""))

    def _release_outbox(self) -> None:
        """Let the outbox continue with replies when little is buffered.

        While memory is short, the outbox is held below `SEND_BUFFER`. The transport then calls no `resume_writing`.
        """
        context = self._context
        if self._transport.get_write_buffer_size() <= min(context.settings.send_buffer, context.memory.allowance) / 2:
            self.session.outbox.release()

    def _flush(self) -> None:
        """Hand the closing transport to a `FlushingProtocol` if bytes are still buffered."""
        self._deadline = self._context.closing_deadline()
        self._count_closing()
        if self._transport.get_write_buffer_size():
            self._context.timeouts.discard(self)
            FlushingProtocol(self._context, self._transport, self._counted_block).start()

    def _count_closing(self) -> None:
        """Count the connection for its address until its socket is closed: its session has ended and is not counted."""
        if not self._counted_block:
            self._counted_block = self._context.addresses.count_closing(self.session.info.remote_address)

    def _detach(self) -> None:
        """Stop using the socket. If received frames are still unread, let `UnreadFrames` pass them to the session.

        Otherwise end the session now.
        """
        paused_by, self._paused_by = self._paused_by, NOT_PAUSED
        session = self.session
        if session.state is OPEN or session.state is CLOSING:
            if self._frames.pending:
                unread = UnreadFrames(self._context, session, self._frames, is_paused=CONSUMER in paused_by)
                session.disconnected(unread)
            else:
                session.lost()


class RateLimitedProtocol(WebSocketProtocol):
    """A client that may send `MAX_MESSAGE_RATE` messages a second, with bursts of as many after a quiet second.

    Reading is paused for a client that sends more.
    """

    __slots__ = ("_bucket", "_timer")

    def __init__(
        self, context: ServerContext, transport: asyncio.Transport, session: Session, decoder: FrameDecoder
    ) -> None:
        """Prepare for `transport` (see `WebSocketProtocol`)."""
        super().__init__(context, transport, session, decoder)
        self._bucket = TokenBucket(context.settings.max_message_rate, context.clock.now())
        self._timer = NO_TIMER

    def expect_close(self) -> None:
        """Wait for the client's Close. The rate limit ends, so that earlier messages do not delay the Close."""
        super().expect_close()
        self._bucket = UNLIMITED
        if RATE in self._paused_by:
            self._set_timer(0.0)

    def _take(self, message: Message) -> None:
        super()._take(message)
        if seconds := self._bucket.take(self._context.clock.now()):
            self._pause_for(RATE)
            self._set_timer(seconds)

    def _detach(self) -> None:
        self._timer.cancel()
        super()._detach()

    def _set_timer(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._context.clock.call_later(seconds, self._end_pause, RATE)
