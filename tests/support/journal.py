"""Writes and reads journals on disk."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wsaas.clock import Clock
from wsaas.delivery.journal import Entry, SqliteJournal
from wsaas.events import Closed


@contextmanager
def opened_journal(path: Path) -> Iterator[tuple[SqliteJournal, list[Entry]]]:
    """Open the journal at `path`; yield it and its entries."""
    loop = asyncio.new_event_loop()
    journal = SqliteJournal(path, Clock(loop), loop.call_soon_threadsafe)
    entries = journal.open()
    try:
        yield journal, entries
    finally:
        journal.close()
        loop.close()


def read_journal(path: Path) -> list[Entry]:
    """Return the entries of a journal that no process has open."""
    with opened_journal(path) as (_, entries):
        return entries


def write_journal(path: Path, *entries: Entry) -> None:
    """Write a journal with `entries`, as a killed gateway leaves it."""
    with opened_journal(path) as (journal, _):
        for entry in entries:
            journal.add(entry, lambda _: None)
            if entry.context is not None:
                journal.set_context(entry.id, entry.context)
            if entry.disconnect_body is not None and entry.ended_at is not None:
                journal.set_disconnect(entry.id, Closed(entry.ended_at, disconnect=entry.disconnect_body))
