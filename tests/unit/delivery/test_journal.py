import asyncio
import os
import queue
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fakes import FakeClock, make_closed
from wsaas.delivery import journal, journal_file
from wsaas.delivery.journal import (
    CLOSE_TIMEOUT_S,
    MIN_BATCH_INTERVAL_S,
    RETRY_INTERVAL_S,
    Entry,
    JournalError,
    NoJournal,
    SqliteJournal,
)
from wsaas.http.trace_context import TraceContext

PATIENCE = 20.0
TRACE = TraceContext(f"00-{'a' * 32}-{'b' * 16}-01")
CLOSED_EVENT = make_closed(b'{"code":1006}', 1_700_000_005.5)


def entry(name="a", authorization=b"Bearer \xe9", connected_at=1_700_000_000.25):
    return Entry(name, f"node/{name}", authorization, None, connected_at)


class Spy:
    """A connection to SQLite that records statements, waits for the `gate`, and can be made to fail at a statement."""

    def __init__(self, connection):
        self._connection = connection
        self.statements = []
        self.gate = threading.Event()
        self.gate.set()
        self.fails_at = None
        self.reached = threading.Event()

    def execute(self, statement, values=()):
        self.reached.set()
        assert self.gate.wait(PATIENCE)
        self.statements.append(statement.split()[0])
        if self.fails_at is not None and statement.startswith(self.fails_at):
            raise sqlite3.OperationalError("the disk is full of ducks")
        return self._connection.execute(statement, values)

    def close(self):
        self._connection.close()


class Rig:
    """A journal whose event loop runs when a test says so. `told`: the name and the argument of each `done`."""

    def __init__(self, path, **options):
        self.path = path
        self.clock = FakeClock()
        self.calls: queue.SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = queue.SimpleQueue()
        self.told = []
        self.options = options
        self.journal = self.new()

    def new(self):
        return SqliteJournal(self.path, self.clock, lambda call, *args: self.calls.put((call, args)), **self.options)

    def open(self):
        return self.journal.open()

    def spy(self):
        self.journal._file.connection = Spy(self.journal._file.connection)
        return self.journal._file.connection

    def turn(self):
        """Run the loop until no write is under way, or only a later one; return the number of calls."""
        turns = 0
        while self.journal._is_writing:
            if not self.clock.timers:
                self.step()
                turns += 1
            elif self.clock.timers[0].at - self.clock.now() > 2 * MIN_BATCH_INTERVAL_S:
                break
            else:
                self.clock.advance(MIN_BATCH_INTERVAL_S)
        return turns

    def step(self):
        """Make the next call that the journal has scheduled."""
        call, args = self.calls.get(timeout=PATIENCE)
        call(*args)

    def reopen(self):
        """Close and open the journal; return its entries."""
        self.journal.close()
        self.drop_calls()
        self.journal = self.new()
        return self.open()

    def drop_calls(self):
        while not self.calls.empty():
            self.calls.get()

    def done(self, name):
        return lambda written: self.told.append((name, written))

    def opened(self, name="a", **values):
        self.journal.add(entry(name, **values), self.done(name))

    def ended(self, name="a", closed=CLOSED_EVENT):
        self.journal.set_disconnect(name, closed)

    def close(self):
        self.journal.close()


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path / "journal")
    yield rig
    rig.close()


@pytest.fixture
def opened(rig):
    assert rig.open() == []
    return rig


def names(entries):
    return [each.id for each in entries]


# Entries.


def test_a_connection_is_in_the_journal_from_add(opened):
    opened.opened()
    assert opened.told == []
    opened.turn()
    assert opened.told == [("a", True)]
    assert opened.reopen() == [Entry("a", "node/a", b"Bearer \xe9", None, 1_700_000_000.25)]


def test_a_connection_without_an_authorization_has_none(opened):
    opened.opened(authorization=None)
    opened.turn()
    assert opened.reopen()[0].authorization is None


@pytest.mark.parametrize("tracestate", ["", "vendor=1, other=2"])
def test_the_trace_is_read_back_as_it_was_written(opened, tracestate):
    entry = Entry("a", "node/a", None, None, 1.0, trace=TraceContext(TRACE.traceparent, tracestate))
    opened.journal.add(entry, opened.done("a"))
    opened.turn()
    assert opened.reopen() == [entry]


def test_the_context_and_the_delete_are_read_back_as_they_were_written(opened):
    opened.opened()
    opened.journal.set_context("a", "cart=7")
    opened.ended()
    opened.turn()
    assert opened.told == [("a", True)]
    assert opened.reopen() == [
        Entry("a", "node/a", b"Bearer \xe9", "cart=7", 1_700_000_000.25, 1_700_000_005.5, b'{"code":1006}')
    ]


def test_a_later_delete_replaces_the_one_that_was_written(opened):
    opened.opened()
    opened.ended()
    opened.ended(closed=make_closed(b'{"code":1011}', 2.0))
    opened.turn()
    (left,) = opened.reopen()
    assert (left.ended_at, left.disconnect_body) == (2.0, b'{"code":1011}')


def test_a_connection_can_be_removed(opened):
    opened.opened("a")
    opened.opened("b")
    opened.journal.remove("a")
    opened.journal.remove("never there")
    opened.turn()
    assert names(opened.reopen()) == ["b"]


