"""Supervisors that are killed and started again while their workers drain, and workers that hang."""
# ruff: noqa: ASYNC240 - tests may access files from the loop

import asyncio
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Client, WorkersNode, is_alive, workers
from tests.support.stage import Stage
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """The folder of the folders of nodes."""
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def ids(node: WorkersNode) -> Counter[str]:
    """Return how many DELETEs came with each `ce-id`."""
    return Counter(call.headers["ce-id"] for call in node.backend.calls if call.method == "DELETE")


async def expect_one_delete_each(node: WorkersNode, clients: list[Client]) -> None:
    names = {f"{client.name}:end" for client in clients}
    await node.backend.wait(lambda: names <= set(ids(node)))
    assert ids(node) == dict.fromkeys(names, 1)


async def said(node: WorkersNode, pattern: str) -> None:
    await wait_until(lambda: re.search(pattern, node.program.said()), pattern, node.program.said)


async def started_again(node: WorkersNode) -> None:
    await said(node, r"(?s)( INFO wsaas \S+ \([^)]+\) listening on .*){2}")


async def answer_closes(clients: list[Client]) -> None:
    for client in clients:
        assert await client.raw.closing() == (1001, "going away")
        client.raw.close()


@pytest.mark.parametrize("kept", [True, False], ids=["journal", "no journal"])
async def test_a_supervisor_that_is_killed_can_be_started_again_at_once(
    stage: Stage, log: Path, runtime: Path, tmp_path: Path, kept: bool
) -> None:
    options = {"journal": tmp_path / "journal"} if kept else {}
    async with workers(stage, log, xdg_runtime_dir=runtime, **options) as node:
        clients = await node.spread()
        pids = node.pids()
        node.program.kill()
        node.program.spawn()
        closing = asyncio.ensure_future(answer_closes(clients))
        await started_again(node)
        await closing
        await wait_until(lambda: not any(map(is_alive, pids)), "the workers to leave")
        newcomers = await node.spread()
        await expect_one_delete_each(node, clients)
        assert await node.process.stop() == 0
        await expect_one_delete_each(node, [*clients, *newcomers])
        assert "Address already in use" not in node.program.said()
        assert list(runtime.iterdir()) == []


async def test_new_workers_wait_for_the_journals_of_workers_that_drain(
    stage: Stage, log: Path, runtime: Path, tmp_path: Path
) -> None:
    async with workers(stage, log, xdg_runtime_dir=runtime, journal=tmp_path / "journal") as node:
        clients = await node.spread()
        pids = node.pids()
        # The backend does not answer, so the drain goes on until it does.
        stage.backend.hold("DELETE")
        node.program.kill()
        node.program.spawn()
        await answer_closes(clients)
        for number in (1, 2, 3):
            await said(node, rf"WARN worker {number}: \S+/journal\.{number} is in use, perhaps by a worker of")
        assert all(map(is_alive, pids))
        stage.backend.release()
        await started_again(node)
        assert not any(map(is_alive, pids))
        await expect_one_delete_each(node, clients)
        assert await node.process.stop() == 0
        await expect_one_delete_each(node, clients)


async def test_what_draining_workers_leave_is_sent_by_the_new_ones(
    stage: Stage, log: Path, runtime: Path, tmp_path: Path
) -> None:
    options = {"journal": tmp_path / "journal", "drain_timeout": 1000}
    async with workers(stage, log, xdg_runtime_dir=runtime, **options) as node:
        clients = await node.spread()
        stage.backend.hold("DELETE")
        node.program.kill()
        node.program.spawn()
        await answer_closes(clients)
        await started_again(node)
        stage.backend.release()
        names = {f"{client.name}:end" for client in clients}
        await node.backend.wait(lambda: names <= set(ids(node)))
        # The first attempts have got no answer.
        assert set(ids(node)) == names
        assert await node.process.stop() == 0


@pytest.mark.parametrize("count", [1, 2])
async def test_fewer_workers_wait_for_the_journals_of_more(
    stage: Stage, log: Path, runtime: Path, tmp_path: Path, count: int
) -> None:
    async with workers(stage, log, xdg_runtime_dir=runtime, journal=tmp_path / "journal") as node:
        clients = await node.spread()
        stage.backend.hold("DELETE")
        node.program.kill()
        node.program.spawn(f"--workers={count}")
        await answer_closes(clients)
        await said(node, r"\S+/journal\.[123] is in use, perhaps by a worker")
        stage.backend.release()
        await started_again(node)
        await expect_one_delete_each(node, clients)
        assert not (tmp_path / "journal.3").exists()
        assert await node.process.stop() == 0


