"""Builds, starts and speaks to the load generator, `load.c`."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("load.c")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wsaas-benchmarks"


class NoCompilerError(Exception):
    """There is no C compiler."""


class LoadError(Exception):
    """The load generator gave up; it said why on standard error."""


def build() -> Path:
    """Return the compiled load generator; compile it if that was not done yet."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    program = CACHE / f"load-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"
    if program.exists():
        return program
    if compiler is None:
        raise NoCompilerError("the load generator is written in C and there is no cc: apt-get install gcc libc6-dev")
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = program.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, "-O2", "-o", str(fresh), str(SOURCE), "-lm"], check=True)
    fresh.replace(program)
    return program


class Load:
    """A load generator. It is the backend from its start on; `settings` are those of `load.c`."""

    def __init__(self, settings: Sequence[str]) -> None:
        """Start it; it listens when this returns."""
        command = [str(build()), *settings]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load generator gave up")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _command(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer()

    def open(self, number: int) -> dict[str, Any]:
        """Open clients until there are `number`; return as `load.c` prints it."""
        return self._command(f"open {number}")

    def run(self, case: str, **options: float) -> dict[str, Any]:
        """Do one run; return as `load.c` prints it."""
        return self._command(" ".join([f"run case={case}", *(f"{name}={value}" for name, value in options.items())]))
