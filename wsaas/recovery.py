"""The DELETEs that an earlier process owed, sent beside normal service."""

from collections import deque
from collections.abc import Callable, Sequence

import orjson

from wsaas.events import Closed, Reason
from wsaas.journal import LAST_NUMBER, Entry
from wsaas.log import logger
from wsaas.outbox import Outbox, Owner
from wsaas.session import Services
from wsaas.webhook import Subject

AT_ONCE = 16
"""So many are under way at a time: clients that connect now come first."""


class _Orphan(Owner):
    """A connection whose gateway is gone. Of all that an outbox tells, it hears only the last."""

    def __init__(self, services: Services, entry: Entry, recovery: "Recovery") -> None:
        """Send what the earlier process was about to send, or else what is left to be said."""
        self.entry = entry
        self._journal = services.journal
        self._recovery = recovery
        subject = Subject(entry.id, entry.ws_uri, entry.authorization)
        if entry.context is not None:
            subject.remember(entry.context)
        self.outbox = Outbox(services.webhook, services.clock, subject, self, services.settings.inbox)
        if entry.number is None or entry.ended_at is None or entry.farewell is None:
            self.outbox.put(_farewell(entry, services.clock.wall()))
        else:
            self.outbox.put(Closed(entry.farewell, entry.ended_at, entry.number))

    def leaving(self, farewell: Closed, go: Callable[[], None]) -> None:
        """Write down what is about to be sent, unless the earlier process did."""
        if self.entry.farewell is None:
            self._journal.ended(self.entry.id, farewell, lambda _written: go())
        else:
            go()

    def settled(self, why: str) -> None:
        """The DELETE is done, or given up."""
        self._recovery.settled(self, why)


class Recovery:
    """Sends what is owed for `entries`, some at a time."""

    def __init__(self, services: Services, entries: Sequence[Entry]) -> None:
        """Send nothing yet."""
        self._services = services
        self._left = deque(entries)
        self._under_way: set[_Orphan] = set()

    def __len__(self) -> int:
        """Return how many are not done."""
        return len(self._left) + len(self._under_way)

    def start(self) -> None:
        """Send."""
        if self._left:
            logger.info("an earlier gateway left %d connections: telling the backend", len(self._left))
        self._go_on()

    def stop(self) -> None:
        """Send no more: what is not done stays in the journal."""
        for orphan in self._under_way:
            orphan.outbox.abandon()
        self._left.clear()
        self._under_way.clear()

    def settled(self, orphan: _Orphan, why: str) -> None:
        """One is done, or given up until the next start."""
        self._under_way.remove(orphan)
        orphan.outbox.leave()
        if why:
            logger.error("%s: the backend was not told that this connection ended: %s", orphan.entry.ws_uri, why)
        else:
            self._services.journal.settled(orphan.entry.id)
        self._go_on()
        if not len(self):
            logger.info("all connections that an earlier gateway left are dealt with")

    def _go_on(self) -> None:
        while self._left and len(self._under_way) < AT_ONCE:
            self._under_way.add(_Orphan(self._services, self._left.popleft(), self))


def _farewell(entry: Entry, now: float) -> Closed:
    """Return the DELETE of a connection that was lost with its gateway, found at `now` (seconds since the epoch).

    Its duration is what it can have been at most; the counts are not known.
    """
    body = {
        "ws_uri": entry.ws_uri,
        "code": Reason.GATEWAY_LOST.code,
        "reason": Reason.GATEWAY_LOST.value,
        "duration": max(0, round((now - entry.connected_at) * 1000)),
        "messages_in": None,
        "messages_out": None,
    }
    return Closed(orjson.dumps(body), now, LAST_NUMBER)