def test_entries_are_returned_oldest_first(opened):
    for name, at in (("b", 2.0), ("c", 3.0), ("a", 1.0)):
        opened.opened(name, connected_at=at)
    opened.turn()
    assert names(opened.reopen()) == ["a", "b", "c"]


def test_an_entry_says_whether_it_is_replicated(opened):
    for name in "abc":
        opened.opened(name)
    opened.journal.add(Entry("d", "node/d", None, None, 1.0, is_replicated=True), opened.done("d"))
    opened.journal.set_replicated("a", True)
    opened.journal.set_replicated("b", True, opened.done("b replicated"))
    opened.journal.set_replicated("d", False)
    opened.turn()
    assert opened.told[-1] == ("b replicated", True)
    assert {each.id: each.is_replicated for each in opened.reopen()} == {"a": True, "b": True, "c": False, "d": False}


def test_an_entry_stays_until_it_is_removed(opened):
    opened.opened()
    opened.turn()
    assert names(opened.reopen()) == ["a"]
    assert names(opened.reopen()) == ["a"]
    opened.journal.remove("a")
    opened.turn()
    assert opened.reopen() == []


def test_close_writes_pending_changes(opened):
    opened.opened("a")
    opened.opened("b")
    assert names(opened.reopen()) == ["a", "b"]


def test_close_writes_changes_that_came_during_a_write(opened):
    spy = opened.spy()
    spy.gate.clear()
    opened.opened("a")
    opened.step()
    opened.opened("b")
    spy.gate.set()
    assert names(opened.reopen()) == ["a", "b"]


def test_a_journal_that_was_never_opened_may_be_closed(rig):
    rig.close()
    assert not rig.path.exists()


def test_a_journal_may_be_closed_twice(opened):
    opened.close()
    opened.close()


def test_without_a_journal_add_is_done_at_once():
    told: list[bool] = []
    none = NoJournal()
    none.add(entry(), told.append)
    none.set_context("a", "context")
    none.set_disconnect("a", CLOSED_EVENT)
    none.remove("a")
    none.set_replicated("a", True)
    none.set_replicated("a", False, told.append)
    assert told == [True, True]


def test_a_journal_works_on_a_real_loop(tmp_path):
    async def use():
        loop = asyncio.get_running_loop()
        writing = SqliteJournal(tmp_path / "journal", FakeClock(), loop.call_soon_threadsafe)
        assert writing.open() == []
        written = asyncio.Event()
        writing.add(entry(), lambda _: written.set())
        await asyncio.wait_for(written.wait(), PATIENCE)
        writing.close()

    asyncio.run(use())
    rig = Rig(tmp_path / "journal")
    assert names(rig.open()) == ["a"]
    rig.close()


# Writes share commits.


def test_changes_of_one_turn_of_the_loop_share_a_commit(opened):
    spy = opened.spy()
    for number in range(100):
        opened.opened(str(number))
    opened.turn()
    assert spy.statements == ["BEGIN", *["INSERT"] * 100, "COMMIT"]
    assert opened.told == [(str(number), True) for number in range(100)]


def test_changes_that_come_during_a_write_share_the_next_commit(opened):
    spy = opened.spy()
    spy.gate.clear()
    opened.opened("first")
    opened.step()
    assert spy.reached.wait(PATIENCE)
    for number in range(500):
        opened.opened(str(number))
        opened.journal.set_context(str(number), "x")
        opened.ended(str(number))
    assert opened.told == []
    spy.gate.set()
    opened.turn()
    assert spy.statements.count("BEGIN") == spy.statements.count("COMMIT") == 2
    assert len(opened.told) == 501
    assert len(opened.reopen()) == 501


def test_a_change_after_a_quiet_time_is_written_at_once(opened):
    for name in ("first", "later"):
        opened.clock.advance(MIN_BATCH_INTERVAL_S)
        opened.opened(name)
        assert opened.clock.timers == []
        opened.turn()
    assert opened.told == [("first", True), ("later", True)]


def test_changes_soon_after_a_commit_wait_for_more(opened):
    spy = opened.spy()
    opened.opened("first")
    opened.turn()
    spy.statements.clear()
    opened.opened("second")
    opened.clock.advance(MIN_BATCH_INTERVAL_S / 4)
    opened.ended("first")
    assert spy.statements == []
    assert [timer.at - opened.clock.now() for timer in opened.clock.timers] == [
        pytest.approx(MIN_BATCH_INTERVAL_S * 3 / 4)
    ]
    opened.turn()
    assert spy.statements == ["BEGIN", "INSERT", "UPDATE", "COMMIT"]
    assert opened.told[1:] == [("second", True)]


def test_changes_made_by_a_done_callback_are_written_next(opened):
    spy = opened.spy()
    opened.journal.add(entry(), lambda _written: opened.journal.remove("a"))
    opened.turn()
    assert spy.statements == ["BEGIN", "INSERT", "COMMIT", "BEGIN", "DELETE", "COMMIT"]
    assert opened.reopen() == []


def test_done_is_called_on_the_loop_and_only_once_it_is_committed(opened):
    spy = opened.spy()
    seen = []
    opened.journal.add(entry(), lambda _: seen.append((threading.current_thread(), spy.statements[-1])))
    opened.turn()
    assert seen == [(threading.current_thread(), "COMMIT")]


