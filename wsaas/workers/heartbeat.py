"""Finds workers that hang, and kills them.

The supervisor pings each worker that others can reach, and the worker answers from its event loop. Before, a worker may
block its loop for long, as it reads its journal: it has a limit of its own.

What counts is the number of pings without an answer, not the time. If the whole machine is suspended, the supervisor
sends no ping meanwhile, and the workers have as long as ever to answer the last one.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from wsaas.clock import NO_TIMER, Timer
from wsaas.log import logger
from wsaas.workers.worker_process import WorkerProcess
from wsaas.workers.worker_state import LISTENING, REACHABLE, STARTING

PING_INTERVAL_S: Final = 5.0
"""Seconds between two pings."""

MAX_UNANSWERED: Final = 6
"""Pings without an answer after which a worker is killed, when the next one is due."""


class Heartbeat:
    """Pings `workers` from `start` until `stop`."""

    def __init__(self, workers: Sequence[WorkerProcess], start_limit: float) -> None:
        """Ping nobody yet. `start_limit`: seconds in which others have to be able to reach a new worker."""
        self._limits = {
            STARTING: math.ceil(start_limit / PING_INTERVAL_S),
            REACHABLE: MAX_UNANSWERED,
            LISTENING: MAX_UNANSWERED,
        }
        self._timer: Timer = NO_TIMER
        self._workers = workers

    def start(self) -> None:
        """Start to ping."""
        self._timer = asyncio.get_running_loop().call_later(PING_INTERVAL_S, self._beat)

    def stop(self) -> None:
        """Stop."""
        self._timer.cancel()

    def is_answered(self) -> bool:
        """Whether a worker is within its limit. One that waits to be started counts, too."""
        return any(each.unanswered <= self._limits.get(each.state, math.inf) for each in self._workers)

    def _beat(self) -> None:
        for worker in self._workers:
            limit = self._limits.get(worker.state)
            if limit is None or worker.channel is None:
                continue
            if worker.unanswered == limit:
                logger.error("%s has not answered for %g s: it was killed", worker.name, limit * PING_INTERVAL_S)
                worker.kill()
            worker.unanswered += 1
            if worker.state is not STARTING:
                worker.channel.send({"ping": True})
        self.start()
