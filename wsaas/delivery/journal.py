"""The connections that the backend is owed a DELETE for, in a file that outlives the process.

A connection is written before its POST leaves, and taken out when its DELETE is done. Between the two its DELETE is
written only where its first attempt failed: so a gateway that was killed at any moment sends, when it starts again,
every DELETE that its predecessor owed, with the same `ce-id`.

A thread of its own does the writing. Whatever comes while it is busy goes into the next transaction: the busier it
is, the more connections share a commit. It also looks after the file: one that was removed, replaced or truncated is
written anew from what the process knows.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from wsaas.clock import Clock, Timer
from wsaas.delivery.event_bodies import stored_disconnect_body
from wsaas.delivery.journal_file import Entry, JournalError, JournalFile, reason
from wsaas.events import Closed
from wsaas.log import logger
from wsaas.log.wording import counted

__all__ = ["Entry", "Journal", "JournalError", "NoJournal", "Remembered", "SqliteJournal"]

MIN_BATCH_INTERVAL_S = 0.001
"""Seconds, at least, from one hand-over to the writer to the next: what comes meanwhile shares a commit. Without it the
threads of a busy node take the interpreter's lock from each other several times for each client."""

RETRY_INTERVAL_S = 1.0
"""Seconds before what could not be written is tried again."""

CHECK_INTERVAL_S = 0.5
"""Seconds between two looks at the file. Not at each write: a look gives the interpreter's lock away twice."""

CLOSE_TIMEOUT_S = 5.0
"""Seconds, at most, that a stop waits for a disk that does not answer."""

_OPENED = "INSERT OR REPLACE INTO connections (id, ws_uri, authorization, connected_at) VALUES (?, ?, ?, ?)"
_ADMITTED = "UPDATE connections SET context = ? WHERE id = ?"
_ENDED = "UPDATE connections SET ended_at = ?, farewell = ? WHERE id = ?"
_SETTLED = "DELETE FROM connections WHERE id = ?"

Done = Callable[[bool], None]


class Remembered(Protocol):
    """A connection that belongs into the journal."""

    def entry(self) -> Entry:
        """Return what is to be remembered of it. Called in the writer's thread too."""


class Journal(Protocol):
    """Where connections are remembered."""

    def add(self, connection: Remembered, done: Done) -> None:
        """Remember a connection; `done` is called with whether it was written."""

    def set_context(self, connection_id: str, context: str) -> None:
        """Remember the context that the backend gave."""

    def set_disconnect(self, connection_id: str, closed: Closed) -> None:
        """Remember the DELETE that is owed, as its first attempt failed."""

    def remove(self, connection_id: str) -> None:
        """Forget a connection."""


class NoJournal:
    """Remembers nothing, and says so at once."""

    def add(self, _connection: Remembered, done: Done) -> None:
        """Go on."""
        done(True)

    def set_context(self, _connection_id: str, _context: str) -> None:
        """Go on."""

    def set_disconnect(self, _connection_id: str, _closed: Closed) -> None:
        """Go on."""

    def remove(self, _connection_id: str) -> None:
        """Go on."""


