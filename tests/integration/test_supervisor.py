"""The supervisor, with fake workers: only their channels and their ends are real."""
# ruff: noqa: ASYNC240 - tests may access files from the loop

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.stage import Stage
from tests.support.waiting import wait_until, with_timeout
from tests.support.workers import FakeLauncher, FakeWorker, fake_supervisor
from wsaas.shared_counts import SharedCounts
from wsaas.workers import heartbeat
from wsaas.workers import runtime as runtime_module
from wsaas.workers import supervisor as module
from wsaas.workers.channel import Channel
from wsaas.workers.heartbeat import MAX_UNANSWERED
from wsaas.workers.runtime_folder import RuntimeFolder
from wsaas.workers.supervisor import Supervisor


class Node:
    """A supervisor with its two fake workers."""

    def __init__(self, stage: Stage, supervisor: Supervisor, launcher: FakeLauncher) -> None:
        self.launcher = launcher
        self.supervisor = supervisor
        self.starting = asyncio.ensure_future(supervisor.start())
        stage.stack.push_async_callback(self.end)

    async def workers(self) -> tuple[FakeWorker, FakeWorker]:
        return await self.launcher.take(0), await self.launcher.take(1)

    async def started(self) -> tuple[FakeWorker, FakeWorker]:
        """Let both workers listen; return them."""
        first, second = await self.workers()
        await first.join("aaaaaaaa")
        await second.join("bbbbbbbb")
        await first.learn("bbbbbbbb")
        for worker in (first, second):
            await worker.listen()
        await with_timeout(self.starting)
        return first, second

    async def stop(self, *codes: int) -> int:
        """Stop it; its workers end with `codes`. Return its exit status."""
        self.supervisor.stop()
        for worker, code in zip(self.launcher.started, codes, strict=True):
            worker.end(code)
        return await self.status()

    async def status(self) -> int:
        return await with_timeout(self.supervisor.run())

    async def end(self) -> None:
        """Stop it if it runs."""
        self.supervisor.stop()
        with suppress(OSError):
            await with_timeout(self.starting)
            stopping = asyncio.ensure_future(self.status())
            while not stopping.done():
                for worker in self.launcher.started:
                    worker.end()
                await asyncio.sleep(0.005)


def node(stage: Stage, **chosen: Any) -> Node:
    return Node(stage, *fake_supervisor(stage, **chosen))


async def test_the_node_has_started_when_all_workers_listen(stage: Stage) -> None:
    started = node(stage)
    first, second = await started.workers()
    await first.join("aaaaaaaa")
    started.supervisor.reload()
    assert await first.channel.take() == {"reload": 1}
    await second.join("bbbbbbbb")
    assert await first.learn("bbbbbbbb") == {"aaaaaaaa": 0, "bbbbbbbb": 1}
    await first.listen()
    assert not started.starting.done()
    await second.listen()
    await with_timeout(started.starting)
    assert await started.stop(0, 0) == 0


async def test_a_reload_is_over_when_all_workers_have_reloaded(stage: Stage) -> None:
    started = node(stage)
    first, second = await started.started()
    results: list[bool] = []
    started.supervisor.reload(lambda _: results.append(True))
    started.supervisor.reload(results.append)
    for worker in (first, second):
        while await worker.channel.take() != {"reload": 2}:
            pass
    # An answer to the earlier one does not count.
    first.channel.send(reloaded=1, ok=True)
    first.channel.send(reloaded=2, ok=False)
    second.end(-9)
    await wait_until(lambda: results == [False], "the reload to be over")


