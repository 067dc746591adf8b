"""Keeps each connection twice: in a journal of this machine, and in NATS, where other nodes find it.

A connection is in both before its POST is sent. If NATS does not acknowledge it in time, the local journal alone has to
do: it marks the entry as not replicated, and the entry is written to NATS later. The latest state of a connection is
what counts: one write of a connection is under way at a time, and what changes meanwhile is written after it.

An acknowledgement counts only while the lease of this process is valid. Others may have declared the process dead
afterwards, and may have read its entries before this one was written.
"""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from wsaas.clock import NO_TIMER, Clock
from wsaas.delivery.entry_codec import EntryCodec
from wsaas.delivery.event_bodies import stored_disconnect_body
from wsaas.delivery.journal import Done, Journal, LocalJournal, Remembered
from wsaas.delivery.replication_state import OFFLINE, ONLINE, PROBING, TRANSITIONS, State
from wsaas.events import Closed
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted

MAX_REWRITES: Final = 256
"""Maximum number of writes under way when entries are written that could not be replicated before."""

_LIMITS: Final = {OFFLINE: 0, PROBING: 1, ONLINE: MAX_REWRITES}

PROBE_INTERVAL_S: Final = 1.0
"""Seconds after a failed write before the next one is attempted."""


class Acknowledgement(Protocol):
    """The answer of NATS to a write. `error`: why it was refused, empty if it was not."""

    @property
    def error(self) -> str:
        """Why the write was refused."""


OnAck = Callable[["Acknowledgement | None"], None]