@pytest.mark.parametrize("signal_number", [signal.SIGCONT, signal.SIGKILL])
async def test_a_supervisor_waits_for_the_addresses_of_workers_that_hang(
    stage: Stage, log: Path, runtime: Path, tmp_path: Path, signal_number: signal.Signals
) -> None:
    async with workers(stage, log, xdg_runtime_dir=runtime, journal=tmp_path / "journal") as node:
        clients = await node.spread()
        pids = node.pids()
        os.kill(pids[1], signal.SIGSTOP)
        node.program.kill()
        node.program.spawn()
        await said(node, rf"WARN 127\.0\.0\.1:{node.process.port} is in use, perhaps by workers of a supervisor that")
        os.kill(pids[1], signal_number)
        for client in clients:
            client.raw.close()
        await started_again(node)
        await expect_one_delete_each(node, clients)
        assert await node.process.stop() == 0


async def test_a_supervisor_that_waits_can_be_stopped(stage: Stage, log: Path, runtime: Path) -> None:
    async with workers(stage, log, xdg_runtime_dir=runtime) as node:
        pids = node.pids()
        os.kill(pids[1], signal.SIGSTOP)
        node.program.kill()
        node.program.spawn()
        await said(node, "is in use, perhaps by workers")
        node.program.terminate()
        assert await node.program.wait() == 1
        assert node.program.said().rstrip().endswith("Address already in use")
        os.kill(pids[1], signal.SIGCONT)
        await wait_until(lambda: not any(map(is_alive, pids)), "the workers to leave")


async def test_a_unix_socket_can_be_bound_while_workers_without_a_supervisor_drain(
    stage: Stage, log: Path, runtime: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"control_listen": f"unix:{tmp_path}/control"}
    async with workers(stage, log, xdg_runtime_dir=runtime, **options) as node:
        clients = await node.spread()
        stage.backend.hold("DELETE")
        pids = node.pids()
        node.program.kill()
        node.program.spawn()
        await started_again(node)
        assert any(map(is_alive, pids))
        await answer_closes(clients)
        stage.backend.release()
        await expect_one_delete_each(node, clients)
        assert await node.process.stop() == 0
        assert not (tmp_path / "control").exists()


async def test_the_next_start_removes_the_folder_of_a_node_that_was_killed(
    stage: Stage, log: Path, runtime: Path
) -> None:
    async with workers(stage, log, xdg_runtime_dir=runtime) as node:
        pids = node.pids()
        for pid in (node.program.pid, *pids):
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        node.program.kill()
        await wait_until(lambda: not any(map(is_alive, pids)))
        (left,) = runtime.iterdir()
        await node.program.start()
        (folder,) = runtime.iterdir()
        assert folder != left


QUICK_PINGS = (
    "import sys; from wsaas.cli import main; from wsaas.workers import heartbeat; heartbeat.PING_INTERVAL_S = 0.3"
)
"""Python that makes a supervisor notice after 2 s that a worker hangs. Its workers are not changed."""


async def test_a_worker_that_hangs_is_replaced_and_its_deletes_are_sent(stage: Stage, log: Path, runtime: Path) -> None:
    prefix = (sys.executable, "-c", f"{QUICK_PINGS}; sys.exit(main.main(sys.argv[4:]))")
    async with workers(stage, log, xdg_runtime_dir=runtime, prefix=prefix) as node:
        clients = await node.spread()
        lost = [client for client in clients if client.worker == clients[0].worker]
        await node.kill_worker_of(lost[0], signal.SIGSTOP)
        await said(node, r"ERROR worker \d has not answered for 1\.8 s: it was killed")
        await said(node, r"WARN worker \d \(process \d+\) was killed by SIGKILL: its successor starts at once")
        await expect_one_delete_each(node, lost)
        for client in clients:
            status = (await node.ask("PUT", f"/{client.name}", b"hello")).status
            assert status == (410 if client in lost else 200)
        assert await node.process.stop() == 0
        await expect_one_delete_each(node, clients)
