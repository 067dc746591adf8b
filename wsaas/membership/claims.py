"""Claims: the right to send the DELETEs of a process that is dead. Exactly one process has it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wsaas.clock import Clock
from wsaas.log import logger
from wsaas.membership.bucket import Bucket, BucketError

ADOPTED_TTL_S: Final = 7 * 24 * 3600
"""Seconds for which NATS remembers that all DELETEs of a process were sent, in case its node comes back."""

CLAIM_LEASES: Final = 2
"""A claim ends so many leases after its last renewal."""


class Claim:
    """The claim of one process. `prefix`: that of the dead one. `on_lost` is called if another process may claim it."""

    def __init__(self, bucket: Bucket, prefix: str, revision: int, renewed_at: float) -> None:
        """A claim that was made at `renewed_at`."""
        self._bucket = bucket
        self.is_held = True
        self.on_lost: Callable[[], None] = lambda: None
        self.prefix = prefix
        self.renewed_at = renewed_at
        self.revision = revision

    async def release(self, *, is_complete: bool) -> None:
        """Give the claim back. `is_complete`: nothing of the dead process is owed any more, so it is forgotten.

        Raises `BucketError` if NATS does not answer when it has to forget the process. The claim is held then.
        """
        if not self.is_held:
            return
        if is_complete:
            await self._bucket.create(f"adopted.{self.prefix}", b"", ADOPTED_TTL_S)
            if not await self._bucket.remove(f"member.{self.prefix}"):
                raise BucketError("NATS does not acknowledge")
        self.is_held = False
        await self._bucket.remove(f"claim.{self.prefix}")

    def lose(self) -> None:
        """Note that another process may claim it now."""
        if self.is_held:
            self.is_held = False
            logger.warning("lost the claim of %s, a process that is gone: another node sends its DELETEs", self.prefix)
            self.on_lost()


class Claims:
    """The claims of this process. Call `renew` regularly."""

    def __init__(self, bucket: Bucket, clock: Clock, lease: float) -> None:
        """Claim nothing yet."""
        self._attempts: set[str] = set()
        self._bucket = bucket
        self._clock = clock
        self._held: list[Claim] = []
        self._ttl = CLAIM_LEASES * lease

    async def claim(self, prefix: str, claimant: str, *, is_known_dead: bool) -> Claim | None:
        """Claim a process; return None if another one was faster, it lives, or nothing of it is owed any more.

        `claimant`: the prefix of this process. A process renews its lease, and then looks for a claim; here the claim
        is made, and then the lease is looked for. So at least one of both notices the other. Raises `BucketError`.
        """
        if prefix in self._attempts or any(claim.prefix == prefix and claim.is_held for claim in self._held):
            return None
        self._attempts.add(prefix)
        try:
            return await self._claim(prefix, claimant, is_known_dead=is_known_dead)
        finally:
            self._attempts.discard(prefix)

    async def _claim(self, prefix: str, claimant: str, *, is_known_dead: bool) -> Claim | None:
        bucket = self._bucket
        if not is_known_dead and await bucket.has(f"lease.{prefix}"):
            return None
        now = self._clock.now()
        ack = await bucket.create(f"claim.{prefix}", claimant.encode(), self._ttl)
        if not ack.is_stored and not ack.is_conflict:
            raise BucketError(f"JetStream: {ack.error}", ack.code)
        revision = ack.sequence if ack.is_stored else await self._own_revision(prefix, claimant)
        if not revision:
            return None
        # If this fails, the claim ends by itself, as it is not renewed.
        is_dead = await bucket.has(f"member.{prefix}") and (is_known_dead or not await bucket.has(f"lease.{prefix}"))
        claim = Claim(bucket, prefix, revision, now)
        if not is_dead:
            await claim.release(is_complete=False)
            return None
        if is_known_dead:
            await bucket.remove(f"lease.{prefix}")
        self._held.append(claim)
        return claim

    async def renew(self, claimant: str, timeout: float) -> None:
        """Renew all claims that are still held."""
        self._held = [claim for claim in self._held if claim.is_held]
        for claim in self._held:
            if self._clock.now() > claim.renewed_at + self._ttl:
                claim.lose()
                continue
            # Without an answer, it is tried again at the next renewal: the claim lasts longer than several of them.
            with suppress(BucketError):
                await self._renew(claim, claimant, timeout)

    async def _renew(self, claim: Claim, claimant: str, timeout: float) -> None:
        now = self._clock.now()
        key = f"claim.{claim.prefix}"
        ack = await self._bucket.update(key, claimant.encode(), claim.revision, self._ttl, timeout)
        if ack.is_stored:
            claim.revision, claim.renewed_at = ack.sequence, now
        elif ack.is_conflict:
            # An earlier renewal may have been stored without an acknowledgement.
            claim.revision = await self._own_revision(claim.prefix, claimant)
            if not claim.revision:
                claim.lose()

    async def _own_revision(self, prefix: str, claimant: str) -> int:
        """Return the revision of a claim by `claimant`, 0 if there is none."""
        found = await self._bucket.get(f"claim.{prefix}")
        return found.revision if found is not None and found.value == claimant.encode() else 0

    async def release(self) -> None:
        """Give back all claims. Another process goes on."""
        for claim in self._held:
            await claim.release(is_complete=False)