def test_an_error_in_one_done_callback_is_logged_and_the_others_are_called(opened, caplog):
    def fail(_written):
        raise RuntimeError("a fault")

    opened.journal.add(entry("a"), fail)
    opened.opened("b")
    opened.turn()
    opened.opened("c")
    opened.turn()
    assert opened.told == [("b", True), ("c", True)]
    assert caplog.messages == [f"the journal {opened.path}: an error in what waited for a write; others go on"]
    assert caplog.records[0].exc_info[1].args == ("a fault",)
    assert names(opened.reopen()) == ["a", "b", "c"]


# Writes that fail.


@pytest.mark.parametrize("at", ["BEGIN", "INSERT", "COMMIT"])
def test_a_connection_that_cannot_be_written_is_refused_and_not_retried(opened, at, caplog):
    spy = opened.spy()
    spy.fails_at = at
    opened.opened("a")
    opened.opened("b")
    opened.turn()
    assert opened.told == [("a", False), ("b", False)]
    assert caplog.messages == [f"the journal {opened.path} cannot be written: the disk is full of ducks"]
    assert caplog.records[0].levelname == "ERROR"
    assert opened.clock.timers == []
    assert not opened.journal.is_writable
    spy.fails_at = None
    opened.opened("c")
    opened.turn()
    assert opened.told[2:] == [("c", True)]
    assert opened.journal.is_writable
    assert names(opened.reopen()) == ["c"]


def test_a_journal_is_not_writable_while_the_disk_does_not_answer(opened):
    opened.clock.advance(CLOSE_TIMEOUT_S * 2)
    assert opened.journal.is_writable
    opened.opened("a")
    opened.step()
    opened.clock.advance(CLOSE_TIMEOUT_S)
    assert opened.journal.is_writable
    opened.clock.advance(0.1)
    assert not opened.journal.is_writable
    opened.turn()
    assert opened.journal.is_writable


def test_other_changes_that_cannot_be_written_are_retried_after_a_delay(opened):
    for name in "abc":
        opened.opened(name)
    opened.turn()
    opened.told.clear()
    spy = opened.spy()
    spy.fails_at = "COMMIT"
    opened.journal.set_context("a", "x")
    opened.ended("b")
    opened.journal.remove("c")
    opened.opened("d")
    opened.turn()
    assert opened.told == [("d", False)]
    (timer,) = opened.clock.timers
    assert timer.at == opened.clock.now() + RETRY_INTERVAL_S
    opened.clock.advance(RETRY_INTERVAL_S)
    opened.turn()
    assert len(opened.clock.timers) == 1
    spy.fails_at = None
    opened.clock.advance(RETRY_INTERVAL_S)
    opened.turn()
    assert opened.clock.timers == []
    # `done` is not called again.
    assert len(opened.told) == 1
    left = opened.reopen()
    assert names(left) == ["a", "b"]
    assert left[0].context == "x"
    assert left[1].disconnect_body == CLOSED_EVENT.disconnect


def test_changes_that_come_while_nothing_can_be_written_wait_for_the_next_attempt(opened):
    opened.opened("a")
    opened.turn()
    spy = opened.spy()
    spy.fails_at = "UPDATE"
    opened.ended("a", closed=make_closed(b"old", 1.0))
    opened.turn()
    opened.ended("a", closed=make_closed(b"new", 2.0))
    opened.opened("b")
    assert opened.calls.empty()
    spy.fails_at = None
    opened.clock.advance(RETRY_INTERVAL_S)
    opened.turn()
    assert opened.told[1:] == [("b", True)]
    left = opened.reopen()
    assert names(left) == ["a", "b"]
    assert left[0].disconnect_body == b"new"


def test_a_full_disk_refuses_new_connections_until_there_is_room_again(opened):
    pages = opened.journal._file.connection.execute("PRAGMA page_count").fetchone()[0]
    opened.journal._file.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    for number in range(100):
        opened.opened(str(number), authorization=b"x" * 1000)
    opened.turn()
    assert opened.told == [(str(number), False) for number in range(100)]
    opened.told.clear()
    opened.journal._file.connection.execute("PRAGMA max_page_count = 1000000").fetchone()
    opened.opened("more", authorization=b"x" * 10_000)
    opened.turn()
    assert opened.told == [("more", True)]
    assert names(opened.reopen()) == ["more"]


def test_changes_that_are_still_retried_are_written_at_close(opened):
    opened.opened("a")
    opened.turn()
    spy = opened.spy()
    spy.fails_at = "COMMIT"
    opened.journal.remove("a")
    opened.turn()
    spy.fails_at = None
    assert opened.reopen() == []


# The file.


@pytest.mark.parametrize("mode", [None, 0o644, 0o666, 0o400, 0o777])
def test_the_file_is_readable_by_its_owner_only(rig, mode):
    before = os.umask(0)
    try:
        if mode is not None:
            rig.path.touch()
            rig.path.chmod(mode)
        rig.open()
        rig.opened()
        rig.turn()
        files = sorted(each.name for each in rig.path.parent.iterdir())
        assert {each.stat().st_mode & 0o777 for each in rig.path.parent.iterdir()} == {0o600}
        assert files == ["journal", "journal-wal"]
    finally:
        os.umask(before)


