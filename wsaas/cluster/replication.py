"""What a node with `CLUSTER` adds to its journal: a copy in NATS, which another node takes over if this one dies."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Final

from wsaas.clock import NO_TIMER, Clock
from wsaas.cluster.adoption import Adoption, Claims
from wsaas.cluster.comparison import Comparison
from wsaas.delivery.entry_codec import EntryCodec
from wsaas.delivery.journal import Entry, LocalJournal, Remembered
from wsaas.delivery.recovery import Recovery
from wsaas.delivery.replicated_journal import ReplicatedJournal
from wsaas.log.wording import counted
from wsaas.membership.bucket import Bucket, BucketError
from wsaas.membership.bucket_watch import read
from wsaas.membership.claims import Claim
from wsaas.membership.membership import Membership
from wsaas.membership.membership_state import DEAD, MEMBER
from wsaas.membership.tasks import wait_for
from wsaas.sessions.disowning import close_all_clients
from wsaas.sessions.registry import PREFIX_LENGTH, Registry
from wsaas.sessions.session import Session
from wsaas.sessions.session_state import CONNECTING
from wsaas.settings import Settings
from wsaas.statistics import ClusterStatistics

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
        self._clock = clock
        self._flushed = asyncio.Event()
        self._lease = settings.cluster_lease
        self._members = Bucket(membership.bus, f"{settings.cluster_name}-members")
        self.membership = membership
        self.start_anew: Callable[[], None] = self._take_new_prefix
        """Called after this process was declared dead. No client is admitted before it has taken another prefix."""
        self._pause_timer = NO_TIMER
        self._renewed_at = clock.now()
        self.codec = EntryCodec(settings.cluster_secret, PREFIX_LENGTH)
        self.journal = ReplicatedJournal(local, membership.connections, self.codec, clock)
        self.comparison = Comparison(membership, self.journal, clock, self._compared, self.left_by)

    def attach(self, registry: Registry, recovery: Recovery) -> None:
        """Use the sessions of this process, and send the DELETEs of dead processes by `recovery`."""
        registry.prefix = self.membership.own.prefix
        self._registry, self._recovery = registry, recovery
        self._adoption = Adoption(self, self.codec, recovery, self.journal, self._lease)
        journal, membership = self.journal, self.membership
        journal.find = self._find
        journal.on_idle = self._flushed.set
        journal.on_recovered = self.comparison.after_trouble
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
        await self.comparison.stop()
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
            await self.comparison.compare()
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
        if is_connected:
            self.comparison.after_trouble()
        else:
            self.comparison.cancel()

    def _owed(self) -> dict[str, Remembered]:
        """Return the connections of this process whose DELETE is owed, now or later, by id."""
        registry = self._registry
        found: Iterable[Session | Entry] = chain(registry.live(), registry.ending(), self._recovery.entries())
        return {each.id: each for each in found if each.id.startswith(registry.prefix)}

    def _compared(self) -> dict[str, Remembered | None]:
        """Return the same; None for a connection whose handshake is not over, as it may be in no journal yet."""
        connecting = {session.id for session in self._registry.live() if session.state is CONNECTING}
        return {each: None if each in connecting else connection for each, connection in self._owed().items()}

    def _restore(self) -> None:
        """Write everything again, as NATS has lost it."""
        self.journal.restore(self._owed().values())

    def _find(self, connection_id: str) -> Remembered | None:
        return self._registry.remembered(connection_id) or self._recovery.find(connection_id)

    def _describe(self) -> str:
        """Return what is not replicated, for people; empty for nothing."""
        count = self.journal.unreplicated
        return f"{counted(count, 'connection is', 'connections are')} not replicated" if count else ""
