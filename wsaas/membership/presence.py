"""The entries of this process in NATS: its lease, and the entry that says that it may owe something."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wsaas.log import logger
from wsaas.membership.bucket import UNUSABLE, Bucket, BucketError
from wsaas.membership.bus import REQUEST_TIMEOUT_S
from wsaas.membership.member import Member

FORMAT: Final = b"1"
"""The format of the entries in NATS. It is written there, and another one is refused."""


class DeclaredDeadError(Exception):
    """Another process has claimed this one. The text says how that was noticed."""


class Presence:
    """The entries of `own` in the bucket of members. Methods raise `BucketError` if NATS is in trouble."""

    def __init__(self, members: Bucket, connections: Bucket, own: Member, lease: float) -> None:
        """Write nothing yet. `connections`: the other bucket of the cluster; `lease`: seconds."""
        self._bucket = members
        self._connections = connections
        self._created = ""
        self._lease = lease
        self._own = own
        self.revision = 0
        self.on_lease: Callable[[float], None] = lambda _end: None
        self.on_new_buckets: Callable[[], None] = lambda: None
        self.timeout = min(REQUEST_TIMEOUT_S, lease / 2)

    async def set_up(self) -> None:
        """Create what is missing: the buckets, and the entries of this process.

        Raises `DeclaredDeadError` if another process has claimed this one.
        """
        bucket = self._bucket
        created = await bucket.set_up()
        created += await self._connections.set_up()
        await self._check_format()
        # The lease comes first, so that nobody sees this process without one.
        await self._put_lease()
        ack = await bucket.create(f"member.{self._own.prefix}", self._own.to_entry())
        if not ack.is_stored and not ack.is_conflict:
            raise BucketError(f"JetStream: {ack.error}", ack.code)
        if self._created not in {"", created}:
            logger.warning("NATS has lost the buckets of the cluster: this process writes its entries again")
            self.on_new_buckets()
        self._created = created

    async def renew(self) -> None:
        """Renew the lease. Raises `DeclaredDeadError` if another process has claimed this one."""
        own, now = self._own, time.monotonic()
        try:
            ack = await self._bucket.update(
                f"lease.{own.prefix}", own.to_lease(), self.revision, self._lease, self.timeout
            )
        except BucketError:
            # With the next renewal, it may work again.
            with suppress(BucketError):
                await self._set_up_again()
            raise
        if ack.is_conflict:
            await self._recover()
        elif ack.is_stored:
            self.revision = ack.sequence
            self.on_lease(now + self._lease)
        else:
            raise BucketError(f"JetStream: {ack.error}", ack.code)

    async def check_claim(self) -> None:
        """Raise `DeclaredDeadError` if another process has claimed this one."""
        found = await self._bucket.get(f"claim.{self._own.prefix}")
        if found is not None and found.value is not None:
            raise DeclaredDeadError(f"claimed by {found.value.decode('utf-8', 'replace')}")

    async def withdraw(self, *, nothing_owed: bool) -> None:
        """Remove the lease; with `nothing_owed` the member, too."""
        # The member comes first: without a lease, it would make others look for what is owed.
        keys = ([f"member.{self._own.prefix}"] if nothing_owed else []) + [f"lease.{self._own.prefix}"]
        for key in keys:
            if not await self._bucket.remove(key):
                raise BucketError("NATS does not acknowledge")

    async def _recover(self) -> None:
        """Write the lease again, as it is over."""
        await self._set_up_again()
        await self.check_claim()
        if not await self._bucket.has(f"member.{self._own.prefix}"):
            raise DeclaredDeadError("another node has sent its DELETEs")
        await self._put_lease()

    async def _set_up_again(self) -> None:
        """Write everything again if NATS has lost the buckets."""
        if await self._bucket.set_up() + await self._connections.set_up() != self._created:
            await self.set_up()

    async def _check_format(self) -> None:
        ack = await self._bucket.create("version", FORMAT)
        found = await self._bucket.get("version") if ack.is_conflict else None
        if found is not None and found.value != FORMAT:
            raise BucketError(
                f"the bucket {self._bucket.name} has format {(found.value or b'').decode('utf-8', 'replace')}, but "
                f"this version of wsaas uses format {FORMAT.decode()}: set another CLUSTER_NAME",
                UNUSABLE,
            )

    async def _put_lease(self) -> None:
        """Write the lease, whatever is there. Raises `DeclaredDeadError` if another process has claimed this one."""
        key = f"lease.{self._own.prefix}"
        found = await self._bucket.get(key)
        revision, now = 0 if found is None else found.revision, time.monotonic()
        ack = await self._bucket.update(key, self._own.to_lease(), revision, self._lease, self.timeout)
        if not ack.is_stored:
            raise BucketError(f"JetStream: {ack.error}", ack.code)
        self.revision = ack.sequence
        # Who claims this process looks for its lease afterwards. So at least one of both notices the other.
        await self.check_claim()
        self.on_lease(now + self._lease)
