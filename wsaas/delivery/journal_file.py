"""The file of the journal: a SQLite database that only one process uses at a time. All of this blocks."""

import errno
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wsaas.clock import rfc3339
from wsaas.log import logger

APPLICATION = 0x57536161
VERSION = 2
_TABLE = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    ended_at REAL, farewell BLOB
) WITHOUT ROWID"""
_TABLE_1 = """CREATE TABLE connections (
    id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT, connected_at REAL NOT NULL,
    number INTEGER, ended_at REAL, farewell BLOB
) WITHOUT ROWID"""
_COLUMNS = "id, ws_uri, authorization, context, connected_at, ended_at, farewell"
_SCHEMA = (_TABLE, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}")
_FROM_1 = (
    "ALTER TABLE connections RENAME TO connections_1",
    _TABLE,
    f"INSERT INTO connections SELECT {_COLUMNS} FROM connections_1",  # noqa: S608 - a constant
    "DROP TABLE connections_1",
    f"PRAGMA user_version = {VERSION}",
)
"""Version 1 had a column `number`: that of the DELETE, whose `ce-id` has no number any more."""
_MADE = {0: _SCHEMA, 1: _FROM_1, VERSION: ()}
_TABLES = {1: _TABLE_1, VERSION: _TABLE}
_ALL = f"SELECT {_COLUMNS} FROM connections ORDER BY connected_at"  # noqa: S608 - a constant
_PUT = f"INSERT OR REPLACE INTO connections ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - a constant


class JournalError(Exception):
    """The journal cannot be used: another process has it, or it is something else."""


def reason(error: Exception) -> str:
    """Say what went wrong without the path of the file: the line in the log names it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


@dataclass(slots=True)
class Entry:
    """A connection as it is remembered; `ended_at` and `disconnect_body` are its DELETE, None if it was not sent.

    Times are seconds since the epoch. Shown, as in a traceback's line, it does not tell what is secret.
    """

    id: str
    ws_uri: str
    authorization: bytes | None = field(repr=False)
    context: str | None = field(repr=False)
    connected_at: float
    ended_at: float | None = None
    disconnect_body: bytes | None = None

    def entry(self) -> "Entry":
        """Return itself (see `journal.Remembered`)."""
        return self


class _Identity(NamedTuple):
    """Which file it was, and how large."""

    device: int
    inode: int
    size: int


class JournalFile:
    """The file `path`, which only this process may use while it is open, and only its user may read.

    `power_proof`: wait for the disk at each commit, so that nothing is lost with the power either.
    """

    def __init__(self, path: Path, *, power_proof: bool = False) -> None:
        """Open nothing yet."""
        self._path = path
        self._power_proof = power_proof
        self._identities: dict[Path, _Identity] = {}
        self._salvaged: list[Entry] = []
        self._is_open = False
        self.connection: sqlite3.Connection

    def open(self) -> list[Entry]:
        """Open the file, or make it; return what an earlier process left in it, oldest first.

        A file that is damaged is set aside. Raises `JournalError` where another process has it or it is no journal.
        """
        try:
            return self._connect()
        except (OSError, sqlite3.OperationalError, JournalError) as error:
            what = "another process uses it" if "locked" in str(error) else reason(error)
            raise JournalError(f"{self._path}: {what}") from error

    def close(self) -> None:
        """Close it; harmless when it is not open."""
        if self._is_open:
            self._is_open = False
            self.connection.close()

    def write(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Commit `statements` together. Raises `sqlite3.Error` where none of them is."""
        try:
            self.connection.execute("BEGIN")
            for statement, values in statements:
                self.connection.execute(statement, values)
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            raise

    # Whole, or mended.

    def fault(self) -> str:
        """Return why the file is not whole any more, empty if it is: somebody removed, replaced or truncated it.

        Looks at names and sizes only: opened and closed again, the file would be locked no longer.
        """
        if not self._is_open:
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

    def mend(self, entries: Iterable[Entry]) -> int:
        """Write the file anew, with `entries` and whatever of the old one can still be read; return how many.

        What is left of the old one is set aside. Raises `OSError`, `sqlite3.Error` or `JournalError` where it cannot be
        done, or where the place is taken by a file that is not ours, which is left alone.
        """
        for path in self._files():
            found, was = _identify(path), self._identities.get(path)
            if found is not None and (was is None or found[:2] != was[:2]):
                raise JournalError(f"{path.name} is another file now: move it away")
        self._let_go()
        rows = {entry.id: entry for entry in self._salvaged}
        for number, entry in enumerate(entries):
            rows[entry.id] = entry
            if not number % _TURN:
                # Others want the interpreter's lock too.
                time.sleep(0)
        self._make(rows.values())
        self._connect()
        self._salvaged.clear()
        return len(rows)

    def _files(self) -> tuple[Path, Path]:
        return self._path, Path(f"{self._path}-wal")

    def _let_go(self) -> None:
        """Read what can be read of the old file, set aside what is there of it, and close it."""
        fault = self.fault()
        if self._is_open and "truncated" not in fault:
            # Its name is gone, not its bytes.
            with suppress(sqlite3.Error, UnicodeDecodeError):
                self._salvaged = [Entry(*row) for row in self.connection.execute(_ALL)]
        if self._path in self._identities and _identify(self._path):
            logger.warning("%s: what is left of it is set aside as %s", self._path, self._set_aside())
        else:
            self._files()[1].unlink(missing_ok=True)
        # Only now: SQLite tidies up beside a file that is still where it was.
        self.close()
        self._identities.clear()

    def _make(self, entries: Iterable[Entry]) -> None:
        """Make the file with all of `entries` in it, or not at all. Raises `OSError` where there is one."""
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

    # To open it.

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
        self.connection = connection
        self._is_open = True
        self._identities = {path: found for path in self._files() if (found := _identify(path))}
        return entries

    def _prepare(self, connection: sqlite3.Connection) -> list[Entry]:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = self._check(connection)
        # SQLite gives its other files the mode of this one. It holds what clients authorize themselves with.
        self._path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._power_proof else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _MADE[version]:
            connection.execute(statement)
        connection.execute("COMMIT")
        return [Entry(*row) for row in connection.execute(_ALL)]

    def _check(self, connection: sqlite3.Connection) -> int:
        """Return the version of the file, 0 of an empty one. Changes nothing: it may be somebody else's."""
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
            raise sqlite3.DatabaseError("its table is not what it was")
        return int(version)

    def _set_aside(self) -> Path:
        stamp = rfc3339(time.time()).replace(":", "")
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        return aside


_TURN = 100
"""Entries that are made of sessions before others have their turn."""


def _identify(path: Path) -> _Identity | None:
    """Return which file is at `path`, None if there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return _Identity(found.st_dev, found.st_ino, found.st_size)


def _place(draft: Path, path: Path) -> None:
    """Give `draft` the name `path`, for good. Raises `OSError` where that is taken."""
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
    )


def _words(sql: str | None) -> list[str]:
    """Return the words of a statement: how it is laid out is no part of what it says."""
    return (sql or "").split()
