"""The journals of a process: on this machine, and in NATS. What is in them survives the process.

They compose `delivery` with `cluster`, and the sessions with both.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wsaas.clock import Clock
from wsaas.delivery.journal import Entry, Journal, NoJournal, Remembered, SqliteJournal
from wsaas.delivery.journal_adoption import unused_journals
from wsaas.delivery.journal_file import JournalInUse
from wsaas.delivery.recovery import Recovery
from wsaas.log import about, logger
from wsaas.sessions.registry import Registry, draw_prefix
from wsaas.settings import Settings
from wsaas.statistics import ClusterStatistics
from wsaas.transport.certificates import Certificates
from wsaas.worker_place import WorkerPlace

if TYPE_CHECKING:
    from wsaas.cluster.replication import Replication

DRAIN_GRACE_S: Final = 10.0
"""Seconds beyond `DRAIN_TIMEOUT` in which a drain ends: it may count unread messages and close its journal."""

RETRY_S: Final = 0.1
"""Seconds between two attempts to open a journal that is in use."""

_IN_USE: Final = "%s is in use, perhaps by a worker of a supervisor that was killed: waiting for up to %g s"


class Journals:
    """The journals, and the DELETEs that earlier processes left in them (`recovery`). Call `attach` before use.

    `journal`: where connections are recorded. `replication`: to NATS, None without a cluster. `has_heir`: whether
    another process, or the next start, sends the DELETEs that this one does not deliver in a drain.
    """

    def __init__(
        self, settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop, place: WorkerPlace | None
    ) -> None:
        """Open nothing yet. `place`: that of a worker."""
        path = settings.journal if place is None else Path(place.journal)
        is_full = settings.journal_sync == "full"
        self._clock = clock
        self._left: list[Entry] = []
        self._local = None if path is None else SqliteJournal(path, clock, loop.call_soon_threadsafe, sync_full=is_full)
        self._place = place
        self._settings = settings
        self.has_heir = self._local is not None
        self.journal: Journal = self._local or NoJournal()
        self.replication: Replication | None = None

    def replicate(self, certificates: Certificates) -> None:
        """Record connections in NATS, too. Call this before `attach`. `certificates`: for TLS to NATS."""
        # Without a cluster, nothing of the extra is imported.
        from wsaas.cluster.replication import Replication  # noqa: PLC0415
        from wsaas.membership.composition import make_membership  # noqa: PLC0415

        settings, clock = self._settings, self._clock
        identity = (draw_prefix(), clock.wall())
        membership = make_membership(settings, clock, lambda: certificates.nats, self._place, identity)
        self.replication = Replication(membership, self._local or NoJournal(), settings, clock)
        self.journal = self.replication.journal
        self.has_heir = True

    def attach(self, registry: Registry) -> None:
        """Record the connections of `registry`."""
        self._registry = registry
        self.recovery = Recovery(registry.services)
        if self._local is not None:
            self._local.remembered = self._remembered
            registry.on_disconnect_failed = self.recovery.keep
        if self.replication is not None:
            self.replication.attach(registry, self.recovery)
            self.replication.membership.count_clients = registry.__len__
            registry.on_disconnect_failed = self.replication.keep

    @property
    def is_writable(self) -> bool | None:
        """Whether the journal on this machine can be written, None without one."""
        return None if self._local is None else self._local.is_writable

    def cluster_statistics(self) -> ClusterStatistics | None:
        """Return what is replicated, None without a cluster."""
        return None if self.replication is None else self.replication.statistics()

    async def open(self, stop: asyncio.Event) -> None:
        """Open the journal on this machine. Raises `JournalError`.

        Waits for the workers of a supervisor that was killed, which use their journals until they have drained; not
        any longer when `stop` is set.
        """
        if self._local is not None:
            self._left = await self._open(self._local, stop)

    def send_left(self) -> None:
        """Send the DELETEs that an earlier process left. A second call does nothing."""
        left, self._left = self._left, []
        if self.replication is None:
            self.recovery.add(left)
        else:
            self.replication.start(left)

    def recoveries_to_await(self) -> int:
        """Return how many DELETEs of an earlier process have to be delivered before the node stops."""
        return 0 if self.has_heir else len(self.recovery)

    @property
    def heir(self) -> str:
        """Who sends the DELETEs that this process does not deliver in a drain, for people; empty if nobody does."""
        if not self.has_heir:
            return ""
        return "the next start" if self.replication is None else "other nodes"

    async def stop(self) -> tuple[list[Remembered], int]:
        """Send no DELETE of an earlier process any more.

        Return the connections that the journals have to contain, for `leave`, and how many DELETEs of earlier processes
        are lost. Call this before the deliveries of the sessions are abandoned.
        """
        remembered = self._remembered()
        if self.replication is not None:
            await self.replication.stop()
        lost = [] if self.has_heir else self.recovery.entries()
        self.recovery.stop()
        for entry in lost:
            logger.error("%(ws_uri)s: stopped before the DELETE was delivered", about(entry.ws_uri))
        return remembered, len(lost)

    async def leave(self, remembered: list[Remembered]) -> bool:
        """Leave `remembered` to the heir, and close the journals; return whether they contain it."""
        if self.replication is not None:
            await self.replication.leave(remembered)
        return self._local is None or self._local.close(remembered)

    async def close(self) -> None:
        """Close the journals at once, if that was not done yet."""
        if self.replication is not None:
            await self.replication.close(self._remembered())
        if self._local is not None:
            self._local.close()

    def _remembered(self) -> list[Remembered]:
        """Return everything that the journals have to contain."""
        return [*self._registry.live(), *self._registry.ending(), *self.recovery.entries()]

    async def _open(self, journal: SqliteJournal, stop: asyncio.Event) -> list[Entry]:
        """Open `journal` when no other process uses it any more, and return its entries."""
        place, clock = self._place, self._clock
        unused = self._unused()
        awaited = unused if place is None else [Path(place.journal), *unused]
        limit = self._settings.drain_timeout + DRAIN_GRACE_S
        deadline = clock.now() + limit
        is_last = is_waiting = False
        while True:
            try:
                return journal.open(unused, skips_used=is_last)
            except JournalInUse as error:
                if is_last or error.path not in awaited:
                    raise
                if not is_waiting:
                    is_waiting = True
                    logger.warning(_IN_USE, error.path, limit)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), RETRY_S)
            is_last = stop.is_set() or clock.now() >= deadline

    def _unused(self) -> list[Path]:
        """Return the journals without a process, which a single process or the first worker adopts."""
        place = self._place
        if self._settings.journal is None or (place is not None and place.index):
            return []
        return unused_journals(self._settings.journal, 1 if place is None else place.count)
