"""A worker in this process, whose supervisor is the test."""
# ruff: noqa: ASYNC240 - tests may access files from the loop

import asyncio
import logging
import os
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websockets

from tests.support.clients import RawClient, upgrade
from tests.support.stage import Stage, received_close
from tests.support.waiting import wait_until, with_timeout
from tests.support.workers import LoneWorker, lone_worker
from wsaas import journals
from wsaas.delivery.journal import SqliteJournal
from wsaas.delivery.journal_file import Entry, JournalFile, JournalInUse
from wsaas.gateway import Gateway
from wsaas.metrics import shared_rows
from wsaas.metrics.table import METRICS
from wsaas.workers.channel import MAX_LINE
from wsaas.workers.runtime_folder import RuntimeFolder


async def connect(stage: Stage, worker: LoneWorker) -> websockets.ClientConnection:
    """Connect a client, which the backend has accepted."""
    client = await with_timeout(websockets.connect(f"ws://127.0.0.1:{worker.port}/", ping_interval=None))
    stage.stack.push_async_callback(client.close)
    return client


async def connect_raw(stage: Stage, worker: LoneWorker) -> RawClient:
    """Connect a client that does not answer a Close."""
    raw = RawClient(*await with_timeout(asyncio.open_connection("127.0.0.1", worker.port)))
    stage.stack.callback(raw.close)
    raw.send(upgrade())
    assert (await raw.answer()).status == 101
    return raw


def leave_entry(path: Path) -> None:
    """Leave a journal with one connection."""
    file = JournalFile(path)
    file.open()
    file.add([Entry("a" * 30, "node/" + "a" * 30, None, None, 1_700_000_000.0)])
    file.close()


async def test_a_worker_listens_when_it_is_told_to(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path)
    prefix = (await worker.channel.take())["worker"]
    assert (tmp_path / f"{prefix}.sock").is_socket()
    with pytest.raises(ConnectionRefusedError):
        await connect(stage, worker)
    worker.channel.send(peers={prefix: 0, "another8": 1}, version=3)
    assert await worker.channel.take() == {"knows": 3}
    worker.channel.send(listen=True)
    assert await worker.channel.take() == {"listening": [f"127.0.0.1:{worker.port}"]}
    await connect(stage, worker)
    call = await stage.backend.take("POST")
    assert call.client.startswith(prefix)


async def test_a_worker_stops_with_its_supervisor_and_closes_its_clients(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path)
    await worker.listen()
    client = await connect(stage, worker)
    worker.channel.send(stop=True)
    worker.channel.send(stop=True)
    assert await received_close(client) == (1001, "going away")
    assert await worker.status() == 0
    assert [call.method for call in stage.backend.calls] == ["POST", "DELETE"]
    assert await worker.channel.take() is None


async def test_a_worker_that_does_not_listen_yet_can_be_stopped(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path)
    worker.channel.send(stop=True)
    assert "worker" in await worker.channel.take()
    assert await worker.channel.take() is None
    assert await worker.status() == 0


async def test_a_worker_drains_when_its_supervisor_dies_and_removes_what_is_left(stage: Stage, tmp_path: Path) -> None:
    node = RuntimeFolder()
    node.create(tmp_path)
    assert node.lock is not None
    folder = Path(node.path)
    worker = await lone_worker(stage, folder, lock=os.dup(node.lock))
    await worker.listen()
    client = await connect(stage, worker)
    # Its locks end, and nothing is removed.
    node.path = ""
    node.remove()
    await worker.channel.close()
    assert await received_close(client) == (1001, "going away")
    stage.expected_errors.append("the supervisor is gone: stopping")
    assert await worker.status() == 0
    assert not folder.exists()


async def test_a_kept_journal_and_a_folder_in_use_stay_when_the_supervisor_dies(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "another.sock").touch()
    worker = await lone_worker(stage, folder, journal=tmp_path / "journal")
    await worker.listen()
    await worker.channel.close()
    stage.expected_errors.append("the supervisor is gone: stopping")
    assert await worker.status() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.1", "run"]


async def test_a_worker_without_a_supervisor_gives_up_its_addresses_before_it_drains(
    stage: Stage, tmp_path: Path
) -> None:
    worker = await lone_worker(stage, tmp_path, drain_timeout=1_000_000)
    await worker.listen()
    raw = await connect_raw(stage, worker)
    await worker.channel.close()
    assert await raw.closing() == (1001, "going away")
    with pytest.raises(ConnectionRefusedError):
        await connect(stage, worker)
    assert not worker.task.done()
    raw.close()
    stage.expected_errors.append("the supervisor is gone: stopping")
    assert await worker.status() == 0


