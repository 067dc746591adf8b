"""What hostile clients cost others: latencies of a healthy client and of `/healthz`, alone and beside them.

The gateway has a core of its own. The hostile clients and this process, which is the backend, the healthy client and
the probes, share the other one; the hostile clients run only when nothing else wants it. They flood as fast as the
gateway reads. So a latency is the time for which the gateway kept the others waiting.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import uvloop

from benchmarks.hostile.attacks import KINDS
from benchmarks.hostile.tables import summary, tables
from benchmarks.hostile.trial import Measurement, Trial
from benchmarks.machine import cores, pinned, raise_descriptor_limit, undisturbed
from benchmarks.report import progress
from benchmarks.targets import add_checkouts_option
from benchmarks.targets.wsaas import Wsaas

TRIES = 3
"""Maximum number of attempts to get a run that other programs do not disturb."""

PRIORITY = -10
"""Niceness of the gateway and of this process, where the system allows it, so that other programs disturb them less."""


def parse(arguments: Sequence[str]) -> Namespace:
    """Return the options; `kinds` is a list."""
    parser = ArgumentParser(prog="python -m benchmarks hostile", description=__doc__)
    add = parser.add_argument
    add("--kinds", default=",".join(KINDS), help="kinds of hostile clients, with commas; by default all of them")
    add_checkouts_option(parser)
    add("--seconds", type=float, default=5, help="time beside the hostile clients, for each kind")
    add("--clients", type=int, help="number of hostile clients; default 50, 60 that fail, 1,000 that hold memory")
    add("--calm", type=float, default=1, help="repeat a run in which other programs had more than this share of a core")
    add("--json", type=Path, help="file for everything that was measured")
    chosen = parser.parse_args(arguments)
    chosen.kinds = chosen.kinds.split(",")
    if unknown := [kind for kind in chosen.kinds if kind not in KINDS]:
        parser.error(f"unknown kinds {', '.join(unknown)}; known are {', '.join(KINDS)}")
    return chosen


def measure(chosen: Namespace, target: Wsaas, kind: str, both_cores: tuple[int, int]) -> Measurement:
    """Measure one kind of hostile clients, again while other programs disturb it."""
    clients = KINDS[kind].clients if chosen.clients is None else chosen.clients
    return undisturbed(
        lambda: uvloop.run(Trial(target, both_cores, kind, clients, chosen.seconds).run()),
        lambda measured: measured.others,
        chosen.calm,
        TRIES,
    )


def main(arguments: Sequence[str]) -> None:
    """Run the case."""
    chosen = parse(arguments)
    raise_descriptor_limit()
    both_cores = cores()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    results: list[Measurement] = []
    try:
        with pinned(both_cores[1]):
            for kind in chosen.kinds:
                for target in chosen.targets:
                    results.append(measure(chosen, target, kind, both_cores))
                    progress(f"{target.name} {kind}: {summary(results[-1])}")
    finally:
        # An interrupt leaves the results of the trials before it.
        print(tables(results))
        if chosen.json:
            chosen.json.write_text(json.dumps([asdict(one) for one in results]))
