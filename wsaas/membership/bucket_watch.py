"""Follows the changes of a bucket, also after the loss of a connection, of a server, or of a message."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from wsaas.clock import Clock
from wsaas.log.throttle import throttle
from wsaas.membership.bucket import Bucket, BucketError, Entry
from wsaas.membership.bus import Bus, Message
from wsaas.membership.tasks import end_tasks, wait_for

MISSED_HEARTBEATS: Final = 3
"""After the time of so many heartbeats without a message, the watch starts again."""

RETRY_S: Final = 0.5

READ_HEARTBEAT_S: Final = 0.5

READ_TIMEOUT_S: Final = 20.0
"""Seconds after which reading entries is given up."""

OnEntry = Callable[[Entry], None]
OnSnapshot = Callable[[dict[str, Entry], float], None]
"""Called with all entries that have a value, and the time (monotonic) at which the watch began to collect them."""


class BucketWatch:
    """Watches `bucket`. `on_snapshot` is called at each start, then `on_entry` for each change."""

    def __init__(self, bus: Bus, bucket: Bucket, clock: Clock, heartbeat: float, pattern: str = ">") -> None:
        """Watch nothing before `run`. `heartbeat`: seconds; `pattern`: of the keys, `>` for all."""
        self._bucket = bucket
        self._bus = bus
        self._clock = clock
        self._count = 0
        self._heartbeat = max(0.1, heartbeat)
        self._broken = asyncio.Event()
        self._heard_at = 0.0
        self._pattern = pattern
        self._sequence = 0
        self._snapshot: dict[str, Entry] | None = None
        self._started_at = 0.0
        self.on_entry: OnEntry = lambda _entry: None
        self.on_snapshot: OnSnapshot = lambda _entries, _started_at: None

    async def run(self) -> None:
        """Watch until this task is cancelled."""
        while True:
            inbox = self._bus.new_inbox()
            name = f"watch-{inbox.replace('.', '-')}"
            try:
                await self._bus.subscribe(inbox, self._received)
                await self._start(inbox, name)
                await self._until_broken()
            except BucketError as error:
                throttle.warning(("NATS", "watch"), "cannot follow the bucket %s: %s", self._bucket.name, error)
            finally:
                await self._bus.unsubscribe(inbox)
            await self._bucket.stop_watch(name)
            await asyncio.sleep(RETRY_S)

    async def _start(self, inbox: str, name: str) -> None:
        self._broken.clear()
        self._sequence = 0
        self._snapshot = {}
        self._heard_at = self._started_at = self._clock.now()
        if not await self._bucket.watch(inbox, name, self._heartbeat, self._pattern):
            self._end_snapshot()

    async def _until_broken(self) -> None:
        """Return when messages are missing."""
        patience = MISSED_HEARTBEATS * self._heartbeat
        while self._bus.is_connected and self._clock.now() < self._heard_at + patience:
            with suppress(asyncio.TimeoutError):
                await wait_for(self._broken.wait(), self._heartbeat / 2)
                return

    def _received(self, message: Message) -> None:
        """Handle a message of the consumer: an entry, or a sign of life."""
        self._heard_at = self._clock.now()
        if not message.reply:
            last = message.headers.get("Nats-Last-Consumer")
            if last is not None and int(last) != self._sequence:
                self._broken.set()
            return
        revision, sequence, pending = _metadata(message.reply)
        if sequence != self._sequence + 1:
            self._broken.set()
        self._sequence = sequence
        entry = self._bucket.entry(message, revision)
        if self._snapshot is None:
            self.on_entry(entry)
            return
        self._snapshot[entry.key] = entry
        if not pending:
            self._end_snapshot()

    def _end_snapshot(self) -> None:
        found, self._snapshot = self._snapshot or {}, None
        self.on_snapshot({key: entry for key, entry in found.items() if entry.value is not None}, self._started_at)


async def read(bus: Bus, bucket: Bucket, clock: Clock, pattern: str) -> dict[str, Entry]:
    """Return the entries that match `pattern` and have a value, by key. Raises `BucketError`."""
    found: asyncio.Future[dict[str, Entry]] = asyncio.get_running_loop().create_future()
    watch = BucketWatch(bus, bucket, clock, READ_HEARTBEAT_S, pattern)
    watch.on_snapshot = lambda entries, _: None if found.done() else found.set_result(entries)
    task = asyncio.ensure_future(watch.run())
    try:
        return await wait_for(found, READ_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise BucketError("JetStream does not answer") from None
    finally:
        await end_tasks([task])


def _metadata(reply: str) -> tuple[int, int, int]:
    """Return the sequence in the stream, that in the consumer, and the number of pending messages.

    `reply`: `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>`, or with
    domain and account before the stream and a token at the end.
    """
    parts = reply.split(".")
    start = 5 if len(parts) == 9 else 7  # noqa: PLR2004 - the parts of the first form
    return int(parts[start]), int(parts[start + 1]), int(parts[start + 3])
