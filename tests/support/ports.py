"""Ports to listen on."""

import random
import socket

PORTS = range(15_000, 30_000)
"""Below the ports that the kernel gives to outgoing connections, which may take any port without a listener."""

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
