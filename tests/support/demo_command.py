"""`wsaas demo` as a process."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.command import environment
from tests.support.waiting import TIMEOUT_S


class RunningDemo(NamedTuple):
    """What the demo has printed when it listens, and the addresses of the two pages in it."""

    greeting: str
    page: str
    console: str


@contextmanager
def running_demo(folder: Path, *flags: str) -> Iterator[RunningDemo]:
    """Run the demo with its files in `folder`."""
    command = [sys.executable, "-m", "wsaas", "demo", *flags]
    with subprocess.Popen(
        command,
        env=environment(XDG_STATE_HOME=str(folder), TMPDIR=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            lines = ["", process.stdout.readline()]
            while lines[-1].strip() or not lines[2:]:  # it ends with an empty line
                lines.append(process.stdout.readline())
                assert lines[-1], "".join(lines)
            greeting = "".join(lines)
            urls = re.findall(r"http://[^\s,]+", greeting)
            console = next((url for url in urls if url.endswith("/console")), "")
            yield RunningDemo(greeting, urls[0], console)
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