def test_a_world_readable_journal_becomes_private(opened):
    opened.opened()
    opened.turn()
    opened.close()
    opened.path.chmod(0o644)
    assert names(opened.reopen()) == ["a"]
    assert opened.path.stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_is_refused_and_its_target_left_alone(rig, tmp_path):
    target = tmp_path / "target"
    for content in (None, b"precious"):
        if content is not None:
            target.write_bytes(content)
            target.chmod(0o644)
        rig.path.unlink(missing_ok=True)
        rig.path.symlink_to(target)
        with pytest.raises(JournalError, match=r"journal: .*symbolic link"):
            rig.open()
    assert target.read_bytes() == b"precious"
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("path", ["missing/journal", "file/journal", "."])
def test_a_path_that_cannot_be_written_is_an_error(tmp_path, path):
    (tmp_path / "file").touch()
    rig = Rig(tmp_path / path)
    with pytest.raises(JournalError, match=str(tmp_path)) as caught:
        rig.open()
    assert caught.value.__cause__ is not None
    rig.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_is_an_error(rig):
    rig.path.parent.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="ermission"):
            rig.open()
    finally:
        rig.path.parent.chmod(0o700)


def test_a_folder_that_refuses_a_new_file_is_an_error(rig, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(JournalError, match="Permission denied"):
        rig.open()


@pytest.mark.parametrize(("sync_full", "synchronous"), [(False, 1), (True, 2)])
def test_only_a_journal_with_full_sync_waits_for_the_disk(tmp_path, sync_full, synchronous):
    rig = Rig(tmp_path / "journal", sync_full=sync_full)
    rig.open()
    assert rig.journal._file.connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert rig.journal._file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    rig.close()


# One process at a time.

OPEN = """
import sys
from pathlib import Path
from wsaas.delivery.journal import JournalError, SqliteJournal
try:
    SqliteJournal(Path(sys.argv[1]), None, None).open()
except JournalError as error:
    print(error)
else:
    print("opened")
"""


def open_elsewhere(path):
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize("wrote", [False, True])
def test_a_second_process_on_the_same_journal_is_refused(opened, wrote):
    if wrote:
        opened.opened()
        opened.turn()
    assert open_elsewhere(opened.path) == f"{opened.path}: another process uses it"
    # The first goes on.
    opened.opened("more")
    opened.turn()
    assert opened.told[-1] == ("more", True)
    opened.close()
    assert open_elsewhere(opened.path) == "opened"


def test_a_second_journal_on_the_same_file_is_refused_and_the_lock_is_kept(opened):
    second = Rig(opened.path)
    with pytest.raises(JournalError) as caught:
        second.open()
    assert str(caught.value) == f"{opened.path}: another process uses it"
    assert open_elsewhere(opened.path) == f"{opened.path}: another process uses it"
    opened.close()
    assert second.open() == []
    second.close()


KILLED = """
import asyncio, os, sys
from pathlib import Path
from wsaas.clock import Clock
from wsaas.delivery.journal import Entry, SqliteJournal
calls = __import__("queue").SimpleQueue()
clock = Clock(asyncio.new_event_loop())
journal = SqliteJournal(Path(sys.argv[1]), clock, lambda *call: calls.put(call))
journal.open()
journal.add(Entry("a", "node/a", None, None, 1.0), lambda written: os.kill(os.getpid(), 9))
while True:
    call, *args = calls.get()
    call(*args)
"""


def test_committed_changes_survive_a_kill(rig):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(rig.path)], check=False, timeout=PATIENCE)
    assert killed.returncode == -9
    assert (rig.path.parent / "journal-wal").stat().st_size > 0
    assert names(rig.open()) == ["a"]


# Damage.


def filled(rig, count=200):
    """Return the bytes of a journal with `count` connections in it."""
    rig.open()
    for number in range(count):
        rig.opened(f"connection {number}")
    rig.turn()
    rig.close()
    rig.journal = rig.new()
    return rig.path.read_bytes()


def spoil(data, place, spoilt):
    return data[:place] + spoilt + data[place + len(spoilt) :]


