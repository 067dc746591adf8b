"""The command of a backend, in another process, with everything that it starts."""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, cast

STOP_TIMEOUT_S: Final = 5.0
"""Seconds between SIGTERM and SIGKILL."""

READ_SIZE: Final = 1 << 12
"""Maximum bytes of output that are passed on at once, or as many lines."""

WRITE_POLL_S: Final = 0.01
"""Seconds between two looks whether more output can be written."""

MAX_LINE: Final = 1 << 16
"""Bytes of a line of output. A longer one becomes several."""

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
"""Exit statuses of a shell for a command that cannot be started."""


class BackendProcess:
    """Runs the command in a session of its own: a Ctrl-C does not reach it, so it outlives the gateway."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        write: Callable[[str], None],
        is_congested: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run `command`; pass each line of its output to `write`, and read no more while that `is_congested`."""
        self._command = command
        self._environment = environment
        self._is_congested = is_congested
        self._is_killed = False
        self._write = write
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it. Raises `OSError`."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=self._environment, start_new_session=True
        )
        self._reader = asyncio.ensure_future(self._read(cast(asyncio.StreamReader, self._process.stdout)))

    async def wait(self) -> int:
        """Return its exit status when it has ended, as a shell reports it: 128 and the number for a signal.

        Call `start` before.
        """
        status = await cast(Process, self._process).wait()
        return status if status >= 0 else 128 - status

    async def stop(self) -> None:
        """End it, and what it has started: by SIGTERM, and by SIGKILL after `STOP_TIMEOUT_S`."""
        process, reader = self._process, self._reader
        if process is None or reader is None:
            return
        _signal(process.pid, signal.SIGTERM)
        # The end of the output shows that everything has ended that did not redirect its own.
        ended = asyncio.ensure_future(process.wait())
        _, late = await asyncio.wait((ended, reader), timeout=STOP_TIMEOUT_S)
        if late and not (ended.done() and self._is_congested()):
            self._write(f"still runs {STOP_TIMEOUT_S:g} s after SIGTERM: killed")
        _signal(process.pid, signal.SIGKILL)
        await ended
        _, late = await asyncio.wait((reader,), timeout=STOP_TIMEOUT_S)
        if late and not self._is_congested():
            self._write("it has started a process in another process group, which may still run")
        reader.cancel()

    def kill(self) -> None:
        """End it at once, with what it has started; call `stop` then. Output that cannot be written soon is lost."""
        self._is_killed = True
        if self._process is not None:
            _signal(self._process.pid, signal.SIGKILL)

    async def _read(self, output: asyncio.StreamReader) -> None:
        """Pass on the lines until the end of the output."""
        rest = b""
        while data := await output.read(READ_SIZE):
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._write(line.decode("utf-8", "replace").removesuffix("\r"))
            # A terminal makes those wait, too, who write faster than it shows.
            while self._is_congested() and not self._is_killed:  # noqa: ASYNC110 - another thread writes
                await asyncio.sleep(WRITE_POLL_S)
        if rest:
            self._write(rest.decode("utf-8", "replace"))


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
