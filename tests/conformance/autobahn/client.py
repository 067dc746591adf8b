"""The suite's fuzzing client: a process that is told what to do by a file, and watched, as it does not always end."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conformance.autobahn import python2
from tests.conformance.autobahn.verdict import section

CASE_TIMEOUT_S = 600.0
"""Seconds without a word from the client: the suite gives its longest case 480."""

EXIT_TIMEOUT_S = 3.0
"""The same once it told of an exception, which leaves it with nothing to do."""


class Client:
    """One run of the suite. `command`: what to start; `folder`: where it works; `tell`: called with what it is at."""

    def __init__(self, command: list[str], folder: Path, tell: Callable[[str], None]) -> None:
        self.cases: list[str] = []
        """The names of the cases that are run, as the client read the patterns."""
        self._command = command
        self._folder = folder
        self._log = folder / "client.log"
        self._tell = tell

    async def run(self, spec: Mapping[str, object]) -> list[str]:
        """Do what `spec` says; return what is wrong with the client itself."""
        told = self._folder / "spec.json"
        told.write_text(json.dumps(spec))
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--mode", "fuzzingclient", "--spec", str(told)),
            cwd=self._folder,
            env={**python2.environment(), "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        try:
            if await self._follow(process.stdout) and await process.wait() == 0:
                return []
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
        return [f"the client failed, or fell silent, or had nothing to do: see {self._log}"]

    async def _follow(self, said: asyncio.StreamReader) -> bool:
        """Write down what the client says. Return whether it came to its end."""
        timeout, at = CASE_TIMEOUT_S, ""
        with self._log.open("wb") as log:
            while line := await _line(said, timeout):
                log.write(line)
                text = line.decode("utf-8", "replace")
                if text.startswith("Cases = "):
                    self.cases = re.findall(r"\d+(?:\.\d+)+", text)
                elif begun := re.match(r"Running test case ID (\S+) for agent (\S+)", text):
                    before, at = at, f"{begun[2]}: section {section(begun[1])}"
                    if at != before:
                        self._tell(at)
                if text.startswith(("Traceback", "Cases = []")):
                    timeout = EXIT_TIMEOUT_S
        return timeout == CASE_TIMEOUT_S and said.at_eof()


async def _line(stream: asyncio.StreamReader, timeout: float) -> bytes:
    """Return the next line; nothing at the end, or when none came for `timeout` seconds."""
    try:
        return await asyncio.wait_for(stream.readline(), timeout)
    except asyncio.TimeoutError:
        return b""