class SqliteJournal:
    """Remembers in the file `path` (see `JournalFile`).

    `call_soon` brings a call to the loop, from whichever thread. `remembered`, to be set before `open`, returns all
    that belongs into the file but for what is not written yet.
    """

    def __init__(
        self, path: Path, clock: Clock, call_soon: Callable[..., object], *, power_proof: bool = False
    ) -> None:
        """Open nothing yet."""
        self._path = path
        self._clock = clock
        self._call_soon = call_soon
        self._file = JournalFile(path, power_proof=power_proof)
        self._pending: list[_Write] = []
        self._is_writing = False
        self._damage = ""
        self._handed_over = 0.0
        self._timer: Timer | None = None
        self._is_closed = False
        self._next_inspection = 0.0
        self._batches: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_batches, name="journal", daemon=True)
        self.remembered: Callable[[], Iterable[Remembered]] = tuple

    def open(self) -> list[Entry]:
        """Open the file, or make it; return what an earlier process left in it, oldest first. Blocks.

        A file that is damaged is set aside. Raises `JournalError` where another process has it or it is no journal.
        """
        entries = self._file.open()
        self._thread.start()
        return entries

    def close(self, remembered: Iterable[Remembered] = ()) -> bool:
        """Write what is pending and close. Blocks, for `CLOSE_TIMEOUT_S` at most.

        Returns whether the file is what it should be; a last attempt to mend it takes `remembered`.
        """
        if not self._thread.is_alive():
            return True
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        last = _Batch(self._pending, [*remembered])
        self._batches.put(last)
        self._batches.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            last.error = "its disk does not answer"
        if last.error:
            logger.error(
                "the journal %s is incomplete: %s; %s not written: after the next start the backend may be "
                "told of an end again, or not at all",
                self._path,
                last.error,
                counted(len(last.writes), "change is", "changes are"),
            )
        return not last.error

    def add(self, connection: Remembered, done: Done) -> None:
        """Remember a connection."""
        entry = connection.entry()
        values = (entry.id, entry.ws_uri, entry.authorization, entry.connected_at)
        self._add(_Write(_OPENED, values, done))

    def set_context(self, connection_id: str, context: str) -> None:
        """Remember the context that the backend gave."""
        self._add(_Write(_ADMITTED, (context, connection_id)))

    def set_disconnect(self, connection_id: str, closed: Closed) -> None:
        """Remember the DELETE that is owed."""
        self._add(_Write(_ENDED, (closed.at, stored_disconnect_body(closed), connection_id)))

    def remove(self, connection_id: str) -> None:
        """Forget a connection."""
        self._add(_Write(_SETTLED, (connection_id,)))

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
            # What else comes in this turn of the loop goes along.
            self._call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._timer = None
        if self._is_closed:
            return
        self._handed_over = self._clock.now()
        batch = _Batch(self._pending, [*self.remembered()] if self._damage else None)
        self._pending = []
        self._batches.put(batch)

    def _written(self, batch: "_Batch") -> None:
        batch.is_reported = True
        for write in batch.writes:
            if write.done is not None:
                write.done(not batch.error)
        if batch.error:
            # What was opened is refused now. The rest is about connections that are in the file: it is tried again.
            self._pending[:0] = _writes_to_retry(batch)
        is_news = not (batch.is_intact or self._damage)
        self._report(batch)
        self._is_writing = bool(self._pending or self._damage)
        if not self._is_writing or self._is_closed:
            return
        if batch.error and not is_news:
            self._timer = self._clock.call_later(RETRY_INTERVAL_S, self._hand_over)
        else:
            self._hand_over_soon()

    def _report(self, batch: "_Batch") -> None:
        if not batch.is_intact:
            self._log_damage(batch.error)
            return
        if self._damage:
            self._damage = ""
            written = counted(batch.count, "connection is", "connections are")
            logger.warning("the journal %s is whole again: %s in it", self._path, written)
        if batch.error:
            logger.error("the journal %s cannot be written: %s", self._path, batch.error)

    def _report_damage(self, fault: str) -> None:
        """The file is not whole any more."""
        if not (self._is_writing or self._is_closed):
            self._log_damage(fault)
            self._write_soon()

    def _log_damage(self, fault: str) -> None:
        if not self._damage:
            logger.error(
                "the journal %s is damaged: %s; new clients are refused until it is rewritten", self._path, fault
            )
        elif fault != self._damage:
            logger.error("the journal %s cannot be rewritten: %s; trying again every second", self._path, fault)
        self._damage = fault

    # In the writer's thread.

    def _write_batches(self) -> None:
        last: _Batch | None = None
        while True:
            try:
                batch = self._batches.get(timeout=CHECK_INTERVAL_S)
            except queue.Empty:
                if fault := self._inspect():
                    self._call_soon(self._report_damage, fault)
                continue
            if batch is None:
                self._file.close()
                return
            if self._is_closed and last is not None and last.error and not last.is_reported:
                # The loop waits for this thread: it cannot give back what it was not told of.
                batch.writes[:0] = _writes_to_retry(last)
            self._write(batch)
            self._call_soon(self._written, batch)
            last = batch

    def _inspect(self) -> str:
        self._next_inspection = time.monotonic() + CHECK_INTERVAL_S
        return self._file.fault()

    def _write(self, batch: "_Batch") -> None:
        is_due = batch.remembered is not None or time.monotonic() >= self._next_inspection
        batch.error = self._inspect() if is_due else ""
        batch.is_intact = not batch.error
        try:
            if batch.error and batch.remembered is not None:
                batch.count = self._file.mend(each.entry() for each in batch.remembered)
                batch.error, batch.is_intact = "", True
            if batch.is_intact:
                self._file.write((write.statement, write.values) for write in batch.writes)
        except (OSError, sqlite3.Error, JournalError) as error:
            batch.error = reason(error)


class _Write:
    """One statement, and what is called when it is committed."""

    __slots__ = ("done", "statement", "values")

    def __init__(self, statement: str, values: tuple[Any, ...], done: Done | None = None) -> None:
        self.statement = statement
        self.values = values
        self.done = done


class _Batch:
    """What is written together, and what came of it.

    `remembered`: what the file is written anew from where it is not whole, None to leave it. `count`: how many
    connections were then. `is_reported`: its outcome reached the loop.
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
    """Return what has to be written of a batch that was not: a connection that was opened is refused now."""
    opened = [write for write in batch.writes if write.statement is _OPENED]
    others = [_Write(write.statement, write.values) for write in batch.writes if write.statement is not _OPENED]
    # It is in the file all the same if that was written anew just before.
    is_anew = batch.is_intact and batch.remembered is not None
    return others + ([_Write(_SETTLED, write.values[:1]) for write in opened] if is_anew else [])
