"""The connections that the backend is owed a DELETE for, in a file that outlives the process (SQLite).

A connection is written before its POST leaves, and once more, with the words of its DELETE, before that leaves; it is
taken out when the DELETE is done. So a gateway that was killed at any moment sends, when it starts again, every DELETE
that its predecessor owed, with the `ce-id` that it would have had.

A thread of its own does the writing. Whatever comes while it is busy goes into the next transaction: the busier it
is, the more connections share a commit.
"""

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from wsaas.clock import Clock, rfc3339
from wsaas.events import Closed
from wsaas.log import logger

LAST_NUMBER = 2**53 - 1
"""The event number of a DELETE whose true number was lost with the gateway: the last that a JSON number can hold, so
that no other event of the connection ever had it."""

GAP = 0.001
"""Seconds, at least, from one hand-over to the writer to the next: what comes meanwhile shares a commit. Without it the
threads of a busy node take the interpreter's lock from each other several times for each client."""

RETRY_PAUSE = 1.0
"""Seconds before what could not be written is tried again."""

APPLICATION = 0x57536161
VERSION = 1
_TABLE = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    number INTEGER, ended_at REAL, farewell BLOB
) WITHOUT ROWID"""
_SCHEMA = (_TABLE, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}")
_OPENED = "INSERT INTO connections (id, ws_uri, authorization, connected_at) VALUES (?, ?, ?, ?)"
_ADMITTED = "UPDATE connections SET context = ? WHERE id = ?"
_ENDED = "UPDATE connections SET number = ?, ended_at = ?, farewell = ? WHERE id = ?"
_SETTLED = "DELETE FROM connections WHERE id = ?"
_ALL = (
    "SELECT id, ws_uri, authorization, context, connected_at, number, ended_at, farewell FROM connections "
    "ORDER BY connected_at"
)

Done = Callable[[bool], None]


class JournalError(Exception):
    """The journal cannot be used: another process has it, or it is something else."""


@dataclass(slots=True)
class Entry:
    """A connection as it is remembered; `number`, `ended_at` and `farewell` are its DELETE, None before its end.

    Times are seconds since the epoch. Shown, as in a traceback's line, it does not tell what is secret.
    """

    id: str
    ws_uri: str
    authorization: bytes | None = field(repr=False)
    context: str | None = field(repr=False)
    connected_at: float
    number: int | None = None
    ended_at: float | None = None
    farewell: bytes | None = None


class Journal(Protocol):
    """Where connections are remembered. `done` is called with whether it was written."""

    def opened(self, entry: Entry, done: Done) -> None:
        """Remember a connection."""

    def admitted(self, connection_id: str, context: str) -> None:
        """Remember the context that the backend gave."""

    def ended(self, connection_id: str, farewell: Closed, done: Done) -> None:
        """Remember the DELETE that is owed."""

    def settled(self, connection_id: str) -> None:
        """Forget a connection."""


class NoJournal:
    """Remembers nothing, and says so at once."""

    def opened(self, _entry: Entry, done: Done) -> None:
        """Go on."""
        done(True)

    def admitted(self, _connection_id: str, _context: str) -> None:
        """Go on."""

    def ended(self, _connection_id: str, _farewell: Closed, done: Done) -> None:
        """Go on."""
        done(True)

    def settled(self, _connection_id: str) -> None:
        """Go on."""


class SqliteJournal:
    """Remembers in the file `path`, which only this process may use while it is open, and only its user may read.

    `power_proof`: wait for the disk at each commit, so that nothing is lost with the power either. `call_soon` brings a
    call to the loop, from whichever thread.
    """

    def __init__(
        self, path: Path, clock: Clock, call_soon: Callable[..., object], *, power_proof: bool = False
    ) -> None:
        """Open nothing yet."""
        self._path = path
        self._clock = clock
        self._call_soon = call_soon
        self._power_proof = power_proof
        self._pending: list[_Write] = []
        self._is_writing = False
        self._handed_over = 0.0
        self._batches: SimpleQueue[list[_Write]] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_batches, name="journal", daemon=True)
        self._connection: sqlite3.Connection

    def open(self) -> list[Entry]:
        """Open the file, or make it; return what an earlier process left in it, oldest first. Blocks.

        A file that is damaged is set aside. Raises `JournalError` where another process has it or it is no journal.
        """
        try:
            entries = self._connect()
        except (OSError, sqlite3.OperationalError) as error:
            what = "another process uses it" if "locked" in str(error) else error
            raise JournalError(f"{self._path}: {what}") from error
        self._thread.start()
        return entries

    def close(self) -> None:
        """Write what is pending and close. Blocks."""
        if self._thread.is_alive():
            self._batches.put(self._pending)
            self._batches.put([])
            self._thread.join()
            self._connection.close()

    def opened(self, entry: Entry, done: Done) -> None:
        """Remember a connection."""
        values = (entry.id, entry.ws_uri, entry.authorization, entry.connected_at)
        self._add(_Write(_OPENED, values, done))

    def admitted(self, connection_id: str, context: str) -> None:
        """Remember the context that the backend gave."""
        self._add(_Write(_ADMITTED, (context, connection_id)))

    def ended(self, connection_id: str, farewell: Closed, done: Done) -> None:
        """Remember the DELETE that is owed."""
        self._add(_Write(_ENDED, (farewell.number, farewell.at, farewell.body, connection_id), done))

    def settled(self, connection_id: str) -> None:
        """Forget a connection."""
        self._add(_Write(_SETTLED, (connection_id,)))

    def _connect(self) -> list[Entry]:
        if self._path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link")
        # Made here, for nobody else to read. One that is there is not opened: closing it would let go of SQLite's lock
        # on it, if this process has one.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        # Raises UnicodeDecodeError where SQLite's own would raise an operational error: spoilt text is damage.
        connection.text_factory = bytes.decode
        try:
            entries = self._prepare(connection)
        except (JournalError, OSError, sqlite3.OperationalError):
            connection.close()
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # In this order: to close it may take away what SQLite keeps beside the file, if it is there.
            aside = self._set_aside()
            connection.close()
            logger.error(
                "%s: damaged (%s): set aside as %s; the DELETEs that it remembered are lost", self._path, error, aside
            )
            return self._connect()
        self._connection = connection
        return entries

    def _prepare(self, connection: sqlite3.Connection) -> list[Entry]:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        is_new = self._check(connection)
        # SQLite gives its other files the mode of this one. It holds what clients authorize themselves with.
        self._path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._power_proof else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA if is_new else ():
            connection.execute(statement)
        connection.execute("COMMIT")
        return [Entry(*row) for row in connection.execute(_ALL)]

    def _check(self, connection: sqlite3.Connection) -> bool:
        """Return whether the file is empty. Changes nothing: it may be somebody else's."""
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = [_words(sql) for (sql,) in connection.execute("SELECT sql FROM sqlite_master")]
        if not tables and not application:
            return True
        if (application, version) != (APPLICATION, VERSION):
            raise JournalError(f"{self._path} is not a journal of this version of wsaas")
        if tables != [_words(_TABLE)]:
            raise sqlite3.DatabaseError("its table is not what it was")
        return False

    def _set_aside(self) -> Path:
        stamp = rfc3339(time.time()).replace(":", "")
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        return aside

    def _add(self, write: "_Write") -> None:
        self._pending.append(write)
        if not self._is_writing:
            self._is_writing = True
            self._hand_over_soon()

    def _hand_over_soon(self) -> None:
        wait = self._handed_over + GAP - self._clock.now()
        if wait > 0:
            self._clock.call_later(wait, self._hand_over)
        else:
            # What else comes in this turn of the loop goes along.
            self._call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._handed_over = self._clock.now()
        batch, self._pending = self._pending, []
        self._batches.put(batch)

    def _written(self, batch: list["_Write"], error: str) -> None:
        for write in batch:
            if write.done is not None:
                write.done(not error)
        if error:
            # What was opened is refused now. The rest is about connections that are in the file: it is tried again.
            logger.error("the journal %s cannot be written: %s", self._path, error)
            again = [_Write(each.statement, each.values) for each in batch if each.statement is not _OPENED]
            self._pending[:0] = again
        self._is_writing = bool(self._pending)
        if error and self._pending:
            self._clock.call_later(RETRY_PAUSE, self._hand_over)
        elif self._pending:
            self._hand_over_soon()

    # In the writer's thread.

    def _write_batches(self) -> None:
        while batch := self._batches.get():
            error = ""
            try:
                self._connection.execute("BEGIN")
                for write in batch:
                    self._connection.execute(write.statement, write.values)
                self._connection.execute("COMMIT")
            except sqlite3.Error as problem:
                error = str(problem)
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            self._call_soon(self._written, batch, error)


def _words(sql: str | None) -> list[str]:
    """Return the words of a statement: how it is laid out is no part of what it says."""
    return (sql or "").split()


class _Write:
    """One statement, and who is told when it is committed."""

    __slots__ = ("done", "statement", "values")

    def __init__(self, statement: str, values: tuple[Any, ...], done: Done | None = None) -> None:
        self.statement = statement
        self.values = values
        self.done = done
