"""Keeps each connection until its DELETE is delivered, in a file that outlives the process.

A connection is added before its POST is sent, and removed when its DELETE is delivered. The DELETE itself is written
only if its first attempt fails. So a gateway that was killed at any moment sends, at its next start, every DELETE that
has not been acknowledged, with the same `ce-id`.

A thread writes the file. Changes that come while it is busy go into its next transaction: the busier the node, the more
connections share a commit. The thread also checks the file: if it was removed, replaced or truncated, it is rewritten
from what the process knows.
"""

import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Protocol

from wsaas.clock import Clock, Timer
from wsaas.delivery.event_bodies import stored_disconnect_body
from wsaas.delivery.journal_adoption import adopt
from wsaas.delivery.journal_file import Entry, JournalError, JournalFile, reason
from wsaas.events import Closed
from wsaas.log import logger
from wsaas.log.throttle import throttle
from wsaas.log.wording import counted

__all__ = ["Entry", "Journal", "JournalError", "LocalJournal", "NoJournal", "Remembered", "SqliteJournal"]

MIN_BATCH_INTERVAL_S: Final = 0.001
"""Minimum seconds between two batches for the thread: changes made in between share a commit. Without this pause, the
threads of a busy node contend for the interpreter's lock several times for each client."""

RETRY_INTERVAL_S: Final = 1.0
"""Seconds before a failed write is retried."""

CHECK_INTERVAL_S: Final = 0.5
"""Seconds between two checks of the file. Not at each write, as a check releases the interpreter's lock twice."""

CLOSE_TIMEOUT_S: Final = 5.0
"""Maximum seconds that a stop waits for the disk."""

