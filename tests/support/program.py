"""Programs in other processes, which can be killed and started again."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.resources import proportional_memory, resident_memory
from tests.support.waiting import TIMEOUT_S


class Program:
    """A command that can be run repeatedly. Its output goes to the file `log`, with `listening` once it listens."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str]) -> None:
        self.log = log
        self.runs = 0
        self._command = command
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """Return the output of all runs."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def spawn(self, *arguments: str) -> None:
        """Start it and do not wait."""
        assert not self.is_up
        self.runs += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    async def start(self, *arguments: str) -> None:
        """Start it; return once it listens."""
        before = len(self.said())
        self.spawn(*arguments)
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while "listening" not in self.said()[before:]:
            assert self.is_up, f"it did not start: {self.said()[before:]}"
            assert asyncio.get_running_loop().time() < deadline, f"it does not listen: {self.said()[before:]}"
            await asyncio.sleep(0.005)

    def kill(self) -> None:
        """Kill it (SIGKILL); return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT_S)

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM)."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def wait(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while (status := self._process.poll()) is None:
            assert asyncio.get_running_loop().time() < deadline, "it does not end"
            await asyncio.sleep(0.005)
        return status

    def memory(self) -> int:
        """Return its proportional memory (PSS) in bytes."""
        return proportional_memory(self.pid)

    def resident(self) -> int:
        """Return its resident memory in bytes, 0 if it does not run. This does not pause it."""
        try:
            return resident_memory(self.pid)
        except (OSError, IndexError):
            return 0


def has_flag(flag: str) -> bool:
    """Return whether the gateway has this flag."""
    helped = subprocess.run([sys.executable, "-m", "wsaas", "--help"], capture_output=True, text=True, check=True)
    return flag in helped.stdout.split()


def gateway_program(
    api_uri: str,
    port: int,
    log: Path,
    settings: Mapping[str, object],
    *,
    prefix: Sequence[str] = (),
    descriptors: int = 0,
) -> Program:
    """Return a gateway on `port`, started as a user does. It is not running yet.

    `prefix`: of the command, such as `sudo`. `descriptors`: the limit of its open files.
    """
    values = {name.upper(): str(value) for name, value in settings.items()}
    scheme = "https://" if "tls_cert" in settings else ""
    command = [*prefix, sys.executable, "-m", "wsaas"]
    if descriptors:
        command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
    return Program(command, log, {"API_URI": api_uri, "WS_HOSTNAME": f"{scheme}127.0.0.1:{port}", **values})
