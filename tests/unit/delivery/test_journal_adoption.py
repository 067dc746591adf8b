import logging
import sqlite3
from contextlib import closing

import pytest

from tests.support.fakes import FakeClock
from wsaas.delivery.journal import SqliteJournal
from wsaas.delivery.journal_adoption import adopt, unused_journals, worker_journal
from wsaas.delivery.journal_file import Entry, JournalError, JournalFile


def entry(name):
    return Entry(name, f"node/{name}", b"Bearer x", "context", 1_700_000_000.0, 1_700_000_001.0, b'{"code":1000}')


def leave(path, *names):
    """Leave a journal with entries as a killed process does."""
    file = JournalFile(path)
    assert file.open() == []
    file.add(map(entry, names))
    file.close()


def contents(path):
    file = JournalFile(path)
    entries = file.open()
    file.close()
    return entries


@pytest.fixture
def journal(tmp_path):
    """The value of JOURNAL."""
    return tmp_path / "journal"


@pytest.fixture
def opened(journal):
    """Open journals, and close them at the end."""
    made = []

    def open_journal(number, unused):
        made.append(SqliteJournal(worker_journal(journal, number), FakeClock(), lambda *_: None))
        return made[-1].open(unused)

    yield open_journal
    for each in made:
        assert each.close()


def test_each_worker_has_a_journal_of_its_own(journal):
    assert worker_journal(journal, 3) == journal.with_name("journal.3")


@pytest.mark.parametrize(
    ("workers", "unused"),
    [(1, ["journal.1", "journal.2", "journal.10"]), (2, ["journal", "journal.10"]), (10, ["journal"])],
)
def test_a_journal_without_a_worker_is_unused(journal, workers, unused):
    others = ["journal-wal", "journal.new", "journal.01", "journal.0", "journal.1-wal", "journal.1.2", "other.3"]
    for name in ["journal", "journal.1", "journal.2", "journal.10", "journal.1000", *others]:
        (journal.parent / name).touch()
    assert [path.name for path in unused_journals(journal, workers)] == unused


def test_no_journal_is_unused_in_a_folder_that_cannot_be_read(journal):
    assert unused_journals(journal.parent / "missing" / "journal", 3) == []


def test_the_entries_of_unused_journals_are_moved(journal, opened):
    leave(journal, "a", "b")
    leave(journal.with_name("journal.5"), "c")
    leave(journal.with_name("journal.1"), "d")
    assert opened(1, unused_journals(journal, 2)) == [entry("d"), entry("a"), entry("b"), entry("c")]
    assert sorted(path.name for path in journal.parent.iterdir()) == ["journal.1", "journal.1-wal"]
    assert unused_journals(journal, 2) == []


def test_adopted_entries_survive_a_kill(journal):
    leave(journal, "a")
    killed = JournalFile(worker_journal(journal, 1))
    killed.open()
    assert adopt(killed, [journal]) == [entry("a")]
    killed.close()
    assert contents(worker_journal(journal, 1)) == [entry("a")]


def test_an_entry_that_was_adopted_before_a_kill_is_adopted_once(journal, opened):
    leave(journal, "a")
    leave(worker_journal(journal, 1), "a")
    assert {each.id for each in opened(1, [journal])} == {"a"}


def test_a_journal_in_use_or_of_another_kind_stays(journal, opened, caplog):
    leave(journal.with_name("journal.3"), "a")
    with closing(sqlite3.connect(journal.with_name("journal.4"))) as other:
        other.execute("CREATE TABLE cats (name TEXT)")
    in_use = JournalFile(journal.with_name("journal.5"))
    in_use.open()
    with caplog.at_level(logging.INFO):
        assert opened(1, unused_journals(journal, 2)) == [entry("a")]
    in_use.close()
    assert [path.name for path in unused_journals(journal, 2)] == ["journal.4", "journal.5"]
    adopted, *refused = caplog.messages
    assert adopted == f"the journal {journal}.3 has no worker: adopted 1 entry, and removed it"
    assert refused == [
        (
            f"the journal {journal}.4 has no worker, and its DELETEs cannot be sent: {journal}.4: it is not a journal "
            "of this version of wsaas"
        ),
        f"the journal {journal}.5 has no worker, and its DELETEs cannot be sent: {journal}.5: another process uses it",
    ]


def test_the_empty_journal_of_a_worker_that_drained_is_no_news(journal, opened, caplog):
    leave(worker_journal(journal, 3))
    with caplog.at_level(logging.INFO):
        assert opened(1, unused_journals(journal, 2)) == []
    assert caplog.messages == []
    assert unused_journals(journal, 2) == []


def test_nothing_is_removed_if_the_own_journal_cannot_be_written(journal, monkeypatch):
    leave(journal, "a")

    def fail(*_):
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(JournalFile, "write", fail)
    own = SqliteJournal(worker_journal(journal, 1), FakeClock(), lambda *_: None)
    with pytest.raises(JournalError, match=r"journal\.1: disk full"):
        own.open([journal])
    monkeypatch.undo()
    assert contents(journal) == [entry("a")]
    assert contents(worker_journal(journal, 1)) == []
