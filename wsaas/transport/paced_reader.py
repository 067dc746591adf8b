"""Reading one client: no more at a time than others can wait for, and not at all while it has to wait.

A client waits while its messages pile up before the backend (`pause`), while it sends more than `MAX_MESSAGE_RATE`,
while other connections have their turn, and while it holds too much of a node that is short of memory.
"""

import asyncio
from abc import ABC, abstractmethod

from wsaas.clock import Timer
from wsaas.events import Message, Reason
from wsaas.sessions.session import Session
from wsaas.transport.context import ServerContext
from wsaas.transport.run_queue import SLICE_S
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Ping, Received

READ_SIZE = 256 * 1024
"""Most bytes that one read brings."""


class _Queued:
    """Stands for the timer of a connection that waits in the run queue."""

    def cancel(self) -> None:
        """Do nothing: who is called when its turn comes finds that it waits no longer."""


_QUEUED = _Queued()


class _Throttled:
    """Stands for the timer of a client that holds more memory than it may just now. `since`: monotonic seconds."""

    __slots__ = ("since",)

    def __init__(self, since: float) -> None:
        self.since = since

    def cancel(self) -> None:
        """Do nothing: the heartbeat lets it go on."""


class PacedReader(asyncio.Protocol, ABC):
    """Hands the frames of one client on, as fast as it may send them.

    `_rest` is set while it is not read for another reason than `pause`: what to cancel when its connection ends.
    """

    __slots__ = ("_common", "_frames", "_paused", "_rest", "_transport", "session")

    def __init__(
        self, common: ServerContext, transport: asyncio.Transport, session: Session, frames: FrameDecoder
    ) -> None:
        """Hand what `frames` decodes to `session`."""
        self._common = common
        self._frames = frames
        self._paused = False
        self._rest: Timer | None = None
        self._transport = transport
        self.session = session

    # What a client is.

    def _take(self, message: Message) -> None:
        self.session.receive(message)

    @abstractmethod
    def _control(self, received: Received) -> None:
        """Do what a control frame, or a violation, asks for."""

    @abstractmethod
    def _pong(self, ping: Ping, unsent: int = 0) -> bytes:
        """Return the answer to `ping`, behind `unsent` bytes of other answers; empty where it has to wait."""

    @abstractmethod
    def _send_pongs(self, pongs: bytearray) -> None:
        """Send answers to pings, if there are any, and empty `pongs`."""

    # Reading.

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
        elif held := stream.held:
            # A message that is longer than a read.
            self._common.memory.note(min(READ_SIZE, held))
        else:
            return
        if stream.pending:
            self._read_on()

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

    def _sweep_memory(self, now: float) -> None:
        """Throttle a client that holds more than it may, let it go on when it does not, or close it in the end."""
        session, allowance = self.session, self._common.memory.allowance
        unfinished = self._frames.held
        too_much = unfinished + session.outbox.level > allowance
        if isinstance(self._rest, _Throttled):
            if not too_much:
                self._go_on()
            elif unfinished > allowance / 2 and now - self._rest.since >= self._common.settings.handshake_timeout:
                # What waits for the backend is on its way out. But a message that is not read will never be whole.
                session.close(Reason.OUT_OF_MEMORY)
        elif too_much and self._rest is None:
            self._transport.pause_reading()
            self._rest = _Throttled(now)

    @property
    def _is_throttled(self) -> bool:
        return isinstance(self._rest, _Throttled)

    @property
    def _is_waiting(self) -> bool:
        """Whether it is not read until a time comes."""
        return self._rest is not None and not isinstance(self._rest, _Queued | _Throttled)

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
