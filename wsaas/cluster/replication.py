"""What a node with `CLUSTER` adds to its journal: a copy in NATS, which another node takes over if this one dies."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import chain
from typing import Any, Final

from wsaas.clock import NO_TIMER, Clock
from wsaas.cluster.adoption import Adoption, Claims
from wsaas.delivery.entry_codec import EntryCodec
from wsaas.delivery.journal import Entry, LocalJournal, Remembered
from wsaas.delivery.recovery import Recovery
from wsaas.delivery.replicated_journal import ReplicatedJournal
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.membership.bucket import Bucket, BucketError
from wsaas.membership.bucket_watch import read
from wsaas.membership.claims import Claim
from wsaas.membership.membership import Membership
from wsaas.membership.membership_state import DEAD, MEMBER
from wsaas.membership.tasks import end_tasks, wait_for
from wsaas.sessions.disowning import close_all_clients
from wsaas.sessions.registry import PREFIX_LENGTH, Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING
from wsaas.settings import Settings
from wsaas.statistics import ClusterStatistics

CHECK_DELAY_S: Final = 5.0
"""Seconds after a new connection to NATS before this process compares what NATS has with what is owed. A server that
was frozen meanwhile may still store what it was sent before."""

PAUSE_S: Final = 5.0
"""Maximum seconds for which no client is admitted after this process was declared dead, until it has joined again."""

PAUSE_POLL_S: Final = 0.02

FLUSH_TIMEOUT_S: Final = 2.0
"""Maximum seconds that a stop waits for NATS to remove what is not owed any more."""


class Replication(Claims):
    """The journal of a process in NATS, and the journals of dead processes.

    `membership`: of this process. `local`: its journal on this machine.
    """

    def __init__(self, membership: Membership, local: LocalJournal, settings: Settings, clock: Clock) -> None:
        """Replicate nothing yet."""
        self._checks: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._flushed = asyncio.Event()
        self._lease = settings.cluster_lease
        self._members = Bucket(membership.bus, f"{settings.cluster_name}-members")
        self.membership = membership
        self.start_anew: Callable[[], None] = self._take_new_prefix
        """Called after this process was declared dead. No client is admitted before it has taken another prefix."""
        self._pause_timer = self._timer = NO_TIMER
        self._renewed_at = clock.now()
        self.codec = EntryCodec(settings.cluster_secret, PREFIX_LENGTH)
        self.journal = ReplicatedJournal(local, membership.connections, self.codec, clock)

    def attach(self, registry: Registry, recovery: Recovery) -> None:
        """Use the sessions of this process, and send the DELETEs of dead processes by `recovery`."""
        registry.prefix = self.membership.own.prefix
        self._registry, self._recovery = registry, recovery
        self._adoption = Adoption(self, self.codec, recovery, self.journal, self._lease)
        journal, membership = self.journal, self.membership
        journal.find = self._find
        journal.on_idle = self._flushed.set
        membership.on_declared_dead = self._declared_dead
        membership.on_lease(self._renewed)
        membership.on_new_buckets(self._restore)
        membership.on_orphan = self._adoption.orphaned
        membership.trouble.details = self._describe
        self.membership.bus.on_state(self._connection_changed)

    def keep(self, entry: Entry) -> None:
        """Retry the DELETE of `entry`, which its session has given up."""
        entry.is_replicated = not self.journal.is_unreplicated(entry.id)
        self._recovery.keep(entry)

    def start(self, left: Iterable[Entry]) -> None:
        """Send the DELETEs of `left`, which earlier processes of this node left in the local journal."""
        self._adoption.restarted(left)

    async def stop(self) -> None:
        """Adopt nothing more."""
        self._pause_timer.cancel()
        self._timer.cancel()
        await end_tasks([*self._checks])
        await self._adoption.stop()

    def statistics(self) -> ClusterStatistics:
        """Return what is replicated, in numbers."""
        membership = self.membership
        return ClusterStatistics(
            is_in_contact=membership.state is MEMBER and membership.bus.is_connected and membership.trouble.is_over,
            unreplicated=self.journal.unreplicated,
            adopted=self._adoption.adopted,
            since_renewal_ms=round((self._clock.now() - self._renewed_at) * 1000),
        )

    async def leave(self, owed: Iterable[Remembered]) -> None:
        """Leave the cluster. What is `owed` stays in NATS, where another node takes it over; nothing else does."""
        nothing_owed = not [*owed]
        if self.membership.state is DEAD:
            # Only removals are left. NATS may have stored something too late for the process that sends the DELETEs of
            # this one, and nobody else removes it.
            self.journal.forget("")
            self.journal.renewed(math.inf)
        try:
            await wait_for(self._flush(nothing_owed=nothing_owed), FLUSH_TIMEOUT_S)
        except (asyncio.TimeoutError, BucketError):
            nothing_owed = False
        await self.membership.leave(nothing_owed=nothing_owed)

    async def close(self, owed: Iterable[Remembered]) -> None:
        """Leave the cluster at once, if that was not done yet. What is `owed` stays in NATS."""
        await self.stop()
        await self.membership.leave(nothing_owed=not [*owed])

    async def _flush(self, *, nothing_owed: bool) -> None:
        """Wait until NATS has everything. With `nothing_owed`, remove what is there nevertheless."""
        await self._until_flushed()
        if nothing_owed and self.membership.is_ready:
            await self._check()
            await self._until_flushed()

    async def _until_flushed(self) -> None:
        while self.journal.unreplicated:
            self._flushed.clear()
            await self._flushed.wait()

    # What the adoption needs of the membership.

    async def claim(self, prefix: str, *, is_known_dead: bool = False) -> Claim | None:
        """Claim a process."""
        return await self.membership.claim(prefix, is_known_dead=is_known_dead)

    async def finish(self, claim: Claim) -> None:
        """Give a claim back, as nothing of the process is owed any more."""
        await claim.release(is_complete=True)

    async def is_adopted(self, prefix: str) -> bool:
        """Return whether all DELETEs of a process were sent already."""
        return await self._members.has(f"adopted.{prefix}")

    async def is_lost(self, prefix: str) -> bool:
        """Return whether NATS has no trace of a process."""
        for kind in ("member", "claim", "adopted"):
            if await self._members.has(f"{kind}.{prefix}"):
                return False
        return True

    async def left_by(self, prefix: str) -> Mapping[str, bytes]:
        """Return the values of the connections of a process, by id."""
        found = await read(self.membership.bus, self.membership.connections, self._clock, f"{prefix}.*")
        return {key.partition(".")[2]: entry.value for key, entry in found.items() if entry.value is not None}

    # What happens to the membership.

    def _declared_dead(self) -> None:
        """Leave everything that NATS has to the process that sends the DELETEs, and start anew."""
        registry, journal = self._registry, self.journal
        old = registry.prefix
        sessions = [*registry.live(), *registry.ending()]
        foreign = {
            session.id
            for session in sessions
            if session.id.startswith(old)
            and session.state is not CONNECTING
            and not journal.is_unreplicated(session.id)
        }
        journal.forget(old)
        close_all_clients(registry, foreign.__contains__)
        entries = self._recovery.forget(lambda entry: entry.is_replicated and entry.id.startswith(old))
        for connection_id in chain(foreign, (entry.id for entry in entries)):
            journal.disown(connection_id)
        registry.is_paused = True
        self.start_anew()

    def _take_new_prefix(self) -> None:
        """Go on as if this were another process."""
        self._registry.change_prefix()
        self.membership.rejoin(self._registry.prefix)
        self._end_pause(self._clock.now() + PAUSE_S)

    def _end_pause(self, deadline: float) -> None:
        """Admit clients again once the other nodes know this process, at the latest at `deadline`."""
        if self.membership.is_ready or self._clock.now() >= deadline:
            self._registry.is_paused = False
        else:
            self._pause_timer = self._clock.call_later(PAUSE_POLL_S, self._end_pause, deadline)

    def _renewed(self, lease_end: float) -> None:
        """The lease of this process is valid until `lease_end` (monotonic seconds)."""
        self._renewed_at = lease_end - self._lease
        self.journal.renewed(lease_end)

    def _connection_changed(self, is_connected: bool) -> None:
        self.journal.connection_changed()
        self._timer.cancel()
        if is_connected:
            self._check_later()

    def _check_later(self) -> None:
        self._timer = self._clock.call_later(CHECK_DELAY_S, self._start, self._try_to_check)

    def _start(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.ensure_future(make())
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _try_to_check(self) -> None:
        try:
            if not await self._check():
                self._check_later()
        except BucketError:
            # There is a check after the next new connection, too.
            logger.debug("what NATS has could not be compared with what is owed")

    async def _check(self) -> bool:
        """Compare what NATS has with what is owed, and write or remove what differs. Raises `BucketError`.

        NATS may have lost what it had acknowledged, as it does not flush each write to the disk. And what it did not
        acknowledge may have been stored later. What a process that was declared dead has there, is another one's.
        Return False if it cannot be told whether NATS has lost something.
        """
        journal, prefix = self.journal, self._registry.prefix
        before = [each for each in self._owed() if not journal.is_pending(each)]
        stored = await self.left_by(prefix)
        owed = self._owed()
        if prefix != self._registry.prefix or self.membership.state is DEAD:
            return True
        for connection_id in stored:
            if connection_id not in owed and not journal.is_pending(connection_id):
                journal.remove(connection_id)
        missing = [
            owed[each] for each in before if each in owed and each not in stored and not journal.is_pending(each)
        ]
        if missing and self._clock.now() >= journal.lease_end:
            # Another process may have sent their DELETEs, and have removed them.
            return False
        if missing:
            logger.warning("NATS has lost %s: written again", counted(len(missing), "connection"))
            journal.restore(missing)
        return True

    def _owed(self) -> dict[str, Remembered]:
        """Return the connections of this process whose DELETE is owed, now or later, by id."""
        registry = self._registry
        found: Iterable[Session | Entry] = chain(registry.live(), registry.ending(), self._recovery.entries())
        return {each.id: each for each in found if each.id.startswith(registry.prefix)}

    def _restore(self) -> None:
        """Write everything again, as NATS has lost it."""
        self.journal.restore(self._owed().values())

    def _find(self, connection_id: str) -> Remembered | None:
        return self._registry.remembered(connection_id) or self._recovery.find(connection_id)

    def _describe(self) -> str:
        """Return what is not replicated, for people; empty for nothing."""
        count = self.journal.unreplicated
        return f"{counted(count, 'connection is', 'connections are')} not replicated" if count else ""
