"""A process of the demo: its output, line by line, and its end.

Not `subprocess`: the demo blocks signals, and only `os.posix_spawn` can start a process that does not inherit this.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

Notify = Callable[[str, int], None]
"""Called with "started" or "ended", and the pid of a process."""


class ChildProcess:
    """A process that was just started. It is a child until `status` is set, so that its `pid` is no other process.

    `status`: its exit status, or a signal as a negative number; None while it runs.
    """

    def __init__(self, command: Sequence[str], on_line: Callable[[str], None], notify: Notify) -> None:
        """Start it. A thread calls `on_line` with each line of its output."""
        self.status: int | None = None
        self._lock = threading.Lock()
        self._notify, self._on_line = notify, on_line
        reading, writing = os.pipe()
        try:
            self.pid = os.posix_spawn(
                command[0],
                list(command),
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writing, 1),
                    (os.POSIX_SPAWN_DUP2, writing, 2),
                ],
                setsigmask=(),
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        notify("started", self.pid)
        self._thread = threading.Thread(target=self._watch, args=(reading,), name=f"process {self.pid}", daemon=True)
        self._thread.start()

    def send_signal(self, number: int) -> bool:
        """Send a signal if the process runs; return whether it does."""
        with self._lock:
            if self.status is None:
                os.kill(self.pid, number)
            return self.status is None

    def wait(self, timeout: float) -> bool:
        """Wait for the end; return whether it came within `timeout` seconds."""
        self._thread.join(timeout)
        return self.status is not None

    def end(self, timeout: float) -> None:
        """Wait for the end, and kill the process after `timeout` seconds."""
        if not self.wait(timeout):
            self.send_signal(signal.SIGKILL)
            self._thread.join()

    def _watch(self, reading: int) -> None:
        with open(reading, encoding="utf-8", errors="replace") as output:
            for line in output:
                self._on_line(line)
        # The output ends with the process, as nothing else writes to it. It stays a zombie until it is waited for, and
        # nobody sends it a signal meanwhile.
        with self._lock:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._notify("ended", self.pid)


def print_with(label: str) -> Callable[[str], None]:
    """Return a function that prints a line after `label` on stderr."""
    return partial(_print_line, label)


def _print_line(label: str, line: str) -> None:
    # When the terminal is gone, the output has to be read nevertheless.
    with suppress(OSError):
        sys.stderr.write(f"{label}{line}")
        sys.stderr.flush()
