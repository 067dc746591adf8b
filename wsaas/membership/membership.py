"""The membership of this process in the cluster: its lease, the other members, and who is dead."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from wsaas.clock import Clock
from wsaas.log import logger
from wsaas.log.wording import counted
from wsaas.membership.bucket import LONG_HISTORY, Bucket, BucketError, Entry
from wsaas.membership.bucket_watch import BucketWatch
from wsaas.membership.bus import Bus
from wsaas.membership.claims import Claim, Claims
from wsaas.membership.guard import Guard
from wsaas.membership.introduction import INTRODUCTION_TIMEOUT_S, Introductions
from wsaas.membership.member import Member
from wsaas.membership.member_table import MemberTable
from wsaas.membership.membership_state import (
    DEAD,
    JOINING,
    LEFT,
    MEMBER,
    OUTSIDE,
    TRANSITIONS,
    MembershipState,
)
from wsaas.membership.presence import DeclaredDeadError, Presence
from wsaas.membership.tasks import end_tasks, start_task, wait_for
from wsaas.membership.trouble import Trouble

RENEWALS_PER_LEASE: Final = 5

LEASES_UNTIL_EXPIRY: Final = 2
"""After the time of so many leases without a renewal, a lease counts as over even if NATS did not say so."""

JOIN_TIMEOUT_S: Final = 5.0
"""Seconds after which a process goes on without NATS at its start."""

LEAVE_TIMEOUT_S: Final = 2.0

NOT_JOINED: Final = (
    "cannot join the cluster yet: clients are accepted, but other nodes do not know this one, and only the "
    "local journal, if there is one, remembers its clients"
)

RETRY_S: Final = 0.5

SECOND_LOOK_S: Final = 0.3
"""Seconds after which a claim of this process counts. A claim of a process that lives after all is given back at once.
"""


class Membership:
    """The membership of the process `own`. Call `join`, and `leave` at the end.

    `members`: the others, by prefix. `connections`: the bucket of the connections.
    """

    def __init__(self, name: str, lease: float, bus: Bus, clock: Clock, own: Member) -> None:
        """Do nothing yet. `name`: that of the cluster; `lease`: seconds."""
        self._bucket = bucket = Bucket(bus, f"{name}-members")
        self._claims = Claims(bucket, clock, lease)
        self._clock = clock
        self._entered = asyncio.Event()
        self._guard = Guard(lease)
        self._is_claimed = False
        self._joined = asyncio.Event()
        self._lease = lease
        self.bus = bus
        self.connections = Bucket(bus, f"{name}-connections", LONG_HISTORY)
        self._presence = Presence(bucket, self.connections, own, lease)
        self._state = OUTSIDE
        self._table = MemberTable(own.prefix)
        self._introductions = Introductions(bus, name, own, self._table, clock)
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._watch = BucketWatch(bus, bucket, clock, lease / RENEWALS_PER_LEASE)
        self.count_clients: Callable[[], int] = lambda: 0
        self.members: Mapping[str, Member] = self._table.members
        self.on_declared_dead: Callable[[], None] = lambda: None
        """Called when another process has claimed this one. Call `rejoin` then."""
        self.on_orphan: Callable[[str], None] = lambda _prefix: None
        """Called with the prefix of a process whose lease is over, again and again until somebody has claimed it."""
        self.own = own
        self.trouble = Trouble()
        self.bus.on_state(self._connection_changed)
        self._watch.on_entry = self._entry_changed
        self._watch.on_snapshot = self._snapshot_taken
        self._table.on_own_claim = self._claimed

    def on_members(self, callback: Callable[[Mapping[str, Member]], None]) -> None:
        """Call `callback` after each change of `members`."""
        self._table.on_members = callback

    def on_lease(self, callback: Callable[[float], None]) -> None:
        """Call `callback` after each renewal of the lease, with the time (monotonic) until which it is valid."""
        self._presence.on_lease = callback

    def on_new_buckets(self, callback: Callable[[], None]) -> None:
        """Call `callback` when NATS has lost the buckets, so that nothing is in them that was written before."""
        self._presence.on_new_buckets = callback

    @property
    def state(self) -> MembershipState:
        """The state. Only `_set_state` changes it."""
        return self._state

    @property
    def lease_revision(self) -> int:
        """The revision of the lease in NATS, which rises with each renewal."""
        return self._presence.revision

    @property
    def is_ready(self) -> bool:
        """Whether the process has joined, and all others know it."""
        return self._joined.is_set()

    @property
    def is_certain(self) -> bool:
        """Whether no process has clients that this one does not know."""
        return self.is_ready and self.bus.is_connected and self._guard.is_reunited(self._clock.now())

    @property
    def may_declare_dead(self) -> bool:
        """Whether this process has been in contact with NATS for the time of a whole lease."""
        return self._state is MEMBER and self._guard.is_passed(self._clock.now())

    async def join(self) -> None:
        """Join; return when all others know this process, or with a warning if NATS does not accept it soon."""
        self._set_state(JOINING)
        self._guard.started(self._clock.now() + JOIN_TIMEOUT_S)
        await self.bus.open()
        self._tasks = [start_task(self._run(), "the membership in the cluster")]
        try:
            await wait_for(self._entered.wait(), JOIN_TIMEOUT_S)
            # An introduction has a time limit of its own.
            await self._joined.wait()
        except asyncio.TimeoutError:
            logger.warning(NOT_JOINED)

    def announce(self, *, is_listening: bool) -> None:
        """Tell the others whether this process may hold clients, so that it has to answer."""
        self.own.is_listening = is_listening
        self._wake.set()

    async def claim(self, prefix: str, *, is_known_dead: bool = False) -> Claim | None:
        """Claim a dead process; return None if it lives, another one was faster, or nothing of it is owed any more.

        `is_known_dead`: this process knows that it is dead, even if its lease is not over. Raises `BucketError`.
        """
        if not is_known_dead and not self.may_declare_dead:
            return None
        return await self._claims.claim(prefix, self.own.prefix, is_known_dead=is_known_dead)

    def rejoin(self, prefix: str) -> None:
        """Join again with another prefix, after `on_declared_dead`."""
        self._joined.clear()
        self.own.prefix = self._table.own = prefix
        self._set_state(JOINING)
        self._wake.set()

    async def leave(self, *, nothing_owed: bool) -> None:
        """Leave, and close the bus. With `nothing_owed`, nothing of this process stays in NATS.

        Otherwise, another node takes over at once what this process owes. A second call does nothing.
        """
        if self._state is LEFT:
            return
        # The state changes afterwards, as a task may go on for a moment.
        await end_tasks(self._tasks)
        was_in = self._entered.is_set() and self._state is not DEAD
        self._set_state(LEFT)
        if was_in:
            try:
                await wait_for(self._withdraw(nothing_owed=nothing_owed), LEAVE_TIMEOUT_S)
            except (asyncio.TimeoutError, BucketError) as error:
                logger.warning(
                    "could not leave the cluster (%s): the other nodes notice it in %g s",
                    str(error) or "NATS does not answer",
                    self._lease,
                )
        await self.bus.close()

    async def _run(self) -> None:
        """Join, stay a member until this process is declared dead, and then join again."""
        while True:
            await self._enter()
            while self._state is MEMBER:
                await self._renew()
                await self._claims.renew(self.own.prefix, self._presence.timeout)
                self._offer_orphans()
                await self._pause(self._lease / RENEWALS_PER_LEASE)
            while self._state is DEAD:
                await self._pause(RETRY_S)

    async def _enter(self) -> None:
        """Join, however long that takes."""
        patience = self._clock.now() + JOIN_TIMEOUT_S
        while self._state is JOINING:
            error = await self._try_to_enter()
            if error is not None:
                if self.bus.is_connected or self._clock.now() > patience:
                    self._failed(error)
                await self._pause(RETRY_S)

    async def _try_to_enter(self) -> BucketError | None:
        """Join, or return what failed."""
        try:
            await self._presence.set_up()
            await self._introduce()
        except BucketError as error:
            return error
        except DeclaredDeadError as error:
            self._declare_dead(str(error))
            return None
        self.trouble.solved(self._clock.now())
        self._set_state(MEMBER)
        self._joined.set()
        logger.info("joined the cluster: %s", counted(len(self.members), "other process", "other processes"))
        return None

    async def _introduce(self) -> None:
        """Read who there is, and let all of them know this process."""
        started_at = self._clock.now()
        await self._introductions.listen()
        entries = await self._bucket.entries(await self._bucket.keys("*.*"))
        self._table.set_all({entry.key: entry for entry in entries}, self._clock.now(), started_at)
        self._entered.set()
        if len(self._tasks) == 1:
            self._tasks.append(start_task(self._watch.run(), "the watch of the members of the cluster"))
        # Meanwhile, this process does not renew its lease.
        await self._introductions.introduce(min(INTRODUCTION_TIMEOUT_S, self._lease / 2))

    async def _renew(self) -> None:
        """Renew the lease, and look whether this process was declared dead."""
        now = self._clock.now()
        self.own.clients = self.count_clients()
        try:
            if self._is_claimed:
                await asyncio.sleep(SECOND_LOOK_S)
                await self._presence.check_claim()
                self._is_claimed = False
            await self._presence.renew()
        except BucketError as error:
            self._failed(error)
        except DeclaredDeadError as error:
            self._declare_dead(str(error))
        else:
            self._guard.renewed(now)
            self.trouble.solved(now)

    def _declare_dead(self, why: str) -> None:
        text = "this node was declared dead, as its lease of %g s was over (%s): its clients have to connect again"
        logger.error(text, self._lease, why)
        self._guard.interrupted()
        self._is_claimed = False
        self._set_state(DEAD)
        self.on_declared_dead()

    async def _withdraw(self, *, nothing_owed: bool) -> None:
        await self._claims.release()
        await self._presence.withdraw(nothing_owed=nothing_owed)

    def _offer_orphans(self) -> None:
        if self.may_declare_dead:
            self._table.expire(self._clock.now() - LEASES_UNTIL_EXPIRY * self._lease)
            for prefix in self._table.orphans():
                self.on_orphan(prefix)

    def _entry_changed(self, entry: Entry) -> None:
        self._table.set_entry(entry, self._clock.now())
        if entry.value is None:
            # Somebody may be dead. A renewal shows that this process is not cut off itself.
            self._wake.set()

    def _snapshot_taken(self, entries: dict[str, Entry], since: float) -> None:
        self._table.set_all(entries, self._clock.now(), since)
        self._wake.set()

    def _claimed(self) -> None:
        self._is_claimed = True
        self._wake.set()

    def _connection_changed(self, is_connected: bool) -> None:
        self._guard.connection_changed(self._clock.now(), is_connected=is_connected)
        self._wake.set()

    def _failed(self, error: BucketError) -> None:
        self._guard.interrupted()
        self.trouble.found(str(error), self._clock.now())

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until something happens."""
        with suppress(asyncio.TimeoutError):
            await wait_for(self._wake.wait(), seconds)
        self._wake.clear()

    def _set_state(self, state: MembershipState) -> None:
        assert state in TRANSITIONS[self._state], f"{self._state} -> {state}"  # noqa: S101 - a bug
        self._state = state
