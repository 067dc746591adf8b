"""Builds and runs the load generator, which is written in C; its README says what it does."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SOURCES = sorted(FOLDER.glob("*.c"))
HEADERS = sorted(FOLDER.glob("*.h"))
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wsaas-benchmarks"
NO_COMPILER = "the load generator is written in C, and no C compiler is installed: apt-get install gcc libc6-dev"


class NoCompilerError(Exception):
    """No C compiler is installed."""


class LoadError(Exception):
    """The load generator ended; it printed the reason on stderr."""


@cache
def build() -> Path:
    """Return the path of the compiled load generator. It is compiled once for each version of its source.

    Raises `NoCompilerError`.
    """
    source = b"".join(path.read_bytes() for path in (*HEADERS, *SOURCES)) + " ".join(FLAGS).encode()
    program = CACHE / f"load-generator-{hashlib.sha256(source).hexdigest()[:16]}"
    if program.exists():
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompilerError(NO_COMPILER)
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, *FLAGS, "-o", str(unfinished), *map(str, SOURCES), "-lm"], check=True)
    unfinished.replace(program)
    return program


class LoadGenerator:
    """A running load generator, which plays the backend from its start on."""

    def __init__(self, settings: Sequence[str]) -> None:
        """Start it with `settings`, its arguments; it listens as the backend when this returns."""
        command = [str(build()), *settings]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read_answer()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def open(self, number: int) -> dict[str, Any]:
        """Open clients until there are `number`; return its answer. Raises `LoadError` if that fails."""
        return self._command(f"open {number}")

    def run(self, case: str, **options: float) -> dict[str, Any]:
        """Do one run; return its answer. Raises `LoadError` if that fails."""
        return self._command(" ".join([f"run case={case}", *(f"{name}={value}" for name, value in options.items())]))

    def _command(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101 - the process has a pipe
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read_answer()

    def _read_answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - the process has a pipe
        line = self._process.stdout.readline()
        if not line:
            raise LoadError("the load generator ended before the run was done; its reason is above")
        answer: dict[str, Any] = json.loads(line)
        return answer
