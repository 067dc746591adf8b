"""What a client leaves behind when its connection ends: frames that were read, and bytes that it has still to take."""

import asyncio

from wsaas.events import Message
from wsaas.sessions.ports import NoConnection
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.run_queue import SLICE_S
from wsaas.transport.send_progress import SendProgress
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Close, Violation


class UnreadFrames(NoConnection):
    """Frames that were received before the connection ended, and that are still to be handed to the session.

    They are decoded a slice at a time, and no faster than the backend takes the messages. The session owes its DELETE
    when the last one was handed on. There is nothing to write to any more.
    """

    __slots__ = ("_common", "_paused", "_queued", "_session", "_stream")

    def __init__(self, common: ServerContext, session: Session, stream: FrameDecoder, *, paused: bool) -> None:
        """Hand what is left in `stream` to `session`; at first not, when `paused`."""
        self._common = common
        self._paused = paused
        self._queued = False
        self._session = session
        self._stream = stream

    def start(self) -> None:
        """Go on in a later turn of the loop."""
        if not (self._paused or self._queued):
            self._queued = True
            self._common.run_queue.add(self._hand_on)

    def pause(self) -> None:
        """Wait until the backend caught up."""
        self._paused = True

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self.start()

    def _hand_on(self) -> None:
        session, stream, timer = self._session, self._stream, self._common.run_queue.timer
        self._queued = False
        end = timer() + SLICE_S
        while not self._paused:
            received = stream.next() if stream.pending else None
            if type(received) is Message:
                session.receive(received)
            elif isinstance(received, Close):
                session.closed_by_client(received.code, received.reason)
                return
            elif isinstance(received, Violation) or not stream.pending:
                # It cannot be told of a violation any more.
                session.lost()
                return
            if timer() >= end:
                self.start()
                return


class FlushingProtocol(asyncio.Protocol):
    """A connection that was closed here while bytes wait for the client: they are still sent, but not for ever."""

    __slots__ = ("_common", "_deadline", "_last_deadline", "_lingers_for", "_progress", "_transport")

    def __init__(self, common: ServerContext, transport: asyncio.Transport, lingers_for: str = "") -> None:
        """Take over `transport`, which is closed or about to be, and is counted for the customer `lingers_for`.

        The client has `HANDSHAKE_TIMEOUT`, again and again while it takes some of the bytes, and `KEEP_ALIVE_TIMEOUT`
        in all.
        """
        self._common = common
        self._deadline = common.closing_deadline()
        self._last_deadline = common.clock.now() + common.settings.keep_alive_timeout
        self._lingers_for = lingers_for
        self._progress = SendProgress(transport)
        self._transport = transport
        transport.set_protocol(self)
        common.timeouts.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Everything was sent, or the client is gone."""
        self._common.timeouts.discard(self)
        self._common.addresses.end(self._lingers_for)

    def check_deadline(self, now: float) -> None:
        """Drop a client that takes nothing any more."""
        if now >= self._deadline:
            if now < self._last_deadline and self._progress.made():
                self._deadline = self._common.closing_deadline()
            else:
                self._transport.abort()

    def close_gracefully(self) -> None:
        """Do nothing: it is closed already."""
