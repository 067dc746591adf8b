"""The suite's fuzzing client: a process whose progress is watched, because it does not always end."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.conformance.autobahn import python2
from tests.conformance.autobahn.verdict import section

CASE_TIMEOUT_S = 600.0
"""The longest time without output in seconds: the suite allows 480 for its longest case."""

EXIT_TIMEOUT_S = 3.0
"""The same after an exception, which leaves the client without further work."""


class Client:
    """One run of the suite by `command` in `folder`. `tell` is called with the current way and section."""

    def __init__(self, command: list[str], folder: Path, tell: Callable[[str], None]) -> None:
        self.cases: list[str] = []
        """The names of the cases, as the client expanded the patterns."""
        self._command = command
        self._folder = folder
        self._log = folder / "client.log"
        self._tell = tell

    async def run(self, spec: Mapping[str, object]) -> list[str]:
        """Run the client with `spec`; return the problems of the client itself."""
        path = self._folder / "spec.json"
        path.write_text(json.dumps(spec))
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--mode", "fuzzingclient", "--spec", str(path)),
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
        return [f"the client failed, made no progress, or had no case to run: see {self._log}"]

    async def _follow(self, output: asyncio.StreamReader) -> bool:
        """Log the client's output and follow its progress; return whether it finished."""
        timeout, at = CASE_TIMEOUT_S, ""
        with self._log.open("wb") as log:
            while line := await _line(output, timeout):
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
        return timeout == CASE_TIMEOUT_S and output.at_eof()


async def _line(stream: asyncio.StreamReader, timeout: float) -> bytes:
    """Return the next line, or nothing at the end or after `timeout` seconds."""
    try:
        return await asyncio.wait_for(stream.readline(), timeout)
    except asyncio.TimeoutError:
        return b""