async def test_a_worker_without_a_supervisor_gives_up_the_unix_sockets_that_it_inherited(
    stage: Stage, tmp_path: Path
) -> None:
    path = str(tmp_path / "clients")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        worker = await lone_worker(
            stage,
            tmp_path,
            sockets={f"unix:{path}": [os.dup(listening.fileno())]},
            listen=f"unix:{path}",
            control_listen="127.0.0.1:0",
        )
        prefix = (await worker.channel.take())["worker"]
        worker.channel.send(peers={prefix: 0}, version=1)
        worker.channel.send(listen=True)
        assert await worker.channel.take() == {"knows": 1}
        assert (await worker.channel.take())["listening"][0] == f"unix:{path}"
    RawClient(*await with_timeout(asyncio.open_unix_connection(path))).close()
    await worker.channel.close()
    stage.expected_errors.append("the supervisor is gone: stopping")
    assert await worker.status() == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(path)


async def test_a_worker_whose_supervisor_ends_while_it_starts_to_listen_gives_up_its_addresses(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = Gateway.listen

    async def listen_late(gateway: Gateway) -> None:
        await listen(gateway)
        await worker.channel.close()
        await wait_until(lambda: "the supervisor is gone: stopping" in stage.messages())

    monkeypatch.setattr(Gateway, "listen", listen_late)
    worker = await lone_worker(stage, tmp_path)
    prefix = (await worker.channel.take())["worker"]
    worker.channel.send(peers={prefix: 0}, version=1)
    worker.channel.send(listen=True)
    stage.expected_errors.append("the supervisor is gone: stopping")
    assert await worker.status() == 0


async def test_a_worker_waits_until_all_journals_for_it_are_free(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_journal = SqliteJournal.open
    refused = set()

    def open_noting_errors(*given: Any, **options: Any) -> list[Entry]:
        try:
            return open_journal(*given, **options)
        except JournalInUse as error:
            refused.add(error.path.name)
            raise

    monkeypatch.setattr(SqliteJournal, "open", open_noting_errors)
    journal = tmp_path / "journal"
    files = [JournalFile(Path(f"{journal}.{number}")) for number in (1, 5)]
    for file, name in zip(files, "ab", strict=True):
        file.open()
        file.add([Entry(name * 30, "node/" + name * 30, None, None, 1_700_000_000.0)])
    worker = await lone_worker(stage, tmp_path, journal=journal, drain_timeout=1_000_000)
    why = "is in use, perhaps by a worker of a supervisor that was killed: waiting for up to 1010 s"
    await wait_until(lambda: stage.messages() == [f"{journal}.1 {why}"], "", stage.messages)
    files[0].close()
    await wait_until(lambda: "journal.5" in refused)
    assert stage.backend.calls == []
    files[1].close()
    found = {(await stage.backend.take("DELETE")).client[0] for _ in files}
    assert found == {"a", "b"}
    await worker.listen()
    assert len(stage.messages()) == 1


async def test_a_worker_that_waits_for_its_journal_can_be_stopped(stage: Stage, tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "journal.1")
    file.open()
    worker = await lone_worker(stage, tmp_path)
    await wait_until(stage.messages)
    worker.channel.send(stop=True)
    stage.expected_errors.append("cannot use the journal: ")
    assert await worker.status() == 1
    file.close()


async def test_a_worker_does_not_wait_for_other_journals_without_end(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "DRAIN_GRACE_S", 0.0)
    other = JournalFile(tmp_path / "journal.5")
    other.open()
    worker = await lone_worker(stage, tmp_path, journal=tmp_path / "journal", drain_timeout=300)
    await worker.listen()
    assert [message.partition(": ")[0] for message in stage.messages()] == [
        f"{tmp_path}/journal.5 is in use, perhaps by a worker of a supervisor that was killed",
        f"the journal {tmp_path}/journal.5 has no worker, and its DELETEs cannot be sent",
    ]
    other.close()


async def test_a_worker_that_is_told_to_hurry_cuts_its_drain_short(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path, drain_timeout=1_000_000)
    await worker.listen()
    await connect(stage, worker)
    stage.backend.hold("DELETE")
    worker.channel.send(stop=True)
    await stage.backend.take("DELETE")
    worker.channel.send(hurry=True)
    stage.expected_errors.append("stopped before the DELETE was delivered")
    assert await worker.status() == 1


async def test_a_stop_of_the_node_does_not_count_as_a_second_sigterm(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path, drain_timeout=1_000_000)
    await worker.listen()
    raw = await connect_raw(stage, worker)
    worker.worker.terminate()
    worker.channel.send(stop=True)
    worker.channel.send(peers={}, version=2)
    assert await worker.channel.take() == {"knows": 2}
    assert not worker.task.done()
    raw.close()
    assert await worker.status() == 0


async def test_a_second_sigterm_cuts_the_drain_short_and_leaves_the_rest_to_the_successor(
    stage: Stage, tmp_path: Path
) -> None:
    worker = await lone_worker(stage, tmp_path, drain_timeout=1_000_000)
    await worker.listen()
    await connect(stage, worker)
    stage.backend.hold("DELETE")
    worker.worker.terminate()
    await stage.backend.take("DELETE")
    assert not worker.task.done()
    worker.worker.terminate()
    assert await worker.status() == 0
    assert "stopping: 1 DELETE is left for the next start" in stage.messages()
    stage.backend.release()
    successor = await lone_worker(stage, tmp_path)
    await successor.channel.take()
    assert (await stage.backend.take("DELETE")).json["code"] == 1001


async def test_a_worker_sends_the_deletes_of_its_predecessor_before_it_listens(stage: Stage, tmp_path: Path) -> None:
    leave_entry(tmp_path / "journal.1")
    worker = await lone_worker(stage, tmp_path)
    assert (await stage.backend.take("DELETE")).client == "a" * 30
    await worker.listen()


async def test_a_stop_waits_for_the_deletes_of_a_predecessor(stage: Stage, tmp_path: Path) -> None:
    leave_entry(tmp_path / "journal.1")
    await stage.backend.start()
    stage.backend.hold("DELETE")
    worker = await lone_worker(stage, tmp_path)
    await worker.listen()
    call = await stage.backend.take("DELETE")
    worker.channel.send(stop=True)
    await wait_until(lambda: any("1 DELETE to deliver" in each for each in stage.messages(logging.INFO)))
    call.ok()
    assert await worker.status() == 0


async def test_deletes_of_a_predecessor_that_cannot_be_delivered_are_reported(stage: Stage, tmp_path: Path) -> None:
    leave_entry(tmp_path / "journal.1")
    worker = await lone_worker(stage, tmp_path, api_uri="127.0.0.1:9/hook", drain_timeout=50)
    await worker.listen()
    worker.channel.send(stop=True)
    stage.expected_errors.append("stopped before the DELETE was delivered")
    assert await worker.status() == 1


async def test_a_kept_journal_keeps_the_deletes_of_a_predecessor(stage: Stage, tmp_path: Path) -> None:
    leave_entry(tmp_path / "journal.1")
    worker = await lone_worker(stage, tmp_path, api_uri="127.0.0.1:9/hook", journal=tmp_path / "journal")
    await worker.listen()
    worker.channel.send(stop=True)
    assert await worker.status() == 0
    file = JournalFile(tmp_path / "journal.1")
    assert [entry.id for entry in file.open()] == ["a" * 30]
    file.close()


async def test_the_first_worker_adopts_the_journal_of_a_single_process(stage: Stage, tmp_path: Path) -> None:
    leave_entry(tmp_path / "journal")
    worker = await lone_worker(stage, tmp_path, journal=tmp_path / "journal")
    assert (await stage.backend.take("DELETE")).client == "a" * 30
    await worker.listen()
    assert not (tmp_path / "journal").exists()


async def test_a_worker_reloads_files_when_it_is_told_to(stage: Stage, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    worker = await lone_worker(stage, tmp_path, control_token_file=token)
    await worker.listen()
    worker.channel.send(reload=7)
    worker.channel.send(unknown=True)
    await wait_until(lambda: any(each.startswith("reloaded: ") for each in stage.messages(logging.INFO)))


async def test_a_worker_answers_a_ping(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path)
    await worker.listen()
    worker.channel.send(ping=True)
    assert await worker.channel.take() == {"pong": True}


async def test_a_worker_ends_if_its_supervisor_sends_no_message(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path)
    await worker.listen()
    worker.channel.send_bytes(b"x" * (MAX_LINE + 1))
    stage.expected_errors.append("the supervisor is gone: stopping")
    assert await worker.status() == 0


async def test_a_worker_that_cannot_use_its_journal_ends(stage: Stage, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.1")) as other:
        other.execute("CREATE TABLE cats (name TEXT)")
    worker = await lone_worker(stage, tmp_path)
    stage.expected_errors.append("cannot use the journal: ")
    assert await worker.status() == 1
    assert await worker.channel.take() is None


async def test_a_worker_without_its_folder_ends(stage: Stage, tmp_path: Path) -> None:
    worker = await lone_worker(stage, tmp_path / "missing", journal=tmp_path / "journal")
    stage.expected_errors.append(f"cannot listen on unix:{tmp_path}/missing/")
    assert await worker.status() == 1


async def test_a_worker_without_its_certificate_ends(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = await lone_worker(stage, tmp_path, tls_cert="/nowhere/cert", tls_key="/nowhere/key")
    assert await worker.status() == 2
    assert capsys.readouterr().err == "wsaas: TLS_CERT='/nowhere/cert': cannot be read: No such file or directory\n"


async def test_a_worker_stores_what_it_has_counted_for_its_successor(stage: Stage, tmp_path: Path) -> None:
    descriptor = shared_rows.create(2)
    stage.stack.callback(os.close, descriptor)
    for number in (1, 2):
        worker = await lone_worker(stage, tmp_path, metrics=descriptor)
        await worker.listen()
        raw = await connect_raw(stage, worker)
        raw.close()
        await stage.backend.take("DELETE")
        await worker.end()
        other = shared_rows.SharedRows(descriptor, 1, 2)
        names = [metric.name for metric in METRICS for _ in range(metric.width)]
        assert other.read_total(0)[names.index("wsaas_handshakes_total")] == number
        other.close()
