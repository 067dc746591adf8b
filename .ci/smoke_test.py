#!/usr/bin/env python3
"""Check an installed wheel: `smoke_test.py compiled` runs `wsaas --version` and the demo, and sends it a message."""

import signal
import subprocess
import sys
import time
from importlib.metadata import version
from urllib.request import urlopen

from websockets.sync.client import connect

PATIENCE_S = 30
READY = "http://localhost:8080/readyz"
ECHO = "ws://localhost:8080/echo"


def wait_until_ready() -> None:
    """Return when the gateway of the demo is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(READY, timeout=PATIENCE_S):
                return
        except OSError:  # noqa: PERF203 - it waits anyway
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main(build: str) -> None:
    """Fail unless the gateway is of this `build`, and answers a message."""
    done = subprocess.run(["wsaas", "--version"], capture_output=True, text=True, check=True)  # noqa: S607 - the installed one
    expected = f"wsaas {version('wsaas')} ({build})"
    if done.stdout.strip() != expected:
        raise SystemExit(f"`wsaas --version` printed {done.stdout!r}, expected {expected!r}")
    with subprocess.Popen(["wsaas", "demo"]) as demo:  # noqa: S607 - as above
        try:
            wait_until_ready()
            with connect(ECHO) as client:
                client.send("hello")
                if client.recv(timeout=PATIENCE_S) != "hello":
                    raise SystemExit("the demo did not send the message back")
        finally:
            demo.send_signal(signal.SIGTERM)
    print(expected)


if __name__ == "__main__":
    main(sys.argv[1])
