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
    """The addresses of the two pages."""

    page: str
    console: str


@contextmanager
def running_demo(folder: Path) -> Iterator[RunningDemo]:
    """Run the demo, with its journal in `folder`."""
    command = [sys.executable, "-m", "wsaas", "demo"]
    with subprocess.Popen(
        command,
        env=environment(XDG_STATE_HOME=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout
            greeting = "".join(process.stdout.readline() for _ in range(3))
            found = re.search(r"Open (\S+) in two browser tabs, and (\S+) to look inside", greeting)
            assert found, greeting
            yield RunningDemo(found[1], found[2])
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
