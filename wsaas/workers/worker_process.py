"""One worker, as the supervisor sees it: its process, its channel and its state."""

import asyncio
import signal
from asyncio.subprocess import Process

from wsaas.clock import NO_TIMER, Timer
from wsaas.worker_place import worker_name
from wsaas.workers.channel import Channel
from wsaas.workers.restart_delay import RestartDelay
from wsaas.workers.worker_state import STARTING, TRANSITIONS, WAITING, WorkerState


class WorkerProcess:
    """Worker `index` (from 0 on), which has one process after another.

    `admission`: the timer after which it listens although another worker does not know it. `channel`: None without a
    process. `status`: the exit status of its last process. `unanswered`: pings since its last answer, or intervals
    since its start.
    """

    def __init__(self, index: int) -> None:
        """Start without a process."""
        self._process: Process | None = None
        self._started_at = 0.0
        self.admission: Timer = NO_TIMER
        self.channel: Channel | None = None
        self.delay = RestartDelay()
        self.index = index
        self.state = WAITING
        self.status = 0
        self.unanswered = 0

    @property
    def name(self) -> str:
        """Its name, for people."""
        return worker_name(self.index)

    def set_state(self, state: WorkerState) -> None:
        """Make a transition."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"{self.name}: {self.state} to {state}")
        self.state = state

    def started(self, process: Process, channel: Channel) -> None:
        """Use a process that was just started, and the channel to it."""
        self._process = process
        self._started_at = asyncio.get_running_loop().time()
        self.channel = channel
        self.unanswered = 0
        self.set_state(STARTING)

    def ended(self, code: int) -> None:
        """Forget the process, which ended with `code`, or with `-code` as its signal."""
        self.admission.cancel()
        self._process = self.channel = None
        self.status = code if code >= 0 else 1

    def life(self) -> float:
        """Return for how many seconds the last process lived."""
        return asyncio.get_running_loop().time() - self._started_at

    def kill(self) -> bool:
        """Kill the process (SIGKILL) if there is one; return whether there was."""
        if self._process is None:
            return False
        self._process.kill()
        return True


def end_of(code: int) -> str:
    """Return how a process ended, for people. `code`: its exit status, or a signal as a negative number."""
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
