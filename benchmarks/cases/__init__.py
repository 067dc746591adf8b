"""The cases of the suite, one in each file of this folder, and their registry.

A new case is a file with `main(arguments)` and a line in `CASES`. A new workload of the load generator needs no file:
it is registered in `benchmarks.comparison.workloads`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from benchmarks.comparison.workloads import WORKLOADS

Main = Callable[[Sequence[str]], None]
"""Parses the arguments behind the name of the case, and runs it."""


@dataclass(frozen=True)
class Case:
    """A case, and a line about it for `python -m benchmarks --help`."""

    summary: str
    main: Main


def _file(name: str) -> Main:
    """Return the `main` of the file `name` in this folder, which is imported once the case is run."""
    return lambda arguments: import_module(f"benchmarks.cases.{name}").main(arguments)


def compare(workloads: Sequence[str], arguments: Sequence[str]) -> None:
    """Run one or more workloads of the load generator."""
    import_module("benchmarks.cases.compare").main(arguments, workloads)


COMPARISONS = {name: Case(each.summary, partial(compare, [name])) for name, each in WORKLOADS.items()}
"""Cases that compare targets under the load generator. They can be run together, separated by commas."""

CASES: dict[str, Case] = {
    **COMPARISONS,
    "growth": Case("push, message and echo over clients, message size, connections and delay", _file("growth")),
    "hostile": Case("what hostile clients cost a healthy one", _file("hostile")),
    "idle": Case(f"{WORKLOADS['idle'].summary}; without --target: memory, also with TLS", _file("idle")),
    "workers": Case("what workers cost on one core, and what they bring under a CPU quota", _file("workers")),
    "nodes": Case("what a cluster costs: pushes to the node of a client, and to another one", _file("nodes")),
    "connects": Case("clients that come and go, without and with a journal", _file("connects")),
    "paths": Case("push and message without a C compiler, also over TLS", _file("paths")),
    "outage": Case("requests to a backend that is down, and recovery from it", _file("outage")),
    "slow": Case("a client that never reads, and a healthy one beside it", _file("slow")),
    "stalls": Case("connections that send half a handshake, and healthy clients beside them", _file("stalls")),
    "pauses": Case("the longest pauses of the event loop with 100,000 clients", _file("pauses")),
    "micro": Case("the Python code of both paths without sockets, for several checkouts", _file("micro")),
    "objects": Case("memory of an idle client, by the line that allocates it", _file("objects")),
    "framing": Case("decoding a frame, by the fast path and by wsproto", _file("framing")),
}
