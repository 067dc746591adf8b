"""What is done to many clients at once: publishing one message, and closing them."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from wsaas.counters import Counters
from wsaas.reason import Reason
from wsaas.sessions.fan_out import FanOut, Summary
from wsaas.sessions.group import Group
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING, OPEN, State
from wsaas.sessions.watched_client import WatchedEncoder
from wsaas.websocket.frames import Encoder

MAX_NAMED: Final = 1000
"""Maximum number of clients that a response names. Further ones are only counted."""

ACCEPTING: Final = (OPEN, CONNECTING)
"""States in which frames are sent, or are kept until the 101."""


@dataclass(frozen=True, slots=True)
class Recipients:
    """The clients that work is done on: those that `find` returns when it begins, which may be changed meanwhile.

    Skipped are clients that are in none of `states` when it is their turn, and those whose ids are `excluded`.
    """

    find: Callable[[], Iterable[Session]]
    states: tuple[State, ...] = ACCEPTING
    excluded: Collection[str] = frozenset()

    def begin(self) -> Iterator[Session]:
        """Return an iterator over the clients of now."""
        return iter(self.find())


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


class SharedMessage(dict[Encoder, bytes]):
    """A message for many clients: its frame by encoder. All that agreed on the same compression share a frame."""

    __slots__ = ("data", "opcode")

    def __init__(self, opcode: int, data: bytes) -> None:
        """Take the payload `data`, which is valid UTF-8 if `opcode` is TEXT."""
        super().__init__()
        self.data = data
        self.opcode = opcode

    def __missing__(self, encode: Encoder) -> bytes:
        """Make the frame of an encoder when it is first used. Finding it again takes no call in Python."""
        make = encode.shared if isinstance(encode, WatchedEncoder) else encode
        frame = self[encode] = make(self.opcode, self.data)
        return frame


class Publication(FanOut):
    """One message on its way to many clients, each of which gets it at most once.

    `sent`: to how many it was sent. `slow`: the clients that were skipped, as `SEND_BUFFER` bytes wait for them.
    """

    __slots__ = ("_closes_slow", "_find_group", "_group", "_message", "_pending", "_recipients", "sent", "slow")

    def __init__(
        self,
        message: SharedMessage,
        recipients: Recipients,
        *,
        find_group: Callable[[], Group[Session]] | None = None,
        closes_slow: bool = False,
    ) -> None:
        """Send `message` to `recipients`. `closes_slow`: close those that are skipped as slow, with 1013.

        `find_group`: returns the group that `recipients` are the members of, which then counts the message for them.
        """
        super().__init__()
        self._closes_slow = closes_slow
        self._find_group = find_group
        self._group: Group[Session] | None = None
        self._message = message
        self._pending: Iterator[Session] | None = None
        self._recipients = recipients
        self.sent = 0
        self.slow = NamedClients()

    def advance(self, timer: Callable[[], float], end: float) -> bool:
        """Send to the next clients."""
        pending = self._pending or self._begin()
        message, size = self._message, len(self._message.data)
        excluded, states = self._recipients.excluded, self._recipients.states
        group = self._group
        # The members for which the group does not count the message: usually none.
        left = {} if group is None else group.left
        for session in pending:
            if session.state not in states or (excluded and session.id in excluded):
                self._uncount(session)
            elif session.send_frame(message[session.encode]):
                self.sent += 1
                if group is None or (left and session.id in left):
                    session.info.count_sent(1, size)
            else:
                self._skip(session)
            if timer() >= end:
                if group is not None:
                    group.note_reached(session.id)
                return False
        if group is not None:
            group.end_publish()
        return True

    def summary(self) -> Summary:
        """Return how many clients it was sent to, and the slow ones."""
        return {"sent": self.sent, "slow": self.slow.ids, "slow_count": self.slow.count}

    def count(self, counters: Counters) -> None:
        """Count the deliveries."""
        counters.published += self.sent
        counters.bytes_out += self.sent * len(self._message.data)
        counters.group_slow += self.slow.count

    def _begin(self) -> Iterator[Session]:
        if self._find_group is None:
            self._pending = self._recipients.begin()
        else:
            self._group = self._find_group()
            self._pending = self._group.begin_publish(len(self._message.data))
        return self._pending

    def _uncount(self, session: Session) -> None:
        """Correct the count of a client that is not sent the message. Before its turn, its group has counted it."""
        group = self._group
        if group is not None and session.id not in group.left:
            session.info.count_sent(-1, -len(self._message.data))

    def _skip(self, session: Session) -> None:
        self._uncount(session)
        self.slow.add(session.id)
        if self._closes_slow:
            if self._group is not None:
                # Closing it ends its membership.
                self._group.note_reached(session.id)
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
            self._pending = self._recipients.begin()
        excluded, states = self._recipients.excluded, self._recipients.states
        for session in self._pending:
            if session.state in states and session.id not in excluded:
                session.close(Reason.BACKEND_CLOSED, self._code, self._reason)
                self.closed += 1
            if timer() >= end:
                return False
        return True

    def count(self, counters: Counters) -> None:
        """Count nothing: each connection counts its end."""

    def summary(self) -> Summary:
        """Return how many clients were closed."""
        return {"closed": self.closed}