class Store(Protocol):
    """The bucket of NATS with the connections of all processes.

    The methods call `on_ack` once with the answer, or with None without one in time. If nothing can be sent, that is
    called at once. A write without an answer may be stored, even later.
    """

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to NATS."""

    def put(self, key: str, value: bytes, on_ack: OnAck) -> None:
        """Write a value."""

    def purge(self, key: str, on_ack: OnAck) -> None:
        """Remove a key."""


class ReplicatedJournal(Journal):
    """Keeps connections in the journal `local` and in `store`, where the keys are `<prefix of the process>.<id>`.

    `find` has to be set before use; it returns the connection with an id. `on_idle` is called when everything is
    replicated, `on_recovered` when NATS acknowledges writes again, and `on_removed` when it has removed the entry of a
    connection.
    """

    def __init__(self, local: LocalJournal, store: Store, codec: EntryCodec, clock: Clock) -> None:
        """Start OFFLINE."""
        self._clock = clock
        self._codec = codec
        self._in_flight = 0
        self.lease_end = 0.0
        self._local = local
        self._lost: set[str] = set()
        self._store = store
        self._timer = NO_TIMER
        self._waiting: dict[str, _Write] = {}
        self._writes: dict[str, _Write] = {}
        self.find: Callable[[str], Remembered | None] = _find_nothing
        self.on_idle: Callable[[], None] = _do_nothing
        self.on_recovered: Callable[[], None] = _do_nothing
        self.on_removed: Callable[[str], None] = _ignore
        self.state = OFFLINE

    @property
    def unreplicated(self) -> int:
        """How many connections have changes that NATS has not acknowledged."""
        return len(self._writes)

    # What the delivery of events calls.

    def add(self, connection: Remembered, done: Done) -> None:
        """Add a connection."""
        entry = connection.entry()
        write = self._writes[entry.id] = _Write(self, entry.id, self._codec.encode(entry))
        write.done = done
        write.is_new = True
        if self._may_publish():
            entry.is_replicated = True
            self._local.add(entry, write.written)
            self._publish(write)
        else:
            write.is_marked = write.is_decided = True
            self._waiting[entry.id] = write
            self._local.add(entry, write.written)

    def set_context(self, connection_id: str, context: str | None) -> None:
        """Set the context that the backend gave a connection, None for none."""
        self._local.set_context(connection_id, context)
        if (connection := self.find(connection_id)) is not None:
            entry = connection.entry()
            entry.context = context
            self._put(connection_id, self._codec.encode(entry))

    def set_disconnect(self, connection_id: str, closed: Closed) -> None:
        """Store the DELETE of a connection after its first attempt failed."""
        self._local.set_disconnect(connection_id, closed)
        if (connection := self.find(connection_id)) is not None:
            entry = connection.entry()
            entry.ended_at, entry.disconnect_body = closed.at, stored_disconnect_body(closed)
            self._put(connection_id, self._codec.encode(entry))

    def remove(self, connection_id: str) -> None:
        """Remove a connection."""
        self._local.remove(connection_id)
        self._put(connection_id, None)

    def restore(self, connections: Iterable[Remembered]) -> None:
        """Write `connections` again: NATS does not have them any more, although it had acknowledged them."""
        for connection in connections:
            entry = connection.entry()
            if entry.id not in self._writes and self._codec.prefix_of(entry.id) not in self._lost:
                write = self._writes[entry.id] = self._waiting[entry.id] = _Write(
                    self, entry.id, self._codec.encode(entry)
                )
                write.is_new = True
                self._mark(write)
        self._write_waiting()

    def disown(self, connection_id: str) -> None:
        """Remove a connection from the local journal: another process sends its DELETE, and removes it from NATS."""
        self._local.remove(connection_id)
        if (write := self._writes.get(connection_id)) is not None:
            self._drop(write)

    # What the membership calls.

    def renewed(self, lease_end: float) -> None:
        """The lease of this process is valid until `lease_end` (monotonic seconds)."""
        self.lease_end = lease_end
        self.connection_changed()

    def connection_changed(self) -> None:
        """The connection to NATS was opened or lost, or the lease was renewed or lost."""
        if not self._is_reachable():
            self._go_offline()
            return
        if self.state is OFFLINE:
            self._move(PROBING)
        self._write_waiting()

    def is_pending(self, connection_id: str) -> bool:
        """Return whether a change of a connection is not acknowledged yet."""
        return connection_id in self._writes

    def is_unreplicated(self, connection_id: str) -> bool:
        """Return whether NATS may not have any entry of a connection in this journal."""
        write = self._writes.get(connection_id)
        return write is not None and write.is_new

    def forget(self, prefix: str) -> None:
        """Write nothing more about the connections whose ids start with `prefix`, but remove what has to be removed.

        This process was declared dead. Another one sends the DELETEs of the connections that NATS has, and removes
        them.
        """
        self.lease_end = 0.0
        self._go_offline()
        self._lost.add(prefix)
        for write in [*self._writes.values()]:
            if write.value is not None and write.id.startswith(prefix):
                self._drop(write)
                self._mark(write)

    # The writes.

    def acknowledged(self, write: "_Write", answer: Acknowledgement | None) -> None:
        """NATS has answered a write, or has not answered in time."""
        sent, write.sent = write.sent, _NOTHING
        self._in_flight -= 1
        if answer is None or answer.error or self.state is OFFLINE or not self._is_reachable():
            self._failed(write, "no answer in time" if answer is None else answer.error)
            return
        if self.state is PROBING:
            self._timer.cancel()
            self._move(ONLINE)
            if self._waiting:
                waiting = counted(len(self._waiting), "connection is", "connections are")
                message = "NATS acknowledges again: %(waiting)s written that were not replicated"
                throttle.info("replicating again", message, {"waiting": waiting})
        if self._writes.get(write.id) is write:
            self._replicated(write, sent)
        self._write_waiting()
        if not self._writes:
            self.on_idle()

    def discard(self, write: "_Write") -> None:
        """A new connection is refused, as the local journal cannot be written."""
        if write.is_written:
            self._local.remove(write.id)
        self._put(write.id, None)

    def _put(self, connection_id: str, value: bytes | None) -> None:
        """Write `value`, or remove the entry if it is None, after what is under way."""
        if value is not None and self._codec.prefix_of(connection_id) in self._lost:
            return
        write = self._writes.get(connection_id)
        if write is None:
            write = self._writes[connection_id] = _Write(self, connection_id, value)
            if self._may_publish():
                self._publish(write)
            else:
                self._waiting[connection_id] = write
            return
        write.value = value
        if value is None and write.is_new and not write.was_sent:
            self._drop(write)

    def _drop(self, write: "_Write") -> None:
        del self._writes[write.id]
        self._waiting.pop(write.id, None)

    def _publish(self, write: "_Write") -> None:
        value = write.sent = write.value
        write.was_sent = True
        self._in_flight += 1
        key = f"{self._codec.prefix_of(write.id)}.{write.id}"
        if value is None:
            self._store.purge(key, write.acknowledged)
        else:
            self._store.put(key, value, write.acknowledged)

    def _replicated(self, write: "_Write", sent: object) -> None:
        """NATS has written `sent`."""
        write.is_new = False
        if write.value is not sent:
            # It has changed meanwhile.
            self._publish(write)
        else:
            del self._writes[write.id]
            if sent is None:
                self.on_removed(write.id)
            elif write.is_marked:
                self._local.set_replicated(write.id, True)
        write.decide()

    def _failed(self, write: "_Write", why: str) -> None:
        if not self._is_reachable():
            self._go_offline()
        elif self.state is not OFFLINE:
            if self.state is ONLINE:
                self._move(PROBING)
            self._timer.cancel()
            self._timer = self._clock.call_later(PROBE_INTERVAL_S, self._write_waiting)
        if self._writes.get(write.id) is not write:
            return
        self._waiting[write.id] = write
        text = "NATS does not acknowledge (%s): %s not replicated, which is tried again"
        throttle.warning("replication", text, why, counted(len(self._writes), "connection is", "connections are"))
        self._mark(write)

    def _mark(self, write: "_Write") -> None:
        """Let the local journal say that NATS may not have a connection."""
        if write.is_new and not write.is_marked and write.value is not None:
            write.is_marked = True
            self._local.set_replicated(write.id, False, write.marked)

    def _write_waiting(self) -> None:
        """Write what waits, as much at a time as the state allows."""
        if not self._is_reachable():
            self._go_offline()
        elif self.state is PROBING and not self._waiting and not self._in_flight:
            self._move(ONLINE)
        limit = _LIMITS[self.state]
        while self._waiting and (under_way := self._in_flight) < limit:
            self._publish(self._waiting.pop(next(iter(self._waiting))))
            if self._in_flight == under_way:
                # It could not be sent, and waits again.
                return

    def _may_publish(self) -> bool:
        return self.state is ONLINE and self._clock.now() < self.lease_end

    def _is_reachable(self) -> bool:
        return self._store.is_connected and self._clock.now() < self.lease_end

    def _go_offline(self) -> None:
        self._timer.cancel()
        if self.state is not OFFLINE:
            self._move(OFFLINE)

    def _move(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.state} to {state}")
        self.state = state
        logger.debug("replication to NATS: state %s", state.value)
        if state is ONLINE:
            self.on_recovered()


class _Nothing:
    """Stands for a write that is not under way."""


_NOTHING: Final = _Nothing()


class _Write:
    """The change of one connection that NATS has not acknowledged yet.

    `value`: the latest state, None to remove the entry. `sent`: what is under way. `was_sent`: whether NATS may have
    the entry. `is_new`: whether it may not. `is_marked`: whether the local journal says that it does not.
    `done`: called once a new connection is in the local journal (`is_written`), and is either in NATS or marked there
    (`is_decided`).
    """

    __slots__ = (
        "_journal",
        "done",
        "id",
        "is_decided",
        "is_marked",
        "is_new",
        "is_written",
        "sent",
        "value",
        "was_sent",
    )

    def __init__(self, journal: ReplicatedJournal, connection_id: str, value: bytes | None) -> None:
        self._journal = journal
        self.done: Done | None = None
        self.id = connection_id
        self.is_decided = self.is_marked = self.is_new = self.is_written = self.was_sent = False
        self.sent: object = _NOTHING
        self.value = value

    def acknowledged(self, answer: Acknowledgement | None) -> None:
        """NATS has answered, or has not answered in time."""
        self._journal.acknowledged(self, answer)

    def written(self, is_written: bool) -> None:
        """The local journal has the connection, or cannot be written."""
        self.is_written = is_written
        self._report(is_written)

    def marked(self, is_written: bool) -> None:
        """The local journal says that NATS may not have the connection, or cannot be written."""
        self.is_decided = True
        self._report(is_written)

    def decide(self) -> None:
        """NATS has the connection."""
        self.is_decided = True
        self._report(is_possible=True)

    def _report(self, is_possible: bool) -> None:
        if self.done is None or (is_possible and not (self.is_written and self.is_decided)):
            return
        done, self.done = self.done, None
        if not is_possible:
            self._journal.discard(self)
        done(is_possible)


def _find_nothing(_connection_id: str) -> None:
    """Return None: nothing has been registered yet."""


def _do_nothing() -> None:
    """Do nothing."""


def _ignore(_connection_id: str) -> None:
    """Do nothing."""
