"""Ports to listen on."""

import random
import socket

PORTS_FOR_RESTARTS = range(15_000, 30_000)
"""Below the ports of outgoing connections, which must not take the port while its program is down."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        return port


def port_for_restarts() -> int:
    """Return a port on which nobody listens, and that the kernel gives to nobody while its program is down."""
    for port in random.sample(PORTS_FOR_RESTARTS, 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("all ports are in use")
