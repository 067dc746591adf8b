"""Ports for what the user did not choose."""

from wsaas.setting_types import Address
from wsaas.transport.listener import bind


def free_port(usual: int) -> int:
    """Return the port `usual` if it is free on the loopback addresses, else another free port."""
    try:
        sockets = bind(Address("localhost", usual))
    except OSError:
        sockets = bind(Address("localhost", 0))
    port = sockets[0].getsockname()[1]
    for each in sockets:
        each.close()
    return int(port)
