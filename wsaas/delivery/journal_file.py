"""The file of the journal: a SQLite database that one process uses at a time. All calls block."""

import errno
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from wsaas.clock import rfc3339
from wsaas.http.trace_context import TraceContext, from_text
from wsaas.log import logger

APPLICATION: Final = 0x57536161
VERSION: Final = 4
# `farewell` is the body of the DELETE. A column is not renamed: other versions of the gateway read the file.
_TABLE: Final = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    ended_at REAL, farewell BLOB, replicated INTEGER NOT NULL, trace TEXT
) WITHOUT ROWID"""
_TABLE_3: Final = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    ended_at REAL, farewell BLOB, replicated INTEGER NOT NULL
) WITHOUT ROWID"""
_TABLE_2: Final = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    ended_at REAL, farewell BLOB
) WITHOUT ROWID"""
_TABLE_1: Final = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    number INTEGER, ended_at REAL, farewell BLOB
) WITHOUT ROWID"""
_COLUMNS: Final = "id, ws_uri, authorization, context, connected_at, ended_at, farewell, replicated, trace"
_OLD_COLUMNS: Final = "id, ws_uri, authorization, context, connected_at, ended_at, farewell"
_SCHEMA: Final = (_TABLE, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}")


def _migration(replicated: str) -> tuple[str, ...]:
    """Return the statements that bring an older file up to date. `replicated`: the value of that column."""
    return (
        "ALTER TABLE connections RENAME TO connections_old",
        _TABLE,
        f"INSERT INTO connections SELECT {_OLD_COLUMNS}, {replicated}, NULL FROM connections_old",  # noqa: S608 - constants
        "DROP TABLE connections_old",
        f"PRAGMA user_version = {VERSION}",
    )


_MIGRATIONS: Final = {0: _SCHEMA, 1: _migration("0"), 2: _migration("0"), 3: _migration("replicated"), VERSION: ()}
"""The statements that bring a file of each version up to date. Version 0 is an empty file.

Version 1 had a column `number` for the `ce-id` of the DELETE, which no longer contains a number. Before version 3,
there was no column `replicated`: NATS has none of these entries. Before version 4, there was no column `trace`."""
_TABLES: Final = {1: _TABLE_1, 2: _TABLE_2, 3: _TABLE_3, VERSION: _TABLE}
_ALL: Final = f"SELECT {_COLUMNS} FROM connections ORDER BY connected_at"  # noqa: S608 - a constant
_PUT: Final = f"INSERT OR REPLACE INTO connections ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant


class JournalError(Exception):
    """The journal cannot be used: another process uses it, or it is another kind of file."""


class JournalInUse(JournalError):
    """Another process uses the journal `path`."""

    def __init__(self, path: Path) -> None:
        """Name the file."""
        super().__init__(f"{path}: another process uses it")
        self.path = path


