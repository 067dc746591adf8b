"""What is done to many clients at once: publishing one message, and closing them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from wsaas.events import Reason
from wsaas.sessions.fan_out import FanOut, Summary
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING, OPEN, State
from wsaas.websocket.frames import Encoder

MAX_NAMED: Final = 1000
"""Maximum number of clients that a response names. Further ones are only counted."""

ACCEPTING: Final = (OPEN, CONNECTING)
"""States in which frames are sent, or are kept until the 101."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """The clients that work is done on: those that `find` returns when it begins.

    They are copied then, so clients that join or leave later change nothing. Skipped are clients that are in none of
    `states` when it is their turn, and those whose ids are `excluded`.
    """

    find: Callable[[], Collection[Session]]
    states: tuple[State, ...] = ACCEPTING
    excluded: Collection[str] = frozenset()


class NamedClients:
    """The ids of clients, of which at most `MAX_NAMED` are kept, and their number."""

    __slots__ = ("count", "ids")

    def __init__(self) -> None:
        """Name no client yet."""
        self.count = 0
        self.ids: list[str] = []

    def add(self, connection_id: str) -> None:
        """Add a client."""
        self.count += 1
        if self.count <= MAX_NAMED:
            self.ids.append(connection_id)


class SharedMessage:
    """A message for many clients. `frames`: by encoder, one for all clients that agreed on the same compression."""

    __slots__ = ("data", "frames", "opcode")

    def __init__(self, opcode: int, data: bytes) -> None:
        """Take the payload `data`, which is valid UTF-8 if `opcode` is TEXT."""
        self.data = data
        self.frames: dict[Encoder, bytes] = {}
        self.opcode = opcode

    def frame(self, encode: Encoder) -> bytes:
        """Make the frame of an encoder that is not in `frames` yet."""
        frame = self.frames[encode] = encode(self.opcode, self.data)
        return frame


class Publication(FanOut):
    """One message on its way to many clients, each of which gets it at most once.

    `sent`: to how many it was sent. `slow`: the clients that were skipped, as `SEND_BUFFER` bytes wait for them.
    """

    __slots__ = ("_closes_slow", "_message", "_pending", "_recipients", "sent", "slow")

    def __init__(
        self,
        message: SharedMessage,
        recipients: Recipients,
        *,
        closes_slow: bool = False,
    ) -> None:
        """Send `message` to `recipients`. `closes_slow`: close those that are skipped as slow, with 1013."""
        super().__init__()
        self._closes_slow = closes_slow
        self._message = message
        self._pending: Iterator[Session] | None = None
        self._recipients = recipients
        self.sent = 0
        self.slow = NamedClients()

    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Send to the next clients."""
        if self._pending is None:
            self._pending = iter([*self._recipients.find()])
        message = self._message
        frames, size = message.frames, len(message.data)
        excluded, states = self._recipients.excluded, self._recipients.states
        for session in self._pending:
            if session.state in states and not (excluded and session.id in excluded):
                encode = session.encode
                if session.send_frame(frames.get(encode) or message.frame(encode), size):
                    self.sent += 1
                else:
                    self._skip(session)
            if timer() >= end:
                return False
        return True

    def summary(self) -> Summary:
        """Return how many clients it was sent to, and the slow ones."""
        return {"sent": self.sent, "slow": self.slow.ids, "slow_count": self.slow.count}

    def _skip(self, session: Session) -> None:
        self.slow.add(session.id)
        if self._closes_slow:
            session.close(Reason.SLOW_CLIENT)


class Closing(FanOut):
    """Closes many clients with one code and reason. `closed`: how many were closed."""

    __slots__ = ("_code", "_pending", "_reason", "_recipients", "closed")

    def __init__(self, code: int, reason: str, recipients: Recipients) -> None:
        """Close `recipients` with `code` and `reason`."""
        super().__init__()
        self._code = code
        self._pending: Iterator[Session] | None = None
        self._reason = reason
        self._recipients = recipients
        self.closed = 0

    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Close the next clients."""
        if self._pending is None:
            self._pending = iter([*self._recipients.find()])
        for session in self._pending:
            if session.state in self._recipients.states:
                session.close(Reason.BACKEND_CLOSED, self._code, self._reason)
                self.closed += 1
            if timer() >= end:
                return False
        return True

    def summary(self) -> Summary:
        """Return how many clients were closed."""
        return {"closed": self.closed}