DAMAGES = {
    "garbage": lambda _: b"\x00\xff nonsense " * 1000,
    "text": lambda _: b"# my notes\n",
    "a header and garbage": lambda data: data[:16] + b"\xa5" * 8176,
    "two bytes": lambda data: data[:2],
    "half a header": lambda data: data[:60],
    "half a page": lambda data: data[:2048],
    "half the file": lambda data: data[: len(data) // 2],
    "a page too few": lambda data: data[:-4096],
    "a zeroed page": lambda data: spoil(data, 4096, bytes(4096)),
    "a page of garbage": lambda data: spoil(data, 2 * 4096, b"\xa5" * 4096),
    "a broken page header": lambda data: spoil(data, 4096, b"\xff" * 12),
    "another table": lambda data: data.replace(b"CREATE TABLE connections", b"CREATE TABLE Connections", 1),
    "another column": lambda data: data.replace(b"farewell BLOB", b"farewelx BLOB", 1),
    "a table whose name is not text": lambda data: data.replace(b"TABLE connections", b"TABLE \xffonnections", 1),
    "a connection whose name is not text": lambda data: data.replace(
        b"node/connection 7", b"node/connecti\xff\xff 7", 1
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_renamed_unchanged_with_an_error(rig, damage, caplog):
    spoilt = DAMAGES[damage](filled(rig))
    rig.path.write_bytes(spoilt)
    rig.told.clear()
    assert rig.open() == []
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    (aside,) = rig.path.parent.glob("journal.damaged-*Z")
    text = record.getMessage()
    assert text.startswith(f"{rig.path}: damaged (")
    assert text.endswith(f"renamed to {aside}; the DELETEs in it are lost")
    assert aside.read_bytes() == spoilt
    # The new one works.
    rig.opened("new")
    rig.turn()
    assert rig.told == [("new", True)]
    assert names(rig.reopen()) == ["new"]
    assert len(caplog.records) == 1


def test_the_wal_of_a_damaged_file_is_renamed_with_it(rig):
    rig.path.write_bytes(b"garbage" * 1000)
    for suffix in ("-wal", "-shm"):
        rig.path.with_name(f"journal{suffix}").write_bytes(b"old" + suffix.encode())
    assert rig.open() == []
    (aside,) = rig.path.parent.glob("journal.damaged-*Z")
    for suffix in ("-wal", "-shm"):
        assert aside.with_name(f"{aside.name}{suffix}").read_bytes() == b"old" + suffix.encode()


def test_an_empty_file_is_a_new_journal(rig, caplog):
    rig.path.touch()
    assert rig.open() == []
    assert caplog.records == []


# Files of other applications.


def somebody_elses(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE songs (title TEXT)", "INSERT INTO songs VALUES ('La Mer')"],
        ["CREATE TABLE connections (id TEXT PRIMARY KEY)"],
        ["PRAGMA application_id = 42", "VACUUM"],
        [
            f"PRAGMA application_id = {journal_file.APPLICATION}",
            f"PRAGMA user_version = {journal_file.VERSION + 1}",
            "VACUUM",
        ],
        [journal_file._SCHEMA[1], *journal_file._SCHEMA[:1]],
    ],
)
def test_a_file_that_is_no_journal_of_this_version_is_refused_and_unchanged(rig, statements, caplog):
    somebody_elses(rig.path, *statements)
    rig.path.chmod(0o640)
    before = rig.path.read_bytes()
    with pytest.raises(JournalError) as caught:
        rig.open()
    assert str(caught.value) == f"{rig.path}: it is not a journal of this version of wsaas"
    assert rig.path.read_bytes() == before
    assert rig.path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in rig.path.parent.iterdir()] == ["journal"]
    assert caplog.records == []


def test_a_file_that_another_process_is_writing_is_refused(rig):
    with closing(sqlite3.connect(rig.path, isolation_level=None)) as other:
        other.execute("CREATE TABLE songs (title TEXT)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalError, match="another process uses it"):
            rig.open()


# Any order of events.


class JournalMachine(RuleBasedStateMachine):
    """Compares a journal with a dictionary, whatever fails and whenever it is opened again."""

    identifiers = st.sampled_from("abcdef")

    @initialize(sync_full=st.booleans())
    def start(self, sync_full):
        self.folder = self.make_folder()
        self.rig = Rig(self.folder / "journal", sync_full=sync_full)
        assert self.rig.open() == []
        self.written = {}
        self.pending = []
        self.expected = []
        self.count = 0

    def make_folder(self):
        raise NotImplementedError

    def lives(self, name):
        """Return whether `name` is in the journal after all writes."""
        return name in self.model()

    def model(self):
        """Return the entries of the journal after all writes."""
        model = dict(self.written)
        for change in self.pending:
            change(model)
        return model

    @rule(
        name=identifiers,
        authorization=st.none() | st.binary(max_size=10),
        at=st.floats(0, 2e9),
        trace=st.none() | st.just(TRACE) | st.just(TraceContext(TRACE.traceparent, "vendor=1")),
    )
    def a_client_comes(self, name, authorization, at, trace):
        if self.lives(name):
            return
        made = Entry(name, f"node/{name}", authorization, None, at, trace=trace)
        self.pending.append(lambda model: model.update({name: made}))
        self.expected.append(name)
        self.rig.journal.add(made, self.rig.done(name))

    @rule(name=identifiers, context=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=10))
    def it_is_admitted(self, name, context):
        if self.lives(name):
            self.change(name, context=context)
        self.rig.journal.set_context(name, context)

    @rule(name=identifiers, body=st.binary(max_size=10))
    def it_ends(self, name, body):
        if self.lives(name):
            self.change(name, ended_at=3.5, disconnect_body=body)
        self.rig.ended(name, make_closed(body, 3.5))

    @rule(name=identifiers, is_replicated=st.booleans())
    def it_is_marked(self, name, is_replicated):
        if self.lives(name):
            self.change(name, is_replicated=is_replicated)
        self.rig.journal.set_replicated(name, is_replicated)

    @rule(name=identifiers)
    def it_is_settled(self, name):
        self.pending.append(lambda model: model.pop(name, None))
        self.rig.journal.remove(name)

    def change(self, name, **values):
        def apply(model):
            old = model[name]
            model[name] = Entry(**{field: values.get(field, getattr(old, field)) for field in Entry.__slots__})

        self.pending.append(apply)

    @rule()
    def all_is_written(self):
        self.rig.turn()
        self.commit()
        assert self.rig.told == [(name, True) for name in self.expected]

    def commit(self):
        self.written = self.model()
        self.pending = []

    @precondition(lambda self: self.pending)
    @rule()
    def it_is_opened_anew(self):
        self.reopen()

    @rule()
    def the_loop_turns_once(self):
        if not self.rig.calls.empty():
            self.rig.step()

    def reopen(self):
        self.commit()
        left = self.rig.reopen()
        assert {each.id: each for each in left} == self.written
        assert [each.connected_at for each in left] == sorted(each.connected_at for each in left)
        self.rig.told.clear()
        self.expected.clear()

    @invariant()
    def whoever_is_told_is_told_in_order_and_the_truth(self):
        assert self.rig.told == [(name, True) for name in self.expected[: len(self.rig.told)]]

    def teardown(self):
        if hasattr(self, "rig"):
            self.reopen()
            self.rig.close()


@pytest.mark.hypothesis
def test_a_journal_remembers_what_a_dictionary_does(tmp_path_factory):
    class Machine(JournalMachine):
        def make_folder(self):
            return tmp_path_factory.mktemp("machine")

    Machine.TestCase.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)
    Machine.TestCase().runTest()


