"""Divides the file descriptors of the process among their uses."""

import resource
from dataclasses import dataclass
from typing import Final

from wsaas.log import logger
from wsaas.log.wording import counted

UNLIMITED_DESCRIPTORS: Final = 1 << 20
"""The number that an infinite limit of open files counts as."""

CONTROL_RESERVE: Final = 64
"""Descriptors reserved for REST connections."""

SPARE_DESCRIPTORS: Final = 64
"""Descriptors for files and listeners, and for connections that are being refused."""

FEW_CLIENTS: Final = 1000
"""Descriptors for clients below which a warning is logged."""


@dataclass(frozen=True, slots=True)
class DescriptorBudget:
    """The number of descriptors for each use. Their sum is the limit of open files."""

    clients: int
    backend: int
    control: int
    spare: int


def divide_descriptors(descriptors: int, backend_connections: int) -> DescriptorBudget:
    """Divide `descriptors`. If there are few, clients get at least half of them, and the backend up to a quarter."""
    control = min(CONTROL_RESERVE, descriptors // 8)
    spare = min(SPARE_DESCRIPTORS, descriptors // 8)
    backend = max(1, min(backend_connections, descriptors // 4))
    return DescriptorBudget(descriptors - backend - control - spare, backend, control, spare)


def warn_of_few(budget: DescriptorBudget) -> None:
    """Log a warning when `budget` leaves few descriptors for clients."""
    if budget.clients < FEW_CLIENTS:
        logger.warning(
            "the limit of open files (%d) allows only %s, and %s to the backend: raise it",
            budget.clients + budget.backend + budget.control + budget.spare,
            counted(budget.clients, "client"),
            counted(budget.backend, "connection"),
        )


def hard_limit() -> int:
    """Return the number of files that the process may open after `raise_limit`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