_INSERT: Final = (
    "INSERT OR REPLACE INTO connections (id, ws_uri, authorization, connected_at, replicated, trace) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
_SET_CONTEXT: Final = "UPDATE connections SET context = ? WHERE id = ?"
_SET_DISCONNECT: Final = "UPDATE connections SET ended_at = ?, farewell = ? WHERE id = ?"
"""`farewell` is the name of the column in the file: the body of the DELETE."""
_SET_REPLICATED: Final = "UPDATE connections SET replicated = ? WHERE id = ?"
_DELETE: Final = "DELETE FROM connections WHERE id = ?"

Done = Callable[[bool], None]


class Remembered(Protocol):
    """A connection that belongs in the journal."""

    def entry(self) -> Entry:
        """Return the entry of the connection. Also called in the thread of the journal."""


class Journal(Protocol):
    """Keeps each connection until its DELETE is delivered."""

    def add(self, connection: Remembered, done: Done) -> None:
        """Add a connection; `done` is called with whether it was written."""

    def set_context(self, connection_id: str, context: str | None) -> None:
        """Set the context that the backend gave a connection, None for none."""

    def set_disconnect(self, connection_id: str, closed: Closed) -> None:
        """Store the DELETE of a connection after its first attempt failed."""

    def remove(self, connection_id: str) -> None:
        """Remove a connection."""


class LocalJournal(Journal, Protocol):
    """A journal of this machine, which may be one of two (see `replicated_journal`)."""

    def set_replicated(self, connection_id: str, is_replicated: bool, done: Done | None = None) -> None:
        """Set whether NATS has the entry of a connection, too; `done` is called with whether that was written."""


class NoJournal:
    """Keeps nothing, and reports success at once."""

    def add(self, _connection: Remembered, done: Done) -> None:
        """Call `done` at once."""
        done(True)

    def set_context(self, _connection_id: str, _context: str | None) -> None:
        """Do nothing."""

    def set_disconnect(self, _connection_id: str, _closed: Closed) -> None:
        """Do nothing."""

    def remove(self, _connection_id: str) -> None:
        """Do nothing."""

    def set_replicated(self, _connection_id: str, _is_replicated: bool, done: Done | None = None) -> None:
        """Call `done` at once."""
        if done is not None:
            done(True)


class SqliteJournal:
    """Keeps connections in the file `path` (see `JournalFile`).

    `call_soon(callback, *args)` schedules a call on the event loop, from any thread. `remembered` has to be set before
    `open`; it returns all connections that belong in the file, including those whose `add` is pending.
    """

    def __init__(self, path: Path, clock: Clock, call_soon: Callable[..., object], *, sync_full: bool = False) -> None:
        """Prepare to use the file `path`; `open` opens it. `sync_full`: wait for the disk at each commit."""
        self._path = path
        self._clock = clock
        self._call_soon = call_soon
        self._file = JournalFile(path, sync_full=sync_full)
        self._pending: list[_Write] = []
        self._is_writing = False
        self._damage = ""
        self._has_failed = False
        self._handed_over = 0.0
        self._writing_since = math.inf
        self._timer: Timer | None = None
        self._is_closed = False
        self._next_inspection = 0.0
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._writer_thread = threading.Thread(target=self._write_batches, name="journal", daemon=True)
        self.remembered: Callable[[], Iterable[Remembered]] = tuple

    def open(self, unused: Iterable[Path] = (), *, skips_used: bool = True) -> list[Entry]:
        """Open or create the file; return the entries that an earlier process left in it, oldest first. Blocks.

        `unused`: journals of processes that do not run any more, whose entries are adopted (see `journal_adoption`).
        `skips_used`: leave those of them that another process uses. A damaged file is renamed and replaced. Raises
        `JournalInUse` if another process uses a file, `JournalError` if it is not a journal. It can be called again
        then.
        """
        entries = self._file.open()
        try:
            adopted = {entry.id: entry for entry in adopt(self._file, unused, skips_used=skips_used)}
        except JournalError:
            self._file.close()
            raise
        self._writer_thread.start()
        # An entry is in both if an earlier process was killed while it adopted.
        return [entry for entry in entries if entry.id not in adopted] + [*adopted.values()]

    @property
    def is_writable(self) -> bool:
        """Whether changes get into the file: it is intact, the last write succeeded, and the disk answers."""
        is_stuck = self._clock.now() - self._writing_since > CLOSE_TIMEOUT_S
        return not (self._damage or self._has_failed or is_stuck)

    def close(self, remembered: Iterable[Remembered] = ()) -> bool:
        """Write the pending changes and close the file. Blocks for at most `CLOSE_TIMEOUT_S`.

        Returns whether the file is complete. If it is damaged, it is rewritten with `remembered`.
        """
        if not self._writer_thread.is_alive():
            return True
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        last = _Batch(self._pending, [*remembered])
        self._batches.put(last)
        self._batches.put(None)
        self._writer_thread.join(CLOSE_TIMEOUT_S)
        if self._writer_thread.is_alive():
            last.error = "the disk does not answer"
        if last.error:
            logger.error(
                "the journal %s is incomplete: %s; %s not written: after the next start, a DELETE may be sent twice "
                "or be missing",
                self._path,
                last.error,
                counted(len(last.writes), "change is", "changes are"),
            )
        return not last.error

    def add(self, connection: Remembered, done: Done) -> None:
        """Add a connection."""
        entry = connection.entry()
        trace = None if entry.trace is None else entry.trace.text
        values = (entry.id, entry.ws_uri, entry.authorization, entry.connected_at, entry.is_replicated, trace)
        self._add(_Write(_INSERT, values, done))

    def set_context(self, connection_id: str, context: str | None) -> None:
        """Set the context that the backend gave a connection, None for none."""
        self._add(_Write(_SET_CONTEXT, (context, connection_id)))

    def set_disconnect(self, connection_id: str, closed: Closed) -> None:
        """Store the DELETE of a connection."""
        self._add(_Write(_SET_DISCONNECT, (closed.at, stored_disconnect_body(closed), connection_id)))

    def remove(self, connection_id: str) -> None:
        """Remove a connection."""
        self._add(_Write(_DELETE, (connection_id,)))

    def set_replicated(self, connection_id: str, is_replicated: bool, done: Done | None = None) -> None:
        """Set whether NATS has the entry of a connection, too."""
        self._add(_Write(_SET_REPLICATED, (is_replicated, connection_id), done))

    def _add(self, write: "_Write") -> None:
        self._pending.append(write)
        self._write_soon()

    def _write_soon(self) -> None:
        if not (self._is_writing or self._is_closed):
            self._is_writing = True
            self._hand_over_soon()

    def _hand_over_soon(self) -> None:
        wait = self._handed_over + MIN_BATCH_INTERVAL_S - self._clock.now()
        if wait > 0:
            self._timer = self._clock.call_later(wait, self._hand_over)
        else:
            # Further changes of this turn of the loop go into the same batch.
            self._call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        if self._is_closed:
            return
        self._handed_over = self._writing_since = self._clock.now()
        batch = _Batch(self._pending, [*self.remembered()] if self._damage else None)
        self._pending = []
        self._batches.put(batch)

    def _written(self, batch: "_Batch") -> None:
        batch.is_reported = True
        self._has_failed = bool(batch.error)
        self._writing_since = math.inf
        for write in batch.writes:
            self._report_write(write, is_written=not batch.error)
        if batch.error:
            # New connections are refused. Changes to existing entries are retried.
            self._pending[:0] = _writes_to_retry(batch)
        is_newly_damaged = not (batch.is_intact or self._damage)
        self._report(batch)
        self._is_writing = bool(self._pending or self._damage)
        if not self._is_writing or self._is_closed:
            return
        if batch.error and not is_newly_damaged:
            self._timer = self._clock.call_later(RETRY_INTERVAL_S, self._hand_over)
        else:
            self._hand_over_soon()

    def _report_write(self, write: "_Write", *, is_written: bool) -> None:
        if write.done is None:
            return
        try:
            write.done(is_written)
        except Exception:  # noqa: BLE001 - one connection must not end the journal of all
            logger.exception("the journal %s: an error in what waited for a write; others go on", self._path)

    def _report(self, batch: "_Batch") -> None:
        if not batch.is_intact:
            self._log_damage(batch.error)
            return
        if self._damage:
            self._damage = ""
            written = counted(batch.count, "connection is", "connections are")
            logger.warning("the journal %s was rewritten: %s in it", self._path, written)
        if batch.error:
            fields = {"journal": self._path, "error": batch.error}
            throttle.error("journal", "the journal %(journal)s cannot be written: %(error)s", fields)

    def _report_damage(self, damage: str) -> None:
        """Log that a check found the file damaged, and rewrite it."""
        if not (self._is_writing or self._is_closed):
            self._log_damage(damage)
            self._write_soon()

    def _log_damage(self, damage: str) -> None:
        if not self._damage:
            logger.error(
                "the journal %s is damaged: %s; new clients are refused until it is rewritten", self._path, damage
            )
        elif damage != self._damage:
            logger.error("the journal %s cannot be rewritten: %s; trying again every second", self._path, damage)
        self._damage = damage

    # In the thread.

    def _write_batches(self) -> None:
        last: _Batch | None = None
        while True:
            try:
                batch = self._batches.get(timeout=CHECK_INTERVAL_S)
            except queue.Empty:
                if damage := self._inspect():
                    self._call_soon(self._report_damage, damage)
                continue
            if batch is None:
                self._file.close()
                return
            if self._is_closed and last is not None and last.error and not last.is_reported:
                # The event loop is blocked by `close`, so it cannot put the changes of a failed batch into this one.
                batch.writes[:0] = _writes_to_retry(last)
            self._write(batch)
            self._call_soon(self._written, batch)
            last = batch

    def _inspect(self) -> str:
        self._next_inspection = time.monotonic() + CHECK_INTERVAL_S
        return self._file.damage()

    def _write(self, batch: "_Batch") -> None:
        is_due = batch.remembered is not None or time.monotonic() >= self._next_inspection
        batch.error = self._inspect() if is_due else ""
        batch.is_intact = not batch.error
        try:
            if batch.error and batch.remembered is not None:
                batch.count = self._file.rewrite(each.entry() for each in batch.remembered)
                batch.error, batch.is_intact = "", True
            if batch.is_intact:
                self._file.write((write.statement, write.values) for write in batch.writes)
        except (OSError, sqlite3.Error, JournalError) as error:
            batch.error = reason(error)


class _Write:
    """One statement; `done` is called with whether it was committed."""

    __slots__ = ("done", "statement", "values")

    def __init__(self, statement: str, values: tuple[Any, ...], done: Done | None = None) -> None:
        self.statement = statement
        self.values = values
        self.done = done


class _Batch:
    """Changes that are committed together, and the outcome.

    `remembered`: the connections from which a damaged file is rewritten, None to leave it as it is.
    `count`: the number of connections in the rewritten file.
    `is_reported`: the outcome has reached the event loop.
    """

    __slots__ = ("count", "error", "is_intact", "is_reported", "remembered", "writes")

    def __init__(self, writes: list[_Write], remembered: list[Remembered] | None) -> None:
        self.count = 0
        self.error = ""
        self.is_reported = False
        self.is_intact = True
        self.remembered = remembered
        self.writes = writes


def _writes_to_retry(batch: _Batch) -> list[_Write]:
    """Return the changes of a failed batch to retry: all but the additions, whose clients were refused."""
    added = [write for write in batch.writes if write.statement is _INSERT]
    others = [_Write(write.statement, write.values) for write in batch.writes if write.statement is not _INSERT]
    # A file that was rewritten just before contains these connections too: `remembered` includes pending additions.
    was_rewritten = batch.is_intact and batch.remembered is not None
    return others + ([_Write(_DELETE, write.values[:1]) for write in added] if was_rewritten else [])
