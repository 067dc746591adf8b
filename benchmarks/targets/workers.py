"""WSaaS with several workers."""

import os
import socket
from collections.abc import Mapping

from benchmarks.targets.base import Placement
from benchmarks.targets.wsaas import Wsaas
from benchmarks.wire import HOST

PORTS = range(20_000, 30_000)
"""Ports are taken from here. The kernel gives higher ones to connections (`net.ipv4.ip_local_port_range`)."""


def free_ports(number: int) -> range:
    """Return consecutive ports that are free; other ones than most other processes find at the same time."""
    first = PORTS[os.getpid() % len(PORTS)]
    while taken := [port for port in range(first, first + number) if not _is_free(port)]:
        first = taken[-1] + 1
    return range(first, first + number)


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


class Workers(Wsaas):
    """`python -m wsaas` with `WORKERS`. `named`: the `ws_uri` names the worker, by a port of its own."""

    def __init__(self, workers: int, like: Wsaas, *, named: bool = False) -> None:
        """Take the package and the journal from `like`."""
        settings = {**like.settings, "WORKERS": str(workers), "DRAIN_TIMEOUT": "1000"}
        super().__init__(like.checkout, journal=like.journal, settings=settings)
        self.workers = workers
        self.named = named
        self.name = f"{self._size}{like.name.removeprefix(Wsaas.name)}"
        self._ports = free_ports(workers) if named else range(0)

    @property
    def _size(self) -> str:
        return "1 worker" if self.workers == 1 else f"{self.workers} workers"

    def environment(self, placement: Placement) -> Mapping[str, str]:
        """Return the settings."""
        settings = super().environment(placement)
        if not self.named:
            return settings
        listeners = {"LISTEN": f"{HOST}:{placement.client}", "CONTROL_LISTEN": self.control_address(placement)}
        return {**settings, **listeners, "WS_HOSTNAME": f"{HOST}:{{port}}"}

    def control_port(self, placement: Placement) -> int:
        """Return the first port of the REST API."""
        return self._ports[0] if self.named else super().control_port(placement)

    def control_address(self, placement: Placement) -> str:
        """Return the address of the REST API: a range of ports where each worker has its own."""
        last = f"-{self._ports[-1]}" if self.workers > 1 and self.named else ""
        return super().control_address(placement) + last

    def is_ready(self, placement: Placement) -> bool:
        """Return whether all workers listen, which the supervisor logs."""
        # The latter is what earlier versions log.
        lines = f" WORKERS={self.workers}", f"; {self._size}"
        return super().is_ready(placement) and (
            self.workers == 1 or any(line in placement.log.read_text() for line in lines)
        )
