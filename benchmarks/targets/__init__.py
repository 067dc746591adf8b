"""The gateways that can be measured."""

from argparse import ArgumentParser, ArgumentTypeError
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
    "wsaas+compiled": partial(Wsaas, compiled=True),
    "node": Node,
    "aiohttp": Aiohttp,
    "nchan": Nchan,
    "pushpin": Pushpin,
}


def targets_named(names: str) -> list[Target]:
    """Return the targets of `names`, separated by commas; `wsaas@FOLDER` is the WSaaS of another checkout.

    Raises `ArgumentTypeError` for an unknown name.
    """
    return [_target(name) for name in names.split(",")]


def checkouts_named(names: str) -> list[Wsaas]:
    """Return the checkouts of WSaaS of `names`, separated by commas. Raises `ArgumentTypeError` for other targets."""
    targets = targets_named(names)
    checkouts = [target for target in targets if isinstance(target, Wsaas)]
    if len(checkouts) < len(targets):
        raise ArgumentTypeError("this case measures only wsaas, wsaas+compiled and wsaas@FOLDER")
    for target in checkouts:
        if target.missing():
            raise ArgumentTypeError(f"{target.name} has to be installed: {target.install}")
    return checkouts


def add_checkouts_option(parser: ArgumentParser) -> None:
    """Add `--target` to the options of a case that measures only WSaaS; `targets` is a list of `Wsaas`."""
    parser.add_argument(
        "--target",
        dest="targets",
        type=checkouts_named,
        default="wsaas",
        help="wsaas, wsaas+compiled, and wsaas@FOLDER for another checkout, with commas",
    )


def _target(name: str) -> Target:
    kind, _, checkout = name.partition("@")
    if kind not in TARGETS or (checkout and not kind.startswith("wsaas")):
        raise ArgumentTypeError(f"unknown target {name}; known are {', '.join(TARGETS)} and wsaas@FOLDER")
    return TARGETS[kind](Path(checkout)) if checkout else TARGETS[kind]()
