"""Ports to listen on."""

import os
import random
import socket

_PARTS = 8
_PART = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
PORTS = range(15_000 + _PART, 30_000, _PARTS)
"""Below the ports that the kernel gives to outgoing connections, which may take any port without a listener.

Each process of pytest-xdist has its own part of them.
"""

_random = random.SystemRandom()
_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens, which the kernel gives to nobody, and which no other call returned."""
    for port in _random.sample(PORTS, 200):
        if port in _given:
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            try:
                sock.bind((host, port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("all ports are in use")
