"""Makes networks for tests with the command `ip`, or skips the test where that is not possible."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest


class Network(Protocol):
    """A network that commands make."""

    def open(self) -> None:
        """Make the network."""

    def close(self) -> None:
        """Remove the network, or what is there of it."""


def run(command: str) -> None:
    """Run a command without a shell. Raises `CalledProcessError`."""
    subprocess.run(command.split(), check=True, capture_output=True)


@contextmanager
def made(network: Network) -> Iterator[None]:
    """Have `network` within the block."""
    if sys.platform != "linux" or os.geteuid() or shutil.which("ip") is None:
        pytest.skip("needs network namespaces: Linux, root, and the command ip")
    try:
        network.open()
    except subprocess.CalledProcessError as error:
        network.close()
        pytest.skip(f"needs the permission to make a network namespace: {error.stderr.decode()}")
    try:
        yield
    finally:
        network.close()
