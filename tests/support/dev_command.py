"""`wsaas dev` as a process, with a backend that fails now and then."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import failing_echo
from tests.support.command import environment
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S


@contextmanager
def running_dev() -> Iterator[str]:
    """Run a gateway with the backend `failing_echo`; yield the URL of its console."""
    settings = {"WS_HOSTNAME": f"localhost:{free_port()}", "PORT": str(free_port()), "ACCESS_LOG": "off"}
    command = [sys.executable, "-m", "wsaas", "dev", "--no-check", "--", sys.executable, failing_echo.__file__]
    with subprocess.Popen(
        command, env=environment(**settings), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, "wsaas dev has ended"
                found = re.search(r"console\s+(\S+)", line)
            yield found[1]
        finally:
            process.terminate()
            process.wait(TIMEOUT_S)