def reason(error: Exception) -> str:
    """Return what went wrong, without the path of the file, which the log line names already."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


@dataclass(slots=True)
class Entry:
    """A connection in the journal.

    `ended_at`, `disconnect_body`: the time and the body of its DELETE, None if that was not sent. `is_replicated`:
    whether NATS has the entry, too (see `replicated_journal`). `trace`: from the handshake, None without one.
    Times are seconds since the epoch. Secrets are left out of the representation.
    """

    id: str
    ws_uri: str
    authorization: bytes | None = field(repr=False)
    context: str | None = field(repr=False)
    connected_at: float
    ended_at: float | None = None
    disconnect_body: bytes | None = None
    is_replicated: bool = False
    trace: TraceContext | None = None

    @property
    def node(self) -> str:
        """The start of `ws_uri`: the `WS_HOSTNAME` of the process that had the connection."""
        return self.ws_uri.removesuffix(f"/{self.id}")

    def entry(self) -> "Entry":
        """Return itself (see `journal.Remembered`)."""
        return self


class _Identity(NamedTuple):
    """Identifies a file, and has its size in bytes."""

    device: int
    inode: int
    size: int


class JournalFile:
    """The file `path`. While it is open, no other process can use it. Only its owner can read it.

    `sync_full`: wait for the disk at each commit, so that nothing is lost in a power failure.
    """

    def __init__(self, path: Path, *, sync_full: bool = False) -> None:
        """Prepare to use the file `path`; `open` opens it."""
        self._path = path
        self._sync_full = sync_full
        self._identities: dict[Path, _Identity] = {}
        self._salvaged: list[Entry] = []
        self.connection: sqlite3.Connection | None = None

    def open(self) -> list[Entry]:
        """Open or create the file; return the entries that an earlier process left in it, oldest first.

        A damaged file is renamed and replaced. Raises `JournalError` if another process uses the file, or if it is not
        a journal.
        """
        try:
            return self._connect()
        except (OSError, sqlite3.OperationalError, JournalError) as error:
            if "locked" in str(error):
                raise JournalInUse(self._path) from error
            raise JournalError(f"{self._path}: {reason(error)}") from error

    def close(self) -> None:
        """Close the file; harmless when it is not open."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def write(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Commit `statements` (SQL and its values) in one transaction.

        Raises `sqlite3.Error` if that fails, `JournalError` if the file is not open.
        """
        connection = self.connection
        if connection is None:
            raise JournalError("it is not open")
        try:
            connection.execute("BEGIN")
            for statement, values in statements:
                connection.execute(statement, values)
            connection.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def add(self, entries: Iterable[Entry]) -> None:
        """Add `entries`, in one transaction. Raises `JournalError`."""
        try:
            self.write((_PUT, _row(entry)) for entry in entries)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(f"{self._path}: {reason(error)}") from error

    # Checking and rewriting.

    def damage(self) -> str:
        """Return what happened to the file: it was removed, replaced or truncated; empty if it is intact.

        Compares inodes and sizes only. To open and close the file would release SQLite's lock on it.
        """
        if self.connection is None:
            return "it could not be rewritten"
        for path, was in self._identities.items():
            found = _identify(path)
            if found is None:
                return f"{path.name} was removed"
            if found[:2] != was[:2]:
                return f"{path.name} was replaced by another file"
            if found.size < was.size:
                return f"{path.name} was truncated"
            self._identities[path] = found
        return ""

    def rewrite(self, entries: Iterable[Entry]) -> int:
        """Write a new file with `entries` and the readable entries of the old file; return the number of entries.

        The old file is renamed. Raises `OSError`, `sqlite3.Error` or `JournalError` if that fails, or if another file
        is in its place, which is left alone.
        """
        for path in self._files():
            found, was = _identify(path), self._identities.get(path)
            if found is not None and (was is None or found[:2] != was[:2]):
                raise JournalError(f"{path.name} is another file now: move it away")
        self._abandon_old()
        rows = {entry.id: entry for entry in self._salvaged}
        for number, entry in enumerate(entries):
            rows[entry.id] = entry
            if not number % _ENTRIES_PER_TURN:
                # Let other threads take the interpreter's lock.
                time.sleep(0)
        self._create(rows.values())
        self._connect()
        self._salvaged.clear()
        return len(rows)

    def _files(self) -> tuple[Path, Path]:
        return self._path, Path(f"{self._path}-wal")

    def _abandon_old(self) -> None:
        """Read the readable entries of the old file, rename it if it is still there, and close it."""
        if self.connection is not None and "truncated" not in self.damage():
            # An unlinked file can still be read through the open descriptor.
            with suppress(sqlite3.Error, UnicodeDecodeError):
                self._salvaged = [_entry(*row) for row in self.connection.execute(_ALL)]
        if self._path in self._identities and _identify(self._path):
            logger.warning("%s: the damaged file was renamed to %s", self._path, self._rename_damaged())
        else:
            self._files()[1].unlink(missing_ok=True)
        # Close last: SQLite then removes the files beside the database, unless the database was renamed.
        self.close()
        self._identities.clear()

    def _create(self, entries: Iterable[Entry]) -> None:
        """Create the file with all of `entries` in it, or not at all. Raises `OSError` if it exists."""
        draft = self._path.with_name(f"{self._path.name}.new")
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.executemany(_PUT, map(_row, entries))
            connection.execute("COMMIT")
        _place(draft, self._path)
        self._identities = {path: found for path in (self._path,) if (found := _identify(path))}

    # Opening.

    def _connect(self) -> list[Entry]:
        if self._path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link")
        # Created here, so that nobody else can read it. A file that exists is not opened here: closing it would release
        # a lock that SQLite has on it in this process.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
        # Raises UnicodeDecodeError for invalid text, which is damage. SQLite's own decoder raises OperationalError.
        connection.text_factory = bytes.decode
        try:
            entries = self._prepare(connection)
        except (JournalError, OSError, sqlite3.OperationalError):
            connection.close()
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            # Rename before closing, which may remove the files that SQLite keeps beside the database.
            renamed = self._rename_damaged()
            connection.close()
            logger.error("%s: damaged (%s): renamed to %s; the DELETEs in it are lost", self._path, error, renamed)
            return self._connect()
        self.connection = connection
        self._identities = {path: found for path in self._files() if (found := _identify(path))}
        return entries

    def _prepare(self, connection: sqlite3.Connection) -> list[Entry]:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = self._check(connection)
        # The file contains credentials of clients. SQLite gives the files beside it the same mode.
        self._path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._sync_full else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _MIGRATIONS[version]:
            connection.execute(statement)
        connection.execute("COMMIT")
        return [_entry(*row) for row in connection.execute(_ALL)]

    def _check(self, connection: sqlite3.Connection) -> int:
        """Return the version of the file, 0 if it is empty. Changes nothing: it may belong to another application."""
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = [_words(sql) for (sql,) in connection.execute("SELECT sql FROM sqlite_master")]
        if not tables and not application:
            return 0
        if application != APPLICATION or version not in _TABLES:
            raise JournalError("it is not a journal of this version of wsaas")
        if tables != [_words(_TABLES[version])]:
            raise sqlite3.DatabaseError("its table was changed")
        return int(version)

    def _rename_damaged(self) -> Path:
        stamp = rfc3339(time.time()).replace(":", "")
        renamed = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{renamed}{suffix}")
        return renamed


_ENTRIES_PER_TURN: Final = 100
"""Entries that are built before other threads get the interpreter's lock."""


def _identify(path: Path) -> _Identity | None:
    """Return the identity of the file at `path`, None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino, found.st_size)


def _place(draft: Path, path: Path) -> None:
    """Rename `draft` to `path`, durably. Raises `OSError` if `path` exists."""
    try:
        os.link(draft, path)
    except OSError:
        # Not all file systems have hard links.
        if _identify(path) is not None:
            raise
        draft.rename(path)
    draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.id,
        entry.ws_uri,
        entry.authorization,
        entry.context,
        entry.connected_at,
        entry.ended_at,
        entry.disconnect_body,
        entry.is_replicated,
        None if entry.trace is None else entry.trace.text,
    )


def _entry(*row: Any) -> Entry:
    *values, trace = row
    entry = Entry(*values)
    entry.trace = None if trace is None else from_text(trace)
    return entry


def _words(sql: str | None) -> list[str]:
    """Return the words of a statement, to compare it whatever its white space."""
    return (sql or "").split()