async def test_a_reload_does_not_wait_for_a_worker_that_cannot_get_it_yet(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = node(stage)
    _, second = await started.started()
    may_open, open_channel = asyncio.Event(), Channel.open

    async def open_later(channel: Channel, sock: socket.socket) -> None:
        await may_open.wait()
        await open_channel(channel, sock)

    monkeypatch.setattr(Channel, "open", open_later)
    second.end(-9)
    await started.launcher.take(2)
    results: list[bool] = []
    started.supervisor.reload(results.append)
    started.launcher.started[0].channel.send(reloaded=1, ok=True)
    await wait_until(lambda: results == [True], "the reload to be over")
    may_open.set()


async def test_a_supervisor_is_alive_while_its_workers_start_anew(stage: Stage) -> None:
    started = node(stage)
    first, second = await started.started()
    address = started.supervisor.addresses[0]
    assert started.supervisor.summary() == f"2 of 2 workers listen on {address}"
    assert started.supervisor.is_alive()
    for worker in (first, second):
        worker.end(-9)
    none = f"0 of 2 workers listen on {address}"
    await wait_until(lambda: started.supervisor.summary() == none, "both workers to end")
    assert started.supervisor.is_alive()


async def test_workers_inherit_the_sockets_that_systemd_has_opened(stage: Stage) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        text = f"127.0.0.1:{sock.getsockname()[1]}"
        started = node(stage, sockets={text: [sock.fileno()]}, listen=text)
        first, second = await started.workers()
        assert str(started.supervisor.addresses[0]) == text
        assert first.place.sockets == second.place.sockets == {text: [sock.fileno()]}
        assert first.place.kept == [text]
        assert started.launcher.flags["listen"] == text


async def test_a_worker_listens_only_when_all_others_know_it(stage: Stage) -> None:
    started = node(stage)
    first, second = await started.started()
    second.end(-9)
    successor = await started.launcher.take(2)
    await successor.join("cccccccc")
    started.supervisor.reload()
    assert await successor.channel.take() == {"reload": 1}
    await first.learn("cccccccc")
    assert await successor.channel.take() == {"listen": True}


async def test_a_worker_listens_after_a_while_although_another_one_hangs(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = node(stage)
    _, second = await started.started()
    monkeypatch.setattr(module, "ADMISSION_TIMEOUT_S", 0.01)
    second.end(-9)
    successor = await started.launcher.take(2)
    await successor.join("cccccccc")
    await successor.listen()
    assert stage.messages()[1:] == ["worker 2 listens, but another worker has not answered for 0.01 s"]


async def test_a_worker_that_ended_is_started_again_and_the_others_are_told(stage: Stage) -> None:
    started = node(stage)
    first, second = await started.started()
    second.end(-9)
    assert await first.channel.take() == {"peers": {"aaaaaaaa": 0}, "version": 3}
    successor = await started.launcher.take(2)
    assert successor.place.index == second.place.index
    assert successor.place.journal == second.place.journal
    await successor.join("cccccccc")
    assert await first.learn("cccccccc") == {"aaaaaaaa": 0, "cccccccc": 1}
    await successor.listen()
    assert stage.messages() == [
        (
            "worker 2 (process 1001) was killed by SIGKILL: its successor starts at once and sends the DELETEs of its "
            "clients"
        )
    ]


async def test_a_worker_that_ends_again_is_started_after_a_while(stage: Stage) -> None:
    started = node(stage)
    await started.started()
    for number in (1, 2):
        (await started.launcher.take(number)).end(3)
    await started.launcher.take(3)
    assert [message.partition(": ")[2] for message in stage.messages()] == [
        "its successor starts at once and sends the DELETEs of its clients",
        "its successor starts in 0.1 s and sends the DELETEs of its clients",
    ]
    assert stage.messages()[1].startswith("worker 2 (process 1002) ended with status 3")


async def test_a_worker_that_cannot_be_started_is_tried_again(stage: Stage) -> None:
    started = node(stage)
    first, second = await started.started()
    started.launcher.errors = [OSError(11, "Resource temporarily unavailable")] * 2
    second.end(-255)
    await started.launcher.take(2)
    assert [message.partition(": ")[0] for message in stage.messages()] == [
        "worker 2 (process 1001) was killed by signal 255",
        "worker 2 could not be started (Resource temporarily unavailable)",
        "worker 2 could not be started (Resource temporarily unavailable)",
    ]
    assert not first.kills


async def test_the_node_does_not_start_if_a_worker_cannot(stage: Stage) -> None:
    stage.expected_errors.append("worker 1 (process 1000) ended with status 2 before all workers listened: stopping")
    started = node(stage)
    first, second = await started.workers()
    first.end(2)
    await with_timeout(started.starting)
    assert started.supervisor.is_stopping()
    assert await second.channel.take() == {"stop": True}
    second.end(0)
    assert await started.status() == 2


async def test_a_worker_that_ends_with_success_before_it_listens_is_a_failure_too(stage: Stage) -> None:
    stage.expected_errors.append("before all workers listened: stopping")
    started = node(stage)
    first, second = await started.workers()
    first.end(0)
    await with_timeout(started.starting)
    second.end(0)
    assert await started.status() == 1


async def test_a_stop_reaches_all_workers_and_a_second_one_makes_them_hurry(stage: Stage) -> None:
    started = node(stage)
    workers = await started.started()
    started.supervisor.stop()
    started.supervisor.stop()
    for worker in workers:
        assert await worker.channel.take() == {"stop": True}
        assert await worker.channel.take() == {"hurry": True}
        worker.end()
    assert await started.status() == 0


async def test_a_stop_during_the_start_reaches_workers_that_are_being_started(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = node(stage)
    launch = started.launcher.launch

    async def launch_late(*given: Any) -> Any:
        process = await launch(*given)
        started.supervisor.stop()
        return process

    monkeypatch.setattr(started.launcher, "launch", launch_late)
    for worker in await started.workers():
        assert await worker.channel.take() == {"stop": True}
        worker.end()
    await with_timeout(started.starting)
    assert await started.status() == 0


async def test_the_exit_status_is_the_worst_of_all_workers(stage: Stage) -> None:
    started = node(stage)
    await started.started()
    assert await started.stop(0, 1) == 1
    assert stage.messages() == ["worker 2 (process 1001) ended with status 1"]


async def test_a_worker_that_answers_no_ping_is_killed_and_replaced(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PING_INTERVAL_S", 0.02)
    stage.expected_errors.append("worker 2 has not answered for 0.12 s: it was killed")
    started = node(stage)
    first, second = await started.started()
    answering = asyncio.ensure_future(first.answer_pings())
    stage.stack.callback(answering.cancel)
    assert (await started.launcher.take(2)).place.index == 1
    answering.cancel()
    assert (first.kills, second.kills) == (0, 1)
    assert stage.messages()[1] == (
        "worker 2 (process 1001) was killed by SIGKILL: its successor starts at once and sends the DELETEs of its "
        "clients"
    )


async def test_a_worker_is_pinged_from_when_the_others_can_reach_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PING_INTERVAL_S", 0.001)
    started = node(stage)
    first, second = await started.workers()
    await first.join("aaaaaaaa")
    for _ in range(2 * MAX_UNANSWERED):
        assert await first.channel.take() == {"ping": True}
        first.channel.send(pong=True)
    # It may still read a large journal.
    second.channel.send(worker="bbbbbbbb")
    assert "peers" in await second.channel.take()
    while await second.channel.take() != {"ping": True}:
        first.channel.send(pong=True)


async def test_a_worker_that_hangs_while_it_starts_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "PING_INTERVAL_S", 0.02)
    monkeypatch.setattr(module, "DRAIN_GRACE_S", 0.05)
    monkeypatch.setattr(module, "START_TIMEOUT_S", 0.05)
    stage.expected_errors += [
        "worker 2 has not answered for 0.2 s: it was killed",
        "worker 2 (process 1001) was killed by SIGKILL before all workers listened: stopping",
    ]
    started = node(stage, drain_timeout="100")
    first, second = await started.workers()
    await first.join("aaaaaaaa")
    answering = asyncio.ensure_future(first.answer_pings())
    stage.stack.callback(answering.cancel)
    await with_timeout(started.starting)
    answering.cancel()
    first.end()
    assert await started.status() == 1
    assert (first.kills, second.kills) == (0, 1)


async def test_workers_are_not_killed_because_the_supervisor_was_suspended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "PING_INTERVAL_S", 0.02)
    started = node(stage)
    workers = await started.started()
    answering = [asyncio.ensure_future(worker.answer_pings(3)) for worker in workers]
    await with_timeout(asyncio.gather(*answering))
    time.sleep(20 * heartbeat.PING_INTERVAL_S)  # noqa: ASYNC251 - nothing may run meanwhile
    answering = [asyncio.ensure_future(worker.answer_pings(3)) for worker in workers]
    await with_timeout(asyncio.gather(*answering))
    assert [worker.kills for worker in workers] == [0, 0]


@pytest.mark.parametrize("journal", [None, "journal"])
async def test_a_worker_that_does_not_stop_is_killed(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str | None
) -> None:
    monkeypatch.setattr(module, "DRAIN_GRACE_S", 0.01)
    loss = "" if journal else "; the DELETEs of its clients are lost"
    stage.expected_errors.append(f"worker 2 did not stop in 0.05 s: it was killed{loss}")
    started = node(stage, drain_timeout=40, **({"journal": tmp_path / journal} if journal else {}))
    first, second = await started.started()
    started.supervisor.stop()
    first.end()
    assert await started.status() == 1
    assert (first.kills, second.kills) == (0, 1)


CLUSTER = {"cluster": "nats://127.0.0.1:1", "node_address": "127.0.0.1:8081"}


@pytest.mark.parametrize(
    ("heir", "code", "is_lost"), [(None, -9, True), ("journal", -9, False), ("cluster", -9, False), (None, 0, False)]
)
async def test_without_a_journal_the_deletes_of_a_worker_that_is_not_started_again_are_lost(
    stage: Stage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    heir: str | None,
    code: int,
    *,
    is_lost: bool,
) -> None:
    lost = "worker 2 has no successor, as the node is stopping: the DELETEs of its clients are lost"
    stage.expected_errors.append(lost)
    chosen: dict[str, object] = {"journal": tmp_path / "journal"} if heir == "journal" else {}
    started = node(stage, **(CLUSTER if heir == "cluster" else chosen))
    first, _ = await started.started()
    for number in (1, 2):
        (await started.launcher.take(number)).end(code)
    await wait_until(lambda: "its successor starts in 0.1 s" in caplog.text)
    started.supervisor.stop()
    first.end()
    assert await started.status() == (1 if code else 0)
    assert (lost in caplog.text) is is_lost
    assert len(started.launcher.started) == 3


@pytest.mark.usefixtures("runtime")
async def test_an_address_in_use_is_reported_before_any_worker_starts(stage: Stage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        started = node(stage, listen="127.0.0.1:0", control_listen=address)
        with pytest.raises(OSError, match="in use") as caught:
            await with_timeout(started.starting)
    assert caught.value.filename == address
    assert started.launcher.started == []


@contextmanager
def orphans(parent: Path) -> Iterator[None]:
    """Make it look as if there were workers whose supervisor was killed."""
    folder = RuntimeFolder()
    folder.create(parent)
    assert folder.lock is not None
    lock = os.dup(folder.lock)
    folder.path = ""
    folder.remove()
    yield
    os.close(lock)


async def waiting_node(stage: Stage, taken: socket.socket) -> Node:
    """Return a node that waits until the port of `taken` is free."""
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    started = node(stage, listen=address, drain_timeout=5000)
    why = "is in use, perhaps by workers of a supervisor that was killed: waiting for up to 15 s"
    await wait_until(lambda: stage.messages() == [f"{address} {why}"], "", stage.messages)
    return started


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


async def test_a_supervisor_waits_until_workers_without_one_give_up_an_address(stage: Stage, runtime: Path) -> None:
    with orphans(runtime), socket.socket() as taken:
        started = await waiting_node(stage, taken)
        taken.close()
        await started.started()
        assert len(list(runtime.iterdir())) == 2
    assert len(stage.messages()) == 1


async def test_an_address_that_nobody_gives_up_is_reported_when_those_workers_have_ended(
    stage: Stage, runtime: Path
) -> None:
    with socket.socket() as taken:
        with orphans(runtime):
            started = await waiting_node(stage, taken)
        with pytest.raises(OSError, match="in use"):
            await with_timeout(started.starting)
    assert list(runtime.iterdir()) == []


async def test_a_supervisor_that_waits_for_an_address_can_be_stopped(stage: Stage, runtime: Path) -> None:
    with orphans(runtime), socket.socket() as taken:
        started = await waiting_node(stage, taken)
        started.supervisor.stop()
        with pytest.raises(OSError, match="in use"):
            await with_timeout(started.starting)


async def test_a_supervisor_does_not_wait_for_an_address_without_end(
    stage: Stage, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "DRAIN_GRACE_S", -4.9)
    with orphans(runtime), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        started = node(stage, listen=f"127.0.0.1:{taken.getsockname()[1]}", drain_timeout=5000)
        with pytest.raises(OSError, match="in use"):
            await with_timeout(started.starting)


async def test_the_workers_get_the_ports_that_were_bound(stage: Stage) -> None:
    started = node(stage, listen="127.0.0.1:0", control_listen="127.0.0.2:0")
    await started.workers()
    clients, control = started.supervisor.addresses
    assert clients.port
    assert control.port
    assert started.launcher.flags == {"workers": "2", "listen": str(clients), "control_listen": str(control)}


async def test_one_address_for_clients_and_rest_requests_is_bound_once(stage: Stage) -> None:
    started = node(stage, listen="127.0.0.1:0", control_listen="127.0.0.1:0")
    await started.workers()
    (address,) = started.supervisor.addresses
    assert started.launcher.flags == {"workers": "2", "listen": str(address), "control_listen": str(address)}


async def test_the_workers_share_a_folder_that_is_removed_at_the_end(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    started = node(stage)
    first, second = await started.started()
    folder = Path(first.place.folder)
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    assert second.place.folder == str(folder)
    assert [each.place.journal for each in (first, second)] == [f"{folder}/journal.1", f"{folder}/journal.2"]
    assert not first.place.is_journal_kept
    assert await started.stop(0, 0) == 0
    assert not folder.exists()


async def test_the_folder_is_among_the_temporary_files_without_a_runtime_folder(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, _ = await node(stage).workers()
    assert Path(first.place.folder).parent == tmp_path


async def test_without_a_folder_the_node_does_not_start(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    started = node(stage)
    with pytest.raises(FileNotFoundError):
        await with_timeout(started.starting)


async def test_the_counts_of_a_worker_that_ended_are_removed(stage: Stage) -> None:
    started = node(stage, max_connections=10, max_connections_per_address=5)
    first, second = await started.started()
    assert first.place.counts is not None
    counts = [SharedCounts(first.place.counts, index, 2) for index in range(2)]
    counts[1].set_clients(7)
    assert counts[0].clients_elsewhere() == 7
    second.end(-9)
    await started.launcher.take(2)
    assert counts[0].clients_elsewhere() == 0
    for each in counts:
        each.close()


async def test_each_worker_has_a_port_of_a_range(stage: Stage) -> None:
    port = free_port()
    chosen = {
        "ws_hostname": "localhost:{port}",
        "listen": "127.0.0.1:0",
        "control_listen": f"127.0.0.1:{port}-{port + 2}",
    }
    started = node(stage, **chosen)
    await started.workers()
    assert str(started.supervisor.addresses[1]) == f"127.0.0.1:{port}-{port + 1}"
    assert "control_listen" not in started.launcher.flags


async def test_workers_share_a_unix_socket_by_its_descriptor(stage: Stage, tmp_path: Path) -> None:
    path = str(tmp_path / "clients")
    started = node(stage, listen=f"unix:{path}", control_listen="127.0.0.1:0")
    first, second = await started.workers()
    assert first.place.sockets == second.place.sockets
    (descriptor,) = first.place.sockets[f"unix:{path}"]
    assert descriptor in first.place.descriptors
