"""Finds workers that hang, and kills them.

The supervisor pings each worker that others can reach, and the worker answers from its event loop. Before, a worker may
block its loop for long, as it reads its journal.

What counts is the number of pings without an answer, not the time. If the whole machine is suspended, the supervisor
sends no ping meanwhile, and the workers have as long as ever to answer the last one.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from wsaas.clock import NO_TIMER, Timer
from wsaas.log import logger
from wsaas.workers.worker_process import WorkerProcess
from wsaas.workers.worker_state import LISTENING, REACHABLE

PING_INTERVAL_S: Final = 5.0
"""Seconds between two pings."""

MAX_UNANSWERED: Final = 6
"""Pings without an answer after which a worker is killed, when the next one is due."""


class Heartbeat:
    """Pings `workers` from `start` until `stop`."""

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        """Ping nobody yet."""
        self._timer: Timer = NO_TIMER
        self._workers = workers

    def start(self) -> None:
        """Start to ping."""
        self._timer = asyncio.get_running_loop().call_later(PING_INTERVAL_S, self._beat)

    def stop(self) -> None:
        """Stop."""
        self._timer.cancel()

    def _beat(self) -> None:
        for worker in self._workers:
            if worker.channel is None or worker.state not in (REACHABLE, LISTENING):
                continue
            if worker.unanswered == MAX_UNANSWERED:
                logger.error(
                    "%s has not answered for %g s: it was killed", worker.name, MAX_UNANSWERED * PING_INTERVAL_S
                )
                worker.kill()
            worker.unanswered += 1
            worker.channel.send({"ping": True})
        self.start()
