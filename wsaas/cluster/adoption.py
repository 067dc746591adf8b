"""Sends the DELETEs of dead processes: of other nodes, and of earlier processes of this one.

Exactly one process claims a dead one, sends the DELETEs of the connections that NATS has, and removes them from there.
If it dies itself, its claim ends, and another one takes over what is left.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Protocol, TypeVar

from wsaas.delivery.entry_codec import EntryCodec, UnreadableEntry
from wsaas.delivery.journal import Entry
from wsaas.delivery.recovery import Recovery
from wsaas.delivery.replicated_journal import ReplicatedJournal
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted
from wsaas.membership.bucket import BucketError
from wsaas.membership.claims import Claim
from wsaas.membership.tasks import end_tasks, wait_for
from wsaas.sessions.registry import PREFIX_LENGTH

T = TypeVar("T")

MAX_JITTER_S: Final = 0.2
"""Maximum seconds before a claim, so that not all processes of a large cluster make theirs at the same time."""

RETRY_S: Final = 0.1
"""Seconds before something is repeated that NATS has not answered."""


class Claims(Protocol):
    """What the membership does for an adoption. The methods raise `BucketError` without an answer of NATS."""

    async def claim(self, prefix: str, *, is_known_dead: bool = False) -> Claim | None:
        """Claim a process; None if it lives, another process was faster, or nothing of it is owed any more."""

    async def is_adopted(self, prefix: str) -> bool:
        """Return whether all DELETEs of a process were sent already."""

    async def is_lost(self, prefix: str) -> bool:
        """Return whether NATS has no trace of a process, not even that its DELETEs were sent."""

    async def finish(self, claim: Claim) -> None:
        """Give a claim back, as nothing of the process is owed any more. Note that for its next start."""

    async def left_by(self, prefix: str) -> Mapping[str, bytes]:
        """Return the values of the connections of a process, by id."""


class Adoption:
    """Adopts connections by `claims`, and passes them to `recovery`.

    `patience`: seconds for which the DELETEs of an earlier process of this node wait for NATS.
    """

    def __init__(
        self, claims: Claims, codec: EntryCodec, recovery: Recovery, journal: ReplicatedJournal, patience: float
    ) -> None:
        """Adopt nothing yet."""
        self._claims = claims
        self._codec = codec
        self._journal = journal
        self._patience = patience
        self._pending: dict[str, _Pending] = {}
        self._recovery = recovery
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.adopted = 0
        """How many connections of dead processes this one has taken over."""
        journal.on_removed = self._removed

    def orphaned(self, prefix: str) -> None:
        """Adopt the connections of another process, whose lease is over. May be called again meanwhile."""
        if prefix not in self._tasks:
            self._start(prefix, self._adopt_other(prefix))

    def restarted(self, entries: Iterable[Entry]) -> None:
        """Send the DELETEs of `entries`, which earlier processes of this node left in the local journal.

        If another process has adopted them already, only those that NATS did not have.
        """
        left: dict[str, list[Entry]] = {}
        unreplicated = []
        for entry in entries:
            if entry.is_replicated:
                left.setdefault(entry.id[:PREFIX_LENGTH], []).append(entry)
            else:
                unreplicated.append(entry)
        self._recovery.adopt(unreplicated)
        for prefix, some in left.items():
            self._start(prefix, self._adopt_own(prefix, some))

    async def stop(self) -> None:
        """Adopt nothing more. What is left is adopted by another process, once the claims are released."""
        await end_tasks(self._tasks.values())

    def _start(self, prefix: str, adopting: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[prefix] = asyncio.ensure_future(adopting)
        task.add_done_callback(lambda _: self._tasks.pop(prefix))

    async def _adopt_other(self, prefix: str) -> None:
        await asyncio.sleep(random.uniform(0, MAX_JITTER_S))  # noqa: S311 - no secret
        try:
            claim = await self._claims.claim(prefix)
        except BucketError:
            # It is offered again.
            return
        if claim is not None:
            await self._adopt(claim, {})

    async def _adopt_own(self, prefix: str, entries: list[Entry]) -> None:
        """Compete with other nodes for the connections of an earlier process of this node."""
        try:
            claim, is_lost = await wait_for(self._claim_own(prefix), self._patience)
        except asyncio.TimeoutError:
            logger.warning(
                "NATS does not answer: the DELETEs of %s that an earlier process left are sent, although another node "
                "may send them, too",
                counted(len(entries), "connection"),
            )
            self._recovery.adopt(entries)
            return
        if claim is not None:
            await self._adopt(claim, {entry.id: entry for entry in entries})
        elif is_lost:
            # Better twice than never: the `ce-id` is the same.
            logger.warning("NATS has lost what it knew about an earlier process: all of its DELETEs are sent")
            self._recovery.adopt(entries)
        else:
            for entry in entries:
                self._journal.disown(entry.id)
            logger.info("another node sends the DELETEs of %s", counted(len(entries), "connection"))

    async def _claim_own(self, prefix: str) -> tuple[Claim | None, bool]:
        """Claim an earlier process of this node; also return whether NATS has no trace of it."""
        return await _insist(lambda: self._try_to_claim_own(prefix))

    async def _try_to_claim_own(self, prefix: str) -> tuple[Claim | None, bool]:
        claim = await self._claims.claim(prefix, is_known_dead=True)
        return claim, claim is None and await self._claims.is_lost(prefix)

    async def _adopt(self, claim: Claim, entries: dict[str, Entry]) -> None:
        """Send the DELETEs of a claimed process until none is left. `entries`: those that this process knows."""
        prefix = claim.prefix
        pending = self._pending[prefix] = _Pending()
        claim.on_lost = pending.changed.set
        count = 0
        try:
            if await _insist(lambda: self._claims.is_adopted(prefix)):
                await self._remove_again(claim, pending, entries)
                entries = {}
            while claim.is_held:
                found = self._read(await _insist(lambda: self._claims.left_by(prefix))) | entries
                if not found:
                    await _insist(lambda: self._claims.finish(claim))
                    logger.info("sent the DELETEs of %s of process %s", counted(count, "connection"), prefix)
                    return
                if not count:
                    logger.warning(
                        "process %s is gone: sending the DELETEs of its %s", prefix, counted(len(found), "connection")
                    )
                count += len(found)
                self.adopted += len(found)
                entries = {}
                pending.ids.update(found)
                self._recovery.adopt(found.values())
                await pending.wait(claim)
            self._recovery.forget(lambda entry: entry.id in pending.ids)
        finally:
            del self._pending[prefix]

    async def _remove_again(self, claim: Claim, pending: "_Pending", entries: Iterable[str]) -> None:
        """Remove what NATS has of a process whose DELETEs were sent already, and `entries` from the local journal.

        A NATS server that is killed may lose the removals of the last minutes.
        """
        found = await _insist(lambda: self._claims.left_by(claim.prefix))
        pending.ids.update(found)
        for connection_id in {**found, **dict.fromkeys(entries)}:
            self._journal.remove(connection_id)
        await pending.wait(claim)
        pending.ids.clear()

    def _read(self, values: Mapping[str, bytes]) -> dict[str, Entry]:
        """Return the entries, and remove what is none."""
        entries = (self._decode(connection_id, value) for connection_id, value in values.items())
        return {entry.id: entry for entry in entries if entry is not None}

    def _decode(self, connection_id: str, value: bytes) -> Entry | None:
        try:
            return self._codec.decode(connection_id, value)
        except UnreadableEntry as error:
            text = "%(id)s: its DELETE is lost, as NATS has no entry for it: %(error)s"
            throttle.error("unreadable entry", text, {"id": connection_id, "error": error})
            self._journal.remove(connection_id)
            return None

    def _removed(self, connection_id: str) -> None:
        """NATS has removed a connection, as its DELETE was delivered."""
        if (pending := self._pending.get(connection_id[:PREFIX_LENGTH])) is not None:
            pending.ids.discard(connection_id)
            if not pending.ids:
                pending.changed.set()


class _Pending:
    """The connections of one dead process that NATS still has. `changed`: there are none, or the claim is lost."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.ids: set[str] = set()

    async def wait(self, claim: Claim) -> None:
        """Wait until none is left, or the claim is lost."""
        while self.ids and claim.is_held:
            self.changed.clear()
            await self.changed.wait()


async def _insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Return what `ask` returns, once NATS answers."""
    while True:
        try:
            return await ask()
        except BucketError:  # noqa: PERF203 - it waits for NATS
            await asyncio.sleep(RETRY_S)
