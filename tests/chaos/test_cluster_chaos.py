"""Clients and a backend use all nodes of a cluster while nodes, NATS and the backend are killed, frozen or cut off.

Any node takes the requests of the backend for the clients of any other. In the end, the log is audited.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.audit import Findings
from tests.chaos.cluster_audit import check_orderly
from tests.chaos.cluster_run import CLUSTER_FAULTS, ClusterRun
from tests.chaos.nodes import HERE, Place
from tests.chaos.run import Load, UnsettledError, table
from tests.support.isolation import Isolation, isolation

PARTITION_S = 30.0
"""Seconds for which a node is cut off: ten times its lease."""

BEFORE_S, AFTER_S = 8.0, 5.0
"""Seconds of load before and after that."""

ROLLING_S = 20.0
"""Seconds of rolling restarts."""

QUIET = 30
"""Clients that are connected while all books are compared."""


@pytest.fixture
def load(pytestconfig: pytest.Config) -> Load:
    """The clients."""
    seed = pytestconfig.getoption("--chaos-seed") or random.randrange(1, 10**6)
    return Load(pytestconfig.getoption("--chaos-clients"), pytestconfig.getoption("--chaos-hostile"), seed)


def report(run: ClusterRun, findings: Findings) -> None:
    """Print a summary, and fail if there are violations."""
    print(table(run, findings), flush=True)
    assert not findings.violations, "\n".join(findings.violations[:50])
    assert findings.counts["taken"] > 1000, "too few messages to show anything"
    assert run.fan_out["publishes to members that certainly stayed"] > 100, "too few publishes to show anything"


def test_every_promise_is_kept_through_losses_of_nodes(tmp_path: Path, pytestconfig: pytest.Config, load: Load) -> None:
    seconds = pytestconfig.getoption("--chaos-seconds")
    run = ClusterRun(tmp_path, load, [HERE] * pytestconfig.getoption("--chaos-nodes"))
    print(f"\nchaos for {seconds:g} s and until all is settled, --chaos-seed {load.seed}, in {tmp_path}", flush=True)

    report(run, asyncio.run(run_cluster(run, partial(run.phase, seconds, *CLUSTER_FAULTS))))


def test_a_rolling_restart_loses_nothing(tmp_path: Path, pytestconfig: pytest.Config, load: Load) -> None:
    # Hostile clients leave more messages than a drain can deliver.
    load = load._replace(hostile=0)
    settings = {"drain_timeout": 8000}
    run = ClusterRun(tmp_path, load, [HERE] * pytestconfig.getoption("--chaos-nodes"), settings)
    print(f"\na rolling restart, --chaos-seed {load.seed}, in {tmp_path}", flush=True)
    findings = asyncio.run(run_cluster(run, partial(run.phase, ROLLING_S, ClusterRun.rolling_restart)))
    findings.violations += check_orderly(run.ledger)
    report(run, findings)
    assert not run.counts["stops of nodes that left DELETEs to others"]


@pytest.mark.parametrize("reaches_backend", [True, False])
def test_a_node_is_cut_off_and_returns(
    tmp_path: Path, pytestconfig: pytest.Config, load: Load, *, reaches_backend: bool
) -> None:
    with isolation() as network:
        unreliable, reliable = (f"{each}2" for each in (network.unreliable, network.reliable))
        there = Place(
            host=reliable,
            rest_host=reliable if reaches_backend else unreliable,
            peer_host=unreliable,
            nats_host=f"{network.unreliable}1",
            backend_host=f"{network.reliable if reaches_backend else network.unreliable}1",
            prefix=network.prefix,
        )
        here = HERE._replace(peer_host=f"{network.unreliable}1")
        places = [*[here] * (pytestconfig.getoption("--chaos-nodes") - 1), there]
        run = ClusterRun(tmp_path, load, places, host="0.0.0.0", unreachable=[] if reaches_backend else [-1])
        print(f"\na partition of {PARTITION_S:g} s, --chaos-seed {load.seed}, in {tmp_path}", flush=True)
        report(run, asyncio.run(run_cluster(run, partial(run.phase, AFTER_S, partial(cut_off, network=network)))))


async def cut_off(run: ClusterRun, network: Isolation) -> None:
    """Cut the last node off in the middle of the load."""
    await asyncio.sleep(BEFORE_S)
    await run.cut_off(network, PARTITION_S)
    await asyncio.sleep(AFTER_S)


async def run_cluster(run: ClusterRun, phase: Callable[[], Awaitable[None]]) -> Findings:
    """Start everything, run the phase, compare all books, and stop and audit everything."""
    books: list[str] = []
    try:
        await run.start()
        with suppress(UnsettledError):
            await phase()
            books = await run.compare_books(QUIET)
        findings = await run.end()
    finally:
        run.kill()
    return Findings([*books, *findings.violations], findings.counts)
