"""The gateways that are measured."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.targets.aiohttp import Aiohttp
from benchmarks.targets.base import Target
from benchmarks.targets.nchan import Nchan
from benchmarks.targets.node import Node
from benchmarks.targets.pushpin import Pushpin
from benchmarks.targets.wsaas import Wsaas

TARGETS: dict[str, Callable[..., Target]] = {
    "wsaas": Wsaas,
    "wsaas+journal": partial(Wsaas, journal=True),
    "node": Node,
    "aiohttp": Aiohttp,
    "nchan": Nchan,
    "pushpin": Pushpin,
}


def named(name: str) -> Target:
    """Return the target of that name; `wsaas@FOLDER` is WSaaS as it is in another checkout. KeyError: there is none."""
    kind, _, checkout = name.partition("@")
    if checkout and kind.startswith("wsaas"):
        return TARGETS[kind](Path(checkout))
    return TARGETS[name]()
