"""Reads the frames of one client in slices of time, and pauses reading while there is a `PauseReason`."""

import asyncio
from abc import ABC, abstractmethod
from typing import Final

from wsaas.events import Message
from wsaas.reason import Reason
from wsaas.run_queue import SLICE_S
from wsaas.sessions.ports import ConnectionRecorder
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.pause_reason import CONSUMER, MEMORY, NOT_PAUSED, TURN, PauseReason, PauseReasons
from wsaas.transport.socket_protocol import SocketProtocol
from wsaas.transport.watched_transport import WatchedTransport
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Ping, Received
from wsaas.websocket.watched_decoder import WatchedDecoder

MAX_READ_SIZE: Final = 256 * 1024
"""Maximum number of bytes that the event loop reads from a socket at once."""


class PacedReader(SocketProtocol, ABC):
    """Hands the frames of one client to its session.

    The client is read while `_paused_by` is empty. While reading is paused, TCP makes the client wait; nothing is
    dropped.
    """

    __slots__ = ("_context", "_frames", "_paused_by", "_throttled_at", "_transport", "session")

    def __init__(
        self, context: ServerContext, transport: asyncio.Transport, session: Session, frames: FrameDecoder
    ) -> None:
        """Decode with `frames`, and pass the messages to `session`."""
        self._context = context
        self._frames = frames
        self._paused_by: PauseReasons = NOT_PAUSED
        self._throttled_at = 0.0
        self._transport = transport
        self.session = session

    # Overridden by the protocol of a client.

    def _take(self, message: Message) -> None:
        """Hand `message` to the session."""
        self.session.receive(message)

    @abstractmethod
    def _control(self, received: Received) -> None:
        """Handle a control frame or a violation of the protocol."""

    @abstractmethod
    def _pong(self, ping: Ping, unsent: int = 0) -> bytes:
        """Return the pong to `ping`, empty if it has to wait. `unsent`: bytes of other pongs to be sent first."""

    @abstractmethod
    def _send_pongs(self, pongs: bytearray) -> None:
        """Send `pongs`, if any, and clear it."""

    # Called by the session.

    def pause(self) -> None:
        """Stop reading until `resume`."""
        self._pause_for(CONSUMER)

    def resume(self) -> None:
        """Continue to read, unless there is another reason to pause."""
        # Reading was paused meanwhile, so the client's silence proves nothing.
        self.session.info.last_seen = self._context.clock.now()
        self._paused_by -= {CONSUMER}
        self._read_frames()
        self._resume_transport()

    def watch(self, recorder: ConnectionRecorder) -> None:
        """Report to `recorder` what is received and sent. The caller calls `Session.attach` next."""
        self._frames = WatchedDecoder(self._frames, recorder.received)
        self._transport = WatchedTransport(self._transport, recorder.sent)

    def unwatch(self) -> None:
        """Report nothing any more. The caller calls `Session.attach` next."""
        frames, transport = self._frames, self._transport
        if isinstance(frames, WatchedDecoder) and isinstance(transport, WatchedTransport):
            self._frames, self._transport = frames.decoder, transport.transport

    # Reading.

    def _read_frames(self) -> None:
        """Hand on one received frame. If no other connection waits, hand on more for a slice of time."""
        if self._paused_by:
            return
        frames = self._frames
        received = frames.next()
        if type(received) is Message:
            self._take(received)
        elif received is not None:
            self._control(received)
        elif held := frames.buffered_bytes:
            # A message that is longer than one read.
            self._context.memory.note(min(MAX_READ_SIZE, held))
        else:
            return
        if frames.pending:
            if not self._context.run_queue.waiting:
                self._read_slice()
            elif not self._paused_by:
                self._wait_for_turn()

    def _read_slice(self) -> None:
        """Hand on frames for a slice of time. Pongs are sent in one write, as a client may send very many pings."""
        frames, timer = self._frames, self._context.run_queue.timer
        pongs = bytearray()
        end = timer() + SLICE_S
        while frames.pending and not self._paused_by:
            received = frames.next()
            if type(received) is Message:
                self._take(received)
            elif isinstance(received, Ping):
                pongs += self._pong(received, len(pongs))
            elif received is not None:
                self._send_pongs(pongs)
                self._control(received)
            if timer() >= end:
                if frames.pending and not self._paused_by:
                    self._wait_for_turn()
                break
        self._send_pongs(pongs)

    def _wait_for_turn(self) -> None:
        self._pause_for(TURN)
        self._context.run_queue.add(self._take_turn)

    def _take_turn(self) -> None:
        self._end_pause(TURN)

    def _check_memory(self, now: float) -> None:
        """Pause or resume reading by how much memory the client uses; close it if a message can never complete."""
        session, allowance = self.session, self._context.memory.allowance
        unfinished = self._frames.buffered_bytes
        too_much = unfinished + session.outbox.level > allowance
        if MEMORY in self._paused_by:
            if not too_much:
                self._end_pause(MEMORY)
            elif unfinished > allowance / 2 and now - self._throttled_at >= self._context.settings.handshake_timeout:
                # The backend will take complete messages. But an incomplete one stays as long as reading is paused.
                session.close(Reason.OUT_OF_MEMORY)
        elif too_much and not self._paused_by - {CONSUMER}:
            self._throttled_at = now
            self._pause_for(MEMORY)

    def _pause_for(self, reason: PauseReason) -> None:
        """Stop reading until `_end_pause(reason)`."""
        self._paused_by |= {reason}
        self._transport.pause_reading()

    def _end_pause(self, reason: PauseReason) -> None:
        """Continue to read, unless there is another reason to pause or the connection has ended."""
        if reason not in self._paused_by:
            return
        self._paused_by -= {reason}
        # Reading was paused meanwhile, so the client's silence proves nothing.
        self.session.info.last_seen = self._context.clock.now()
        if not self._paused_by:
            self._read_slice()
            self._resume_transport()

    def _resume_transport(self) -> None:
        if not (self._paused_by or self._transport.is_closing()):
            self._transport.resume_reading()
