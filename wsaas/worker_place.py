"""What a worker gets from its supervisor at its start."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

PLACE_VARIABLE: Final = "WSAAS_WORKER"
"""The environment variable that makes a process a worker."""


@dataclass(frozen=True, kw_only=True)
class WorkerPlace:
    """The place of one worker among `count` workers. `index`: from 0 on.

    `channel`: descriptor of the channel to the supervisor. `folder`: of the private sockets. `journal`: path of the
    worker's journal. `is_journal_kept`: whether the journal outlives the supervisor. `node`: names the node in a
    cluster, the same for all its workers. `sockets`: descriptors of sockets that listen already, by address; `kept`:
    those of them that the next supervisor gets, too.
    `counts`: descriptor of the shared counts, None without a limit to count for. `metrics`: descriptor of the rows that
    the workers share. `lock`: descriptor of the lock that
    the workers have on the folder.
    """

    index: int
    count: int
    channel: int
    folder: str
    journal: str
    is_journal_kept: bool
    node: str = ""
    counts: int | None = None
    metrics: int | None = None
    lock: int | None = None
    sockets: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kept: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The name of the worker, for people."""
        return worker_name(self.index)

    @property
    def descriptors(self) -> list[int]:
        """All descriptors that the worker inherits."""
        optional = [each for each in (self.counts, self.metrics, self.lock) if each is not None]
        shared = [each for descriptors in self.sockets.values() for each in descriptors]
        return [self.channel, *shared, *optional]

    def to_text(self) -> str:
        """Return the value of `PLACE_VARIABLE`."""
        return json.dumps(asdict(self))


def from_text(text: str) -> WorkerPlace:
    """Return the place in a value of `PLACE_VARIABLE`."""
    return WorkerPlace(**json.loads(text))


def worker_name(index: int) -> str:
    """Return the name of worker `index` (from 0 on), for people."""
    return f"worker {index + 1}"
