"""The gateways that are measured."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.targets.base import Target
from benchmarks.targets.wsaas import Wsaas

TARGETS: dict[str, Callable[[], Target]] = {"wsaas": Wsaas}


def named(name: str) -> Target:
    """Return the target of that name; `wsaas@FOLDER` is WSaaS as it is in another checkout. KeyError: there is none."""
    if name.startswith("wsaas@"):
        return Wsaas(Path(name.partition("@")[2]))
    return TARGETS[name]()
