"""Programs in processes of their own, that can be killed and started again."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

PATIENCE = 20.0
"""Seconds for a start or an end: far more than it takes on a busy machine."""

PORTS = range(15_000, 30_000)
"""Below those that outgoing connections get: a client that knocks while nobody listens must not take the port."""


def quiet_port() -> int:
    """Return a port on which nobody listens, and that nobody is given by chance while its owner is dead."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports are taken")


class Program:
    """Something to run, over and over, with what it says in the file `log`. It listens once it says `listening`."""

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
        """Return all that it wrote, in each of its lives."""
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
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while "listening" not in self.said()[before:]:
            assert self.is_up, f"it did not start: {self.said()[before:]}"
            assert asyncio.get_running_loop().time() < deadline, f"it does not listen: {self.said()[before:]}"
            await asyncio.sleep(0.005)

    def kill(self) -> None:
        """End it without a warning; return when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)

    def ask_to_stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Return its exit status when it has ended by itself."""
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (status := self._process.poll()) is None:
            assert asyncio.get_running_loop().time() < deadline, "it does not end"
            await asyncio.sleep(0.005)
        return status

    def memory(self) -> int:
        """Return the bytes of memory that are its own: its proportional set size."""
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no Pss in smaps_rollup")

    def resident(self) -> int:
        """Return the bytes of memory that it has resident, 0 when it is not there. This does not hold it up."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def knows(flag: str) -> bool:
    """Return whether the gateway has a setting of this flag."""
    helped = subprocess.run([sys.executable, "-m", "wsaas", "--help"], capture_output=True, text=True, check=True)
    return flag in helped.stdout.split()


def gateway(api_uri: str, port: int, log: Path, **settings: object) -> Program:
    """Return a gateway on `port`, as a user starts it, which is not running yet."""
    given = {name.upper(): str(value) for name, value in settings.items()}
    scheme = "https://" if "tls_cert" in settings else ""
    environment = {"API_URI": api_uri, "WS_HOSTNAME": f"{scheme}127.0.0.1:{port}", **given}
    return Program([sys.executable, "-m", "wsaas"], log, environment)
