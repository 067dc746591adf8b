"""The gateway as one or several processes: with `WORKERS` above 1, a supervisor and its workers."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.support.program import Program
from tests.support.resources import proportional_memory, resident_memory
from tests.support.waiting import TIMEOUT_S


def children(pid: int) -> list[int]:
    """Return the process ids of the children of a process, none if it has ended."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of the command is in parentheses, and may contain some.
            state, parent = stat.read_text().rpartition(") ")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return found


def is_running(pid: int) -> bool:
    """Return whether a process has not ended. Nobody may have asked for its exit status yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


async def wait_for_end(pids: list[int]) -> None:
    """Wait until the workers `pids`, whose supervisor was killed, have ended."""
    deadline = asyncio.get_running_loop().time() + TIMEOUT_S
    while running := [pid for pid in pids if is_running(pid)]:
        assert asyncio.get_running_loop().time() < deadline, f"workers outlived their supervisor: {running}"
        await asyncio.sleep(0.01)


class Workers:
    """The processes of `program`. `number`: of its workers; 1 means that the program itself serves the clients."""

    def __init__(self, program: Program, number: int) -> None:
        self.number = number
        self._program = program

    @property
    def pids(self) -> list[int]:
        """The processes that serve clients. One that was killed may be missing."""
        if not self._program.is_up:
            return []
        return children(self._program.pid) if self.number > 1 else [self._program.pid]

    def kill_some(self, chance: Random) -> int:
        """Kill one worker, rarely several of them; return how many."""
        pids = self.pids
        chosen = chance.sample(pids, min(len(pids), chance.choice((1, 1, 1, 1, 1, 2, self.number))))
        for pid in chosen:
            _kill(pid)
        return len(chosen)

    def kill(self) -> None:
        """Kill all processes at once; return when they are gone."""
        pids: list[int] = []
        if self._program.is_up and self.number > 1:
            # So that it starts no other worker meanwhile.
            os.kill(self._program.pid, signal.SIGSTOP)
            pids = self.pids
        self._program.kill()
        for pid in pids:
            _kill(pid)
        for pid in pids:
            while is_running(pid):
                os.sched_yield()

    def kill_supervisor(self) -> list[int]:
        """Kill the supervisor only; return its workers, which end by themselves."""
        pids = self.pids
        self._program.kill()
        return pids

    def memory(self) -> int:
        """Return the proportional memory (PSS) of all of them in bytes."""
        return sum(map(proportional_memory, self.pids))

    def resident(self) -> int:
        """Return the resident memory of all of them in bytes. Memory that they share counts for each."""
        total = 0
        for pid in self.pids:
            with suppress(OSError, IndexError):
                total += resident_memory(pid)
        return total


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