# Versions.


def test_a_journal_of_this_version_is_read_whatever_the_white_space_of_its_schema(rig):
    # After a change of the schema, the files of earlier versions cannot be read: that takes another VERSION.
    somebody_elses(
        rig.path,
        "CREATE TABLE connections (  id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT,"
        " connected_at REAL NOT NULL, ended_at REAL, farewell BLOB, replicated INTEGER NOT NULL,"
        " trace TEXT ) WITHOUT ROWID",
        "INSERT INTO connections (id, ws_uri, connected_at, replicated) VALUES ('a', 'node/a', 1.5, 1)",
        "PRAGMA application_id = 1465082209",
        "PRAGMA user_version = 4",
    )
    assert rig.open() == [Entry("a", "node/a", None, None, 1.5, is_replicated=True)]


TABLE_1 = (
    "CREATE TABLE connections (  id TEXT PRIMARY KEY, ws_uri TEXT NOT NULL, authorization BLOB, context TEXT,"
    " connected_at REAL NOT NULL, number INTEGER, ended_at REAL, farewell BLOB ) WITHOUT ROWID"
)
VERSION_1 = (
    TABLE_1,
    "INSERT INTO connections VALUES ('a', 'node/a', x'01', 'cart=7', 1.5, NULL, NULL, NULL)",
    "INSERT INTO connections VALUES ('b', 'node/b', NULL, NULL, 2.5, 7, 3.5, x'7b7d')",
    "PRAGMA application_id = 1465082209",
    "PRAGMA user_version = 1",
)


TABLE_2 = TABLE_1.replace("number INTEGER, ", "")
VERSION_2 = (
    TABLE_2,
    "INSERT INTO connections VALUES ('a', 'node/a', x'01', 'cart=7', 1.5, NULL, NULL)",
    "INSERT INTO connections VALUES ('b', 'node/b', NULL, NULL, 2.5, 3.5, x'7b7d')",
    "PRAGMA application_id = 1465082209",
    "PRAGMA user_version = 2",
)
TABLE_3 = TABLE_2.replace("farewell BLOB", "farewell BLOB, replicated INTEGER NOT NULL")
VERSION_3 = (
    TABLE_3,
    "INSERT INTO connections VALUES ('a', 'node/a', x'01', 'cart=7', 1.5, NULL, NULL, 1)",
    "INSERT INTO connections VALUES ('b', 'node/b', NULL, NULL, 2.5, 3.5, x'7b7d', 0)",
    "PRAGMA application_id = 1465082209",
    "PRAGMA user_version = 3",
)
OLD_VERSIONS = pytest.mark.parametrize("old", [VERSION_1, VERSION_2, VERSION_3], ids=["1", "2", "3"])


@OLD_VERSIONS
def test_a_journal_of_an_older_version_is_read_and_migrated(rig, old):
    somebody_elses(rig.path, *old)
    left = [Entry("a", "node/a", b"\x01", "cart=7", 1.5), Entry("b", "node/b", None, None, 2.5, 3.5, b"{}")]
    left[0].is_replicated = old is VERSION_3
    assert rig.open() == left
    rig.opened("c", connected_at=4.0)
    rig.turn()
    assert rig.reopen() == [*left, entry("c", connected_at=4.0)]
    (version,) = rig.journal._file.connection.execute("PRAGMA user_version").fetchone()
    assert version == journal_file.VERSION == 4


@OLD_VERSIONS
def test_a_journal_of_an_older_version_with_another_table_is_damaged(rig, caplog, old):
    somebody_elses(rig.path, *(each.replace("context TEXT", "context BLOB") for each in old))
    assert rig.open() == []
    assert "damaged (its table was changed)" in caplog.text


@pytest.mark.parametrize(("version", "old"), [(1, VERSION_1), (2, VERSION_2), (3, VERSION_3)])
def test_an_interrupted_migration_changes_nothing(rig, monkeypatch, version, old):
    somebody_elses(rig.path, *old)
    monkeypatch.setitem(
        journal_file._MIGRATIONS, version, (*journal_file._MIGRATIONS[version][:-1], "a disk that is full")
    )
    with pytest.raises(JournalError):
        rig.open()
    monkeypatch.undo()
    assert names(rig.open()) == ["a", "b"]


# A file that is removed or replaced while it is used.


class Whole(Rig):
    """A rig whose journal knows what belongs in it: the ids in `known`."""

    def __init__(self, path, **options):
        self.known = {}
        super().__init__(path, **options)

    def new(self):
        made = super().new()
        made.remembered = lambda: list(self.known.values())
        return made

    def opened(self, name="a", **values):
        self.known[name] = entry(name, **values)
        super().opened(name, **values)

    def done(self, name):
        def done(written):
            self.told.append((name, written))
            if not written:
                del self.known[name]

        return done

    def notice(self):
        """Wait until a check has found the damage, and has reported it on the loop."""
        while not self.journal._damage:
            self.step()


