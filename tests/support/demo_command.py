"""`wsaas demo` as a process."""

import fcntl
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import NamedTuple

from tests.support.command import environment
from tests.support.waiting import TIMEOUT_S

PORTS_LOCK = Path(gettempdir()) / "wsaas-tests-demo-ports"
"""A file that is locked while a demo starts: two at the same time would find the same ports free."""


class RunningDemo(NamedTuple):
    """What the demo has printed when it listens, and the addresses of the two pages in it."""

    greeting: str
    page: str
    console: str


@contextmanager
def running_demo(folder: Path, *flags: str) -> Iterator[RunningDemo]:
    """Run the demo with its files in `folder`."""
    command = [sys.executable, "-m", "wsaas", "demo", *flags]
    with ExitStack() as stack:
        lock = stack.enter_context(PORTS_LOCK.open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = stack.enter_context(
            subprocess.Popen(
                command,
                env=environment(XDG_STATE_HOME=str(folder), TMPDIR=str(folder)),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        try:
            assert process.stdout
            lines = ["", process.stdout.readline()]
            while lines[-1].strip() or not lines[2:]:  # it ends with an empty line
                lines.append(process.stdout.readline())
                assert lines[-1], "".join(lines)
            fcntl.flock(lock, fcntl.LOCK_UN)
            greeting = "".join(lines)
            urls = re.findall(r"http://[^\s,]+", greeting)
            console = next((url for url in urls if url.endswith("/console")), "")
            yield RunningDemo(greeting, urls[0], console)
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
