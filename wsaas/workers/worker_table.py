"""Which workers there are, which of them know each other, and which may listen for clients.

A join that one worker has answered must be in force for every later publish, whichever worker takes it. So a new worker
listens only when all others know it: until then, it has no client that could join a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class _Worker:
    """A worker. `since`: the first version of the table with it in it. `known`: the last version that it knows."""

    prefix: str
    since: int
    known: int = 0
    may_listen: bool = False


class WorkerTable:
    """The workers that others can reach. `version` rises with each change."""

    def __init__(self) -> None:
        """Start without workers."""
        self._workers: dict[int, _Worker] = {}
        self.version = 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over the indexes of the workers."""
        return iter(self._workers)

    def __len__(self) -> int:
        """Return the number of workers."""
        return len(self._workers)

    @property
    def peers(self) -> dict[str, int]:
        """The index of each worker by the prefix of its ids."""
        return {worker.prefix: index for index, worker in self._workers.items()}

    def add(self, index: int, prefix: str) -> None:
        """Add worker `index`, whose ids begin with `prefix`."""
        self.version += 1
        self._workers[index] = _Worker(prefix, self.version)

    def remove(self, index: int) -> bool:
        """Remove worker `index`, which has ended; return whether it was in the table."""
        if self._workers.pop(index, None) is None:
            return False
        self.version += 1
        return True

    def acknowledge(self, index: int, version: int) -> None:
        """Note that worker `index` knows this version of the table."""
        self._workers[index].known = version

    def take_ready(self) -> list[int]:
        """Return the workers that all others know by now. Each is returned once."""
        oldest = min((worker.known for worker in self._workers.values()), default=0)
        return [index for index, worker in self._workers.items() if worker.since <= oldest and self.admit(index)]

    def admit(self, index: int) -> bool:
        """Let worker `index` listen; return whether it might not before."""
        worker = self._workers.get(index)
        if worker is None or worker.may_listen:
            return False
        worker.may_listen = True
        return True