@pytest.fixture
def whole(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "CHECK_INTERVAL_S", 0.05)
    rig = Whole(tmp_path / "journal")
    assert rig.open() == []
    for name in "abc":
        rig.opened(name)
    rig.turn()
    rig.told.clear()
    yield rig
    rig.close()


def remove(path):
    path.unlink()


def truncate(path):
    os.truncate(path, 100)


def empty(path):
    os.truncate(path, 0)


def remove_all(path):
    for each in path.parent.iterdir():
        each.unlink()


def remove_wal(path):
    path.with_name("journal-wal").unlink()


def truncate_wal(path):
    os.truncate(path.with_name("journal-wal"), 32)


def move_away(path):
    path.rename(path.with_name("elsewhere"))


HURTS = [remove, truncate, empty, remove_all, remove_wal, truncate_wal, move_away]


@pytest.mark.parametrize("hurt", HURTS)
def test_a_damaged_file_is_detected_and_rewritten(whole, hurt, caplog):
    whole.known["b"].context = "cart=7"
    hurt(whole.path)
    whole.notice()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith(f"the journal {whole.path} is damaged: journal")
    assert record.getMessage().endswith("; new clients are refused until it is rewritten")
    whole.turn()
    assert caplog.messages[-1] == f"the journal {whole.path} was rewritten: 3 connections are in it"
    assert whole.journal._file.damage() == ""
    assert whole.path.stat().st_mode & 0o777 == 0o600
    assert open_elsewhere(whole.path) == f"{whole.path}: another process uses it"
    # The new file works like any other.
    whole.opened("d")
    whole.journal.remove("a")
    whole.turn()
    assert whole.told == [("d", True)]
    left = whole.reopen()
    assert names(left) == ["b", "c", "d"]
    assert left[0].context == "cart=7"
    assert not whole.path.with_name("journal.new").exists()


def test_entries_that_only_the_old_file_has_are_kept(whole):
    # The DELETE was given up by a session, and is one more than are kept in memory.
    del whole.known["a"]
    remove(whole.path)
    whole.notice()
    whole.turn()
    assert names(whole.reopen()) == ["a", "b", "c"]


def test_a_truncated_file_is_renamed(whole, caplog):
    truncate(whole.path)
    whole.notice()
    whole.turn()
    (aside,) = whole.path.parent.glob("journal.damaged-*Z")
    assert aside.stat().st_size == 100
    assert f"{whole.path}: the damaged file was renamed to {aside}" in caplog.messages


def test_a_client_is_admitted_again_once_a_missing_file_is_rewritten(whole):
    remove(whole.path)
    whole.journal._next_inspection = 0.0
    whole.opened("d")
    whole.turn()
    # The first check found that it was removed, and the pending addition was refused.
    assert whole.told == [("d", False)]
    whole.opened("e")
    whole.turn()
    assert whole.told[1:] == [("e", True)]
    assert names(whole.reopen()) == ["a", "b", "c", "e"]


