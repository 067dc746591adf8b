"""Compares what NATS has with what a process owes, after NATS was in trouble, and puts right what differs.

NATS may have lost what it had acknowledged, as it does not flush each write to the disk. And what it did not
acknowledge may be stored later, even after it was removed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from wsaas.clock import NO_TIMER, Clock
from wsaas.delivery.journal import Remembered
from wsaas.delivery.replicated_journal import ReplicatedJournal
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.membership.bucket import BucketError
from wsaas.membership.membership import Membership
from wsaas.membership.membership_state import DEAD
from wsaas.membership.tasks import end_tasks

DELAYS_S: Final = (5.0, 60.0)
"""Seconds between the end of the trouble and the first comparison, and between that and the second one. A server that
was frozen meanwhile may still store what it was sent before."""

Owed = Callable[[], Mapping[str, Remembered | None]]
Stored = Callable[[str], Awaitable[Mapping[str, bytes]]]


class Comparison:
    """Compares what NATS has of the process of `membership` with what is owed, and corrects `journal`.

    `stored` returns the values that NATS has for a prefix, by id, or raises `BucketError`. `owed` returns the
    connections of the present prefix whose DELETE is owed, now or later, by id; None for a connection that may be in no
    journal yet.
    """

    def __init__(
        self, membership: Membership, journal: ReplicatedJournal, clock: Clock, owed: Owed, stored: Stored
    ) -> None:
        """Compare nothing yet."""
        self._clock = clock
        self._journal = journal
        self._membership = membership
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = NO_TIMER
        self.owed = owed
        self.stored = stored

    def after_trouble(self) -> None:
        """Compare some seconds from now, as NATS works again."""
        self._compare_later(0)

    def cancel(self) -> None:
        """Begin no comparison until the end of the next trouble."""
        self._timer.cancel()

    async def stop(self) -> None:
        """Compare nothing any more, except by `compare`."""
        self._timer.cancel()
        await end_tasks([*self._tasks])

    async def compare(self) -> bool:
        """Write or remove what differs; return False if it cannot be told what does. Raises `BucketError`.

        What a process that was declared dead has in NATS is another one's.
        """
        journal, own = self._journal, self._membership.own
        prefix = own.prefix
        before = [each for each, found in self.owed().items() if found is not None and not journal.is_pending(each)]
        stored = await self.stored(prefix)
        owed = self.owed()
        if prefix != own.prefix or self._membership.state is DEAD:
            return True
        for connection_id in stored:
            if connection_id not in owed and not journal.is_pending(connection_id):
                journal.remove(connection_id)
        lost = [owed.get(each) for each in before if each not in stored and not journal.is_pending(each)]
        missing = [each for each in lost if each is not None]
        if missing and self._clock.now() >= journal.lease_end:
            # Another process may have sent their DELETEs, and have removed them.
            return False
        if missing:
            logger.warning("NATS has lost %s: written again", counted(len(missing), "connection"))
            journal.restore(missing)
        return True

    def _compare_later(self, number: int) -> None:
        self._timer.cancel()
        if number < len(DELAYS_S):
            self._timer = self._clock.call_later(DELAYS_S[number], self._start, number)

    def _start(self, number: int) -> None:
        task = asyncio.ensure_future(self._try(number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self, number: int) -> None:
        try:
            is_done = await self.compare()
        except BucketError:
            # NATS is in trouble again. There is a comparison after that, too.
            logger.debug("what NATS has could not be compared with what is owed")
        else:
            self._compare_later(number + 1 if is_done else number)
