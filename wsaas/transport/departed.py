"""What remains of a client whose connection has ended: received frames to deliver, and buffered bytes to send."""

import asyncio

from wsaas.events import Message
from wsaas.run_queue import SLICE_S
from wsaas.sessions.ports import NoConnection
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.pause_reason import CONSUMER, NOT_PAUSED, TURN, PauseReasons
from wsaas.transport.send_progress import SendProgress
from wsaas.transport.socket_protocol import SocketProtocol, set_protocol
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Close, Violation


class UnreadFrames(NoConnection):
    """Hands the frames that were received before the connection ended to the session.

    They are decoded in slices of time, no faster than the backend takes the messages. After the last frame the session
    ends, and its DELETE is due. Frames written to this connection are dropped.
    """

    __slots__ = ("_context", "_frames", "_paused_by", "_session")

    def __init__(self, context: ServerContext, session: Session, frames: FrameDecoder, *, is_paused: bool) -> None:
        """Pass the frames in `frames` to `session`. With `is_paused`, wait for `resume` first."""
        self._context = context
        self._frames = frames
        self._paused_by: PauseReasons = frozenset({CONSUMER}) if is_paused else NOT_PAUSED
        self._session = session

    def start(self) -> None:
        """Continue in a later turn of the loop."""
        if not self._paused_by:
            self._paused_by |= {TURN}
            self._context.run_queue.add(self._take_turn)

    def pause(self) -> None:
        """Stop until `resume`: the backend has to take earlier messages first."""
        self._paused_by |= {CONSUMER}

    def resume(self) -> None:
        """Continue."""
        self._paused_by -= {CONSUMER}
        self.start()

    def _take_turn(self) -> None:
        session, frames, timer = self._session, self._frames, self._context.run_queue.timer
        self._paused_by -= {TURN}
        end = timer() + SLICE_S
        while not self._paused_by:
            received = frames.next() if frames.pending else None
            if type(received) is Message:
                session.receive(received)
            elif isinstance(received, Close):
                session.closed_by_client(received.code, received.reason)
                return
            elif isinstance(received, Violation) or not frames.pending:
                # No Close is sent for a violation: the client is gone.
                session.lost()
                return
            if timer() >= end:
                self.start()
                return


class FlushingProtocol(SocketProtocol):
    """Takes over a closing connection until the buffered bytes are sent.

    The client has `HANDSHAKE_TIMEOUT` to read them. Each time it makes progress the time starts again, up to
    `KEEP_ALIVE_TIMEOUT` in total.
    """

    __slots__ = ("_context", "_counted_block", "_deadline", "_final_deadline", "_progress", "_transport")

    def __init__(self, context: ServerContext, transport: asyncio.Transport, counted_block: str = "") -> None:
        """Prepare for `transport`. `counted_block`: the result of `AddressLimit.count_closing` for the connection."""
        self._context = context
        self._counted_block = counted_block
        self._deadline = context.closing_deadline()
        self._final_deadline = context.clock.now() + context.settings.keep_alive_timeout
        self._progress = SendProgress(transport)
        self._transport = transport

    def start(self) -> None:
        """Take over the transport."""
        set_protocol(self._transport, self)
        self._context.timeouts.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Stop the time-outs: everything was sent, or the client is gone."""
        self._context.timeouts.discard(self)
        self._context.addresses.end(self._counted_block)

    def check_deadline(self, now: float) -> None:
        """Abort the connection if the client has stopped reading."""
        if now >= self._deadline:
            if now < self._final_deadline and self._progress.has_advanced():
                self._deadline = self._context.closing_deadline()
            else:
                self._transport.abort()

    def close_gracefully(self) -> None:
        """Do nothing: the connection is closing already."""
