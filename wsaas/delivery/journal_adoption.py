"""Adopts the journals that workers left which do not run any more.

Each worker has a journal of its own: `JOURNAL` with its number behind it. When the number of workers is lower at the
next start, some of these files have no worker, and the file of a single process has none if there are several workers.
The first worker moves their entries into its own journal.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wsaas.delivery.journal_file import Entry, JournalError, JournalFile, JournalInUse
from wsaas.log import logger
from wsaas.log.wording import counted

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,2}")


def worker_journal(journal: Path, number: int) -> Path:
    """Return the path of the journal of worker `number` (from 1 on). `journal`: the value of `JOURNAL`."""
    return journal.with_name(f"{journal.name}.{number}")


def unused_journals(journal: Path, workers: int) -> list[Path]:
    """Return the journals beside `journal` (the value of `JOURNAL`) that none of `workers` processes uses."""
    found = {}
    try:
        names = [path.name for path in journal.parent.iterdir()]
    except OSError:
        # The journal itself cannot be opened, either, which is reported then.
        return []
    for name in names:
        base, _, suffix = name.rpartition(".")
        if base == journal.name and _NUMBER.fullmatch(suffix) and (workers == 1 or int(suffix) > workers):
            found[int(suffix)] = worker_journal(journal, int(suffix))
    if workers > 1 and journal.name in names:
        found[0] = journal
    return [found[number] for number in sorted(found)]


def adopt(own: JournalFile, unused: Iterable[Path], *, skips_used: bool = True) -> list[Entry]:
    """Move the entries of the journals at the paths `unused` to the open file `own`; return them.

    A file that cannot be read stays as it is, and also one that is in use, with `skips_used`; otherwise that raises
    `JournalInUse`. Raises `JournalError` if `own` cannot be written.
    """
    adopted: dict[str, Entry] = {}
    for path in unused:
        other = JournalFile(path)
        try:
            entries = other.open()
        except JournalError as error:
            if isinstance(error, JournalInUse) and not skips_used:
                raise
            logger.warning("the journal %s has no worker, and its DELETEs cannot be sent: %s", path, error)
            continue
        try:
            # If the process is killed in between, the next start adopts the same entries again.
            own.add(entries)
        finally:
            other.close()
        path.unlink(missing_ok=True)
        adopted.update((entry.id, entry) for entry in entries)
        found = counted(len(entries), "entry", "entries")
        level = logging.INFO if entries else logging.DEBUG
        logger.log(level, "the journal %s has no worker: adopted %s, and removed it", path, found)
    return [*adopted.values()]