OTHERS = {
    "a file": lambda path: path.write_bytes(b"precious"),
    "an empty file": lambda path: path.touch(),
    "a folder": lambda path: path.mkdir(),
    "a symbolic link": lambda path: path.symlink_to("/nowhere"),
    "a copy": lambda path: path.write_bytes(path.with_name("copy").read_bytes()),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_foreign_file_is_left_alone_and_clients_are_refused_until_it_is_moved(whole, other, caplog):
    whole.path.with_name("copy").write_bytes(whole.path.read_bytes())
    whole.path.unlink()
    OTHERS[other](whole.path)
    before = whole.path.lstat()
    whole.notice()
    whole.turn()
    for _ in range(3):
        whole.clock.advance(RETRY_INTERVAL_S)
        whole.turn()
    first, second = caplog.messages
    assert first.endswith(
        " is damaged: journal was replaced by another file; new clients are refused until it is rewritten"
    )
    assert second.endswith(" cannot be rewritten: journal is another file now: move it away; trying again every second")
    whole.opened("d")
    whole.journal.remove("a")
    whole.known.pop("a")
    whole.clock.advance(RETRY_INTERVAL_S)
    whole.turn()
    assert whole.told == [("d", False)]
    assert whole.path.lstat() == before
    whole.path.rename(whole.path.with_name("away"))
    whole.clock.advance(RETRY_INTERVAL_S)
    whole.turn()
    assert "was rewritten" in caplog.messages[-1]
    assert names(whole.reopen()) == ["b", "c"]


def test_a_journal_that_another_gateway_put_in_its_place_is_left_alone(whole):
    remove_all(whole.path)
    other = Rig(whole.path)
    other.open()
    other.opened("theirs")
    other.turn()
    whole.notice()
    whole.turn()
    whole.journal.close()
    other.opened("more")
    other.turn()
    assert names(other.reopen()) == ["more", "theirs"]
    other.close()


def test_a_rewrite_that_fails_is_retried_with_all_entries(whole, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    del whole.known["a"]
    remove(whole.path)
    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(Path, "rename", full)
    whole.notice()
    whole.turn()
    assert "cannot be rewritten: No space left on device" in caplog.messages[-1]
    monkeypatch.undo()
    whole.clock.advance(RETRY_INTERVAL_S)
    whole.turn()
    assert names(whole.reopen()) == ["a", "b", "c"]


def test_a_rewritten_file_that_cannot_be_opened_is_written_again(whole, monkeypatch, caplog):
    def fail(*_):
        raise sqlite3.OperationalError("the disk is full of ducks")

    remove(whole.path)
    monkeypatch.setattr(journal_file.JournalFile, "_prepare", fail)
    whole.notice()
    whole.turn()
    assert "cannot be rewritten: the disk is full of ducks" in caplog.messages[-1]
    monkeypatch.undo()
    whole.clock.advance(RETRY_INTERVAL_S)
    whole.turn()
    assert "was rewritten" in caplog.messages[-1]
    assert names(whole.reopen()) == ["a", "b", "c"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_hard_links_is_supported(whole, monkeypatch, taken):
    def no_links(_draft, path):
        if taken:
            path.touch()
        raise OSError(1, "Operation not permitted")

    remove(whole.path)
    monkeypatch.setattr(os, "link", no_links)
    whole.notice()
    whole.turn()
    assert bool(whole.journal._damage) == taken
    if taken:
        whole.path.unlink()
        monkeypatch.undo()
        whole.clock.advance(RETRY_INTERVAL_S)
        whole.turn()
    assert names(whole.reopen()) == ["a", "b", "c"]


def test_a_write_that_fails_right_after_a_rewrite_leaves_no_refused_client_in_the_file(whole, monkeypatch):
    remove(whole.path)
    whole.notice()
    whole.opened("d")
    real = journal_file.JournalFile.write
    fails = iter([True])

    def write(self, statements):
        if next(fails, False):
            raise sqlite3.OperationalError("the disk is full of ducks")
        real(self, statements)

    monkeypatch.setattr(journal_file.JournalFile, "write", write)
    whole.turn()
    assert whole.told == [("d", False)]
    whole.clock.advance(RETRY_INTERVAL_S)
    whole.turn()
    assert names(whole.reopen()) == ["a", "b", "c"]


def test_the_file_is_not_checked_at_each_write(whole, monkeypatch):
    looks = []
    real = journal_file.JournalFile.damage

    def look(file):
        looks.append(1)
        return real(file)

    monkeypatch.setattr(journal_file.JournalFile, "damage", look)
    monkeypatch.setattr(journal, "CHECK_INTERVAL_S", 1000.0)
    for name in "defghijklm":
        whole.opened(name)
        whole.turn()
    assert len(looks) <= 2


def test_a_file_that_is_not_open_cannot_be_written(tmp_path):
    file = journal_file.JournalFile(tmp_path / "journal")
    with pytest.raises(JournalError):
        file.write([])
    file.open()
    file.close()
    file.close()
    with pytest.raises(JournalError):
        file.write([])


# A stop.


def test_close_returns_whether_the_file_is_complete(opened):
    opened.opened("a")
    assert opened.journal.close()
    assert opened.journal.close()


def test_close_rewrites_a_damaged_file_if_possible(whole):
    remove(whole.path)
    whole.journal.remove("a")
    assert whole.journal.close([entry("b"), entry("c")])
    assert names(Rig(whole.path).open()) == ["b", "c"]


def test_close_counts_the_changes_that_could_not_be_written(whole, caplog):
    whole.path.unlink()
    whole.path.touch()
    whole.journal.remove("a")
    whole.journal.remove("b")
    assert not whole.journal.close(list(whole.known.values()))
    assert caplog.records[-1].levelname == "ERROR"
    assert caplog.messages[-1].startswith(
        f"the journal {whole.path} is incomplete: journal is another file now: move it away; 2 changes are not written"
    )


@pytest.mark.parametrize("is_reported", [True, False])
def test_close_retries_changes_that_failed_before(opened, is_reported):
    opened.opened("a")
    opened.turn()
    spy = opened.spy()
    spy.fails_at = "DELETE"
    opened.journal.remove("a")
    if is_reported:
        opened.turn()
    else:
        opened.clock.advance(MIN_BATCH_INTERVAL_S)
        deadline = time.monotonic() + PATIENCE
        while "ROLLBACK" not in spy.statements:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    spy.fails_at = None
    assert opened.reopen() == []


def test_close_waits_for_the_disk_only_for_a_limited_time(opened, monkeypatch, caplog):
    monkeypatch.setattr(journal, "CLOSE_TIMEOUT_S", 0.05)
    spy = opened.spy()
    spy.gate.clear()
    opened.opened("a")
    assert not opened.journal.close()
    assert "the disk does not answer; 1 change is not written" in caplog.text
    spy.gate.set()
    opened.journal._writer_thread.join(PATIENCE)


def test_after_close_nothing_is_scheduled_on_the_loop(opened):
    spy = opened.spy()
    spy.fails_at = "COMMIT"
    opened.opened("a")
    opened.journal.remove("b")
    opened.turn()
    opened.journal.close()
    opened.journal.remove("b")
    while not opened.calls.empty():
        opened.step()
    opened.journal._hand_over()
    assert opened.clock.timers == []


def test_the_file_is_checked_often_enough_to_detect_damage_within_a_second():
    assert journal.CHECK_INTERVAL_S <= 0.5
