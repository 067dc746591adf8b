"""The decoder of a watched client: reports what it decodes."""

from collections.abc import Callable

from wsaas.events import Message
from wsaas.websocket.decoder import FrameDecoder
from wsaas.websocket.frames import Received


class WatchedDecoder(FrameDecoder):
    """Decodes with `decoder`, which has the state. So it can be put in front of a decoder at any time, and removed."""

    __slots__ = ("_report", "decoder")

    def __init__(self, decoder: FrameDecoder, report: Callable[[Received], None]) -> None:
        """Call `report` with whatever `decoder` returns."""
        super().__init__(0)
        self._report = report
        self.decoder = decoder

    def decode_message(self, data: bytes) -> Message | None:
        """Return the message if `data` is exactly one usual one, and report it."""
        message = self.decoder.decode_message(data)
        if message is not None:
            self._report(message)
        return message

    def receive(self, data: bytes) -> None:
        """Buffer bytes for `next`."""
        self.decoder.receive(data)

    def next(self) -> Received | None:
        """Return the next message or control frame, and report it."""
        received = self.decoder.next()
        if received is not None:
            self._report(received)
        return received

    @property
    def pending(self) -> bool:
        """Whether there are bytes that `next` has not decoded."""
        return self.decoder.pending

    @property
    def buffered_bytes(self) -> int:
        """Size of what is buffered."""
        return self.decoder.buffered_bytes
