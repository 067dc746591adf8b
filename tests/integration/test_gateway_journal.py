"""The gateway with a journal: its entries, the DELETEs of an earlier gateway, and stops."""

import asyncio
import logging
import os
import signal
import socket
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.backend import Call
from tests.support.clients import upgrade
from tests.support.journal import read_journal, write_journal
from tests.support.network_namespace import full_backlog
from tests.support.stage import Node, Stage
from tests.support.waiting import wait_until, wait_until_stable, with_timeout
from wsaas import settings
from wsaas.cli.signals import install_signal_handlers
from wsaas.delivery import recovery
from wsaas.delivery.journal import Entry, JournalError
from wsaas.sessions import drain


def unstarted(stage: Stage, **chosen: object) -> Node:
    """Return a node that the test starts itself, if at all."""
    given = {"api_uri": "127.0.0.1:9/hook", "listen": "127.0.0.1:0"}
    node = Node(stage, settings.load({**given, **{name: str(value) for name, value in chosen.items()}}, {}))
    stage.nodes.append(node)
    return node


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list["Database"]:
    """The databases that journals opened, in order. They are locked: no other connection can read them."""
    databases: list[Database] = []
    connect = sqlite3.connect

    def connect_and_remember(*arguments: Any, **options: Any) -> Database:
        databases.append(connect(*arguments, **options, factory=Database))
        return databases[-1]

    monkeypatch.setattr(sqlite3, "connect", connect_and_remember)
    return databases


# Entries.


async def test_a_connection_is_in_the_journal_until_its_delete_is_answered(
    stage: Stage, path: Path, opened: list[sqlite3.Connection]
) -> None:
    stage.backend.hold("POST", "DELETE")
    node = await stage.node(journal=path)
    connecting = asyncio.ensure_future(node.connect(additional_headers={"Authorization": "Bearer x"}))
    post = await stage.backend.take("POST")
    (connection,) = opened

    def rows() -> list[tuple[object, ...]]:
        # The test waits between the writes of the journal's thread, so that it shares no transaction.
        return connection.execute("SELECT id, authorization, context, farewell FROM connections").fetchall()

    assert rows() == [(post.client, b"Bearer x", None, None)]
    post.ok(context="cart=7")
    client = await with_timeout(connecting)
    await wait_until(lambda: rows() == [(post.client, b"Bearer x", "cart=7", None)])
    await client.close()
    delete = await stage.backend.take("DELETE")
    assert rows() == [(post.client, b"Bearer x", "cart=7", None)]
    delete.ok()
    await wait_until(lambda: rows() == [])
    assert await node.drain()
    assert read_journal(path) == []
    assert path.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240


@pytest.mark.parametrize(("sync", "synchronous"), [("normal", 1), ("full", 2)])
async def test_journal_sync_decides_whether_a_write_waits_for_the_disk(
    stage: Stage, path: Path, opened: list[sqlite3.Connection], sync: str, synchronous: int
) -> None:
    await stage.node(journal=path, journal_sync=sync)
    (connection,) = opened
    assert connection.execute("PRAGMA synchronous").fetchone() == (synchronous,)


class Database(sqlite3.Connection):
    """A database whose disk can be full."""

    is_full = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.is_full and not sql.startswith("ROLLBACK"):
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, parameters)


async def test_a_client_that_cannot_be_journaled_is_refused_without_a_post(
    stage: Stage, path: Path, opened: list[Database]
) -> None:
    stage.expected_errors = ["cannot be written: database or disk is full"]
    node = await stage.node(journal=path)
    (database,) = opened
    database.is_full = True
    raw = await node.raw()
    raw.send(upgrade())
    answer = await raw.answer()
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
    database.is_full = False
    client, name = await node.admit()
    assert stage.backend.count("POST") == 1
    await client.close()
    assert (await stage.backend.take("DELETE")).client == name
    assert await node.drain()


# An earlier gateway.


async def test_the_deletes_that_an_earlier_gateway_left_are_sent_beside_normal_service(
    stage: Stage, path: Path
) -> None:
    write_journal(
        path,
        Entry("lost", "old/lost", b"Bearer x", "cart=7", 1_700_000_000.0),
        Entry("ended", "old/ended", None, None, 1_700_000_001.0, 1_700_000_002.0, b'{"code":1000}'),
    )
    node = await stage.node(journal=path)
    client, name = await node.admit()
    lost = await stage.backend.take("DELETE", client="lost")
    assert lost.headers["ce-id"] == "lost:end"
    assert lost.headers["authorization"] == "Bearer x"
    assert lost.headers["ws-context"] == "cart=7"
    assert lost.ws_uri == "old/lost"
    assert (lost.json["code"], lost.json["reason"]) == (1006, "gateway lost")
    ended = await stage.backend.take("DELETE", client="ended")
    assert ended.headers["ce-id"] == "ended:end"
    assert ended.body == b'{"code":1000}'
    await client.close()
    assert (await stage.backend.take("DELETE", client=name)).event == "end"
    assert await node.drain()
    assert read_journal(path) == []
    assert "an earlier process left 2 connections: sending the DELETEs" in stage.messages(logging.INFO)


async def test_deletes_that_are_not_sent_before_a_stop_stay_for_the_next_start(stage: Stage, path: Path) -> None:
    write_journal(path, *(Entry(f"c{number}", f"old/c{number}", None, None, float(number)) for number in range(20)))
    stage.backend.hold("DELETE")
    node = await stage.node(journal=path)
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 16)
    (first, *_) = stage.backend.calls
    first.ok()
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 17)
    assert await node.drain()
    left = read_journal(path)
    assert [entry.id for entry in left] == [f"c{number}" for number in range(20) if f"c{number}" != first.client]
    # The backend may have received the sent DELETEs: they are repeated byte for byte.
    sent = {call.client: call.body for call in stage.backend.calls if call.client != first.client}
    assert {entry.id: entry.disconnect_body for entry in left if entry.disconnect_body is not None} == sent
    stage.backend.release()
    again = await stage.node(journal=path)
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 17 + 19)
    assert sent.items() <= {call.client: call.body for call in stage.backend.calls[17:]}.items()
    assert await again.drain()
    assert read_journal(path) == []


# A journal that cannot be used.


async def test_a_journal_that_another_gateway_uses_stops_the_start(stage: Stage, path: Path) -> None:
    node = await stage.node(journal=path)
    second = unstarted(stage, journal=path)
    with pytest.raises(JournalError, match="another process uses it"):
        await second.gateway.start()
    assert second.gateway.addresses == []
    assert (await node.rest("GET", "/readyz")).status == 200


async def test_a_damaged_journal_is_set_aside_and_the_gateway_starts(stage: Stage, path: Path) -> None:
    stage.expected_errors = [f"{path}: damaged"]
    path.write_bytes(b"nonsense" * 1000)  # noqa: ASYNC240
    node = await stage.node(journal=path)
    client, _ = await node.admit()
    await client.close()
    await stage.backend.take("DELETE")
    (aside,) = path.parent.glob("journal.damaged-*")
    assert aside.read_bytes() == b"nonsense" * 1000


async def test_a_start_that_fails_on_a_taken_port_releases_the_journal(stage: Stage, path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = unstarted(stage, journal=path, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            await node.gateway.start()
    assert read_journal(path) == []


async def test_a_gateway_with_a_journal_may_be_drained_before_it_was_started(stage: Stage, path: Path) -> None:
    assert await unstarted(stage, journal=path).drain()
    assert not path.exists()  # noqa: ASYNC240


# Drain.


async def test_a_drain_logs_its_phases_with_counts(stage: Stage, path: Path) -> None:
    node = await stage.node(journal=path, drain_timeout=4000)
    stage.backend.hold("DELETE")
    clients = [(await node.admit())[0] for _ in range(3)]
    before = len(stage.messages(logging.INFO))
    draining = asyncio.ensure_future(node.gateway.drain())
    for client in clients:
        await with_timeout(client.wait_closed())
    await stage.backend.wait(lambda: stage.backend.count("DELETE") == 3)
    await wait_until(lambda: len(stage.messages(logging.INFO)) == before + 5)
    assert stage.messages(logging.INFO)[before:] == [
        "stopping within 4 s: /readyz answers 503, 3 clients to close",
        *["connection closed"] * 3,
        "stopping: 3 DELETEs to deliver",
    ]
    stage.backend.release()
    assert await with_timeout(draining)
    node.drained = True
    assert stage.messages(logging.INFO)[-1] == "stopped"


async def test_a_node_that_drains_is_not_ready_and_refuses_clients_while_it_sends_deletes(
    stage: Stage, path: Path
) -> None:
    node = await stage.node(journal=path)
    idle = await node.raw()
    stage.backend.hold("DELETE")
    await node.connect()
    draining = asyncio.ensure_future(node.gateway.drain())
    await stage.backend.take("DELETE")
    idle.send(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await idle.answer()).status == 503
    raw = await node.raw()
    raw.send(upgrade())
    answer = await raw.answer()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    stage.backend.release()
    assert await with_timeout(draining)
    node.drained = True


async def test_connections_in_the_journal_are_no_error_when_a_drain_is_cut_short(stage: Stage, path: Path) -> None:
    node = await stage.node(journal=path, drain_timeout=60_000)
    stage.backend.hold("DELETE")
    names = {(await node.admit())[1] for _ in range(5)}
    install_signal_handlers(asyncio.get_running_loop(), node.gateway)
    running = asyncio.ensure_future(node.gateway.run())
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await stage.backend.take("DELETE")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await with_timeout(running)
    node.drained = True
    stage.nodes.remove(node)
    left = read_journal(path)
    assert {entry.id for entry in left} == names
    assert "stopping: 5 DELETEs are left for the next start" in stage.messages()
    assert stage.messages(logging.ERROR) == []
    # The next start sends them.
    stage.backend.release()
    again = await stage.node(journal=path)
    await wait_until(lambda: again.statistics.recovered_disconnects_owed == 0)
    assert await again.drain()
    assert read_journal(path) == []


async def test_connections_in_the_journal_are_no_error_when_a_drain_times_out(stage: Stage, path: Path) -> None:
    node = await stage.node(journal=path, drain_timeout=200)
    stage.backend.hold("DELETE")
    _, name = await node.admit()
    assert await node.drain()
    stage.nodes.remove(node)
    (left,) = read_journal(path)
    assert left.id == name
    assert left.disconnect_body is not None
    assert orjson.loads(left.disconnect_body)["code"] == 1001
    assert stage.messages(logging.ERROR) == []


async def test_undelivered_messages_are_an_error_although_the_delete_is_in_the_journal(
    stage: Stage, path: Path
) -> None:
    node = await stage.node(journal=path, drain_timeout=200)
    stage.backend.hold("PUT")
    client, name = await node.admit()
    for number in range(3):
        await client.send(str(number))
    await stage.backend.take("PUT")
    await wait_until(lambda: node.session(name).info.messages_in == 3)
    stage.expected_errors = [f"/{name}: stopped before the DELETE was delivered (3 messages lost)"]
    assert not await node.drain()
    assert len(stage.messages(logging.ERROR)) == 1
    (left,) = read_journal(path)
    # Its DELETE was not yet known: the next start sends one that says that the gateway was lost.
    assert (left.id, left.disconnect_body) == (name, None)


async def test_a_delete_for_a_post_without_an_answer_when_a_drain_times_out_is_sent_at_the_next_start(
    stage: Stage, path: Path
) -> None:
    node = await stage.node(journal=path, drain_timeout=200)
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    post = await stage.backend.take("POST")
    assert await node.drain()
    stage.nodes.remove(node)
    assert (await raw.answer()).status == 503
    assert [entry.id for entry in read_journal(path)] == [post.client]


async def test_without_a_journal_each_unsent_delete_is_an_error_that_names_the_client(stage: Stage) -> None:
    node = await stage.node(drain_timeout=200)
    stage.backend.hold("DELETE")
    names = [(await node.admit())[1] for _ in range(2)]
    stage.expected_errors = ["stopped before the DELETE was delivered (0 messages lost)"]
    assert not await node.drain()
    errors = stage.messages(logging.ERROR)
    assert len(errors) == 2
    assert all(any(name in error for error in errors) for name in names)


# What could delay a stop.


async def test_without_an_interval_all_clients_are_closed_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "MAX_CLOSE_INTERVAL_S", 0.0)
    node = await stage.node()
    clients = [await node.connect() for _ in range(5)]
    assert await node.drain()
    assert {client.close_code for client in clients} == {1001}
    assert stage.backend.count("DELETE") == 5


async def test_a_connect_to_the_backend_does_not_delay_a_stop(stage: Stage) -> None:
    stage.expected_errors = ["stopped before the DELETE was delivered (0 messages lost)"]
    port = await stage.stack.enter_async_context(full_backlog())
    node = await stage.node(backend=None, api_uri=f"127.0.0.1:{port}/hook", drain_timeout=200)
    raw = await node.raw()
    raw.send(upgrade())
    await wait_until(lambda: node.statistics.backend_connections_opening)
    assert not await node.drain()
    assert node.statistics.backend_connections_opening == 0
    assert (await raw.answer()).status == 503


async def test_a_caller_that_does_not_read_its_answers_does_not_delay_a_stop(stage: Stage) -> None:
    node = await stage.node()
    raw = await node.raw(receive=4096)
    raw.transport.pause_reading()
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    await wait_until(lambda: node.statistics.accepted_connections == 1)
    raw.send(request * 200_000)
    # The gateway stops reading the caller while its answers wait.
    assert await wait_until_stable(raw.unsent) > 0
    assert await node.drain()
    assert node.statistics.accepted_connections == 0


# A file that was removed.


async def test_a_removed_journal_is_noticed_and_rewritten_while_clients_stay(stage: Stage, path: Path) -> None:
    stage.expected_errors = ["is damaged: journal was removed"]
    node = await stage.node(journal=path)
    client, name = await node.admit()
    stage.backend.hold("DELETE")
    gone, ended = await node.admit()
    await gone.close()
    await stage.backend.take("DELETE", client=ended)
    path.unlink()  # noqa: ASYNC240
    start = asyncio.get_running_loop().time()
    await wait_until(lambda: any("was rewritten" in message for message in stage.messages()))
    assert asyncio.get_running_loop().time() - start < 1.5
    await client.send("still here")
    assert (await stage.backend.take("PUT")).client == name
    _, new = await node.admit()
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        copy.with_name(f"copy{suffix}").write_bytes(path.with_name(f"journal{suffix}").read_bytes())
    assert {entry.id for entry in read_journal(copy)} == {name, ended, new}
    stage.backend.release()
    assert await node.drain()
    assert read_journal(path) == []


async def test_while_another_file_is_in_the_place_of_the_journal_clients_are_refused_and_a_stop_reports_it(
    stage: Stage, path: Path
) -> None:
    stage.expected_errors = ["was replaced by another file", "is another file now", "is incomplete"]
    node = await stage.node(journal=path)
    client, name = await node.admit()
    path.unlink()  # noqa: ASYNC240
    path.write_bytes(b"precious")  # noqa: ASYNC240
    await wait_until(lambda: any("cannot be rewritten" in message for message in stage.messages()))
    raw = await node.raw()
    raw.send(upgrade())
    answer = await raw.answer()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    await client.send("still here")
    assert (await stage.backend.take("PUT")).client == name
    assert not await node.drain()
    stage.nodes.remove(node)
    assert path.read_bytes() == b"precious"  # noqa: ASYNC240
    (last,) = [message for message in stage.messages(logging.ERROR) if "is incomplete" in message]
    assert "1 change is not written" in last


# DELETEs that were given up.


@pytest.mark.pure  # replaces a constant of a compiled module
async def test_a_delete_that_was_given_up_is_retried_without_a_restart(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RETRY_INTERVAL_S", 0.2)
    stage.expected_errors = ["the backend was not told that this connection ended"]
    node = await stage.node(journal=path, api_retry=10)
    stage.backend.on["DELETE"] = lambda call: call.answer(500)
    client, name = await node.admit(additional_headers={"Authorization": "Bearer x"})
    await client.close(4001, "tired")
    first = await stage.backend.take("DELETE")
    await wait_until(lambda: node.statistics.recovered_disconnects_owed == 1)
    assert node.statistics.disconnects_owed == 0
    stage.backend.on["DELETE"] = Call.ok
    await wait_until(lambda: node.statistics.recovered_disconnects_owed == 0)
    last = [call for call in stage.backend.of(name) if call.method == "DELETE"][-1]
    assert (last.headers["ce-id"], last.body) == (f"{name}:end", first.body)
    assert last.headers["ce-time"] == first.headers["ce-time"]
    assert last.headers["authorization"] == "Bearer x"
    assert await node.drain()
    assert read_journal(path) == []


async def test_a_delete_that_was_given_up_is_sent_at_the_next_start_too(stage: Stage, path: Path) -> None:
    stage.expected_errors = ["the backend was not told that this connection ended"]
    node = await stage.node(journal=path, api_retry=10)
    stage.backend.on["DELETE"] = lambda call: call.answer(500)
    client, name = await node.admit()
    await client.close(4001, "tired")
    await wait_until(lambda: node.statistics.recovered_disconnects_owed == 1)
    assert await node.drain()
    (left,) = read_journal(path)
    assert (left.id, left.disconnect_body is not None) == (name, True)


async def test_without_a_journal_a_delete_that_was_given_up_is_not_kept(stage: Stage) -> None:
    stage.expected_errors = ["the backend was not told that this connection ended"]
    node = await stage.node(api_retry=10)
    stage.backend.on["DELETE"] = lambda call: call.answer(500)
    client, _ = await node.admit()
    await client.close()
    await wait_until(lambda: stage.messages(logging.ERROR))
    assert node.statistics.recovered_disconnects_owed == 0
    assert await node.drain()


# A POST that takes longer than API_TIMEOUT.


async def test_a_delete_does_not_overtake_its_post_that_timed_out(stage: Stage) -> None:
    node = await stage.node(api_timeout=300)
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    post = await stage.backend.take("POST")
    loop = asyncio.get_running_loop()
    assert (await raw.answer()).status == 504
    refused = loop.time()
    delete = await stage.backend.take("DELETE")
    assert loop.time() - refused >= 0.25
    assert (delete.client, delete.event) == (post.client, "end")


async def test_a_stop_does_not_wait_before_the_delete_of_a_post_that_timed_out(stage: Stage) -> None:
    node = await stage.node(api_timeout=1000)
    stage.backend.hold("POST")
    raw = await node.raw()
    raw.send(upgrade())
    await stage.backend.take("POST")
    assert (await raw.answer()).status == 504
    refused = asyncio.get_running_loop().time()
    assert stage.backend.count("DELETE") == 0
    assert await node.drain()
    assert stage.backend.count("DELETE") == 1
    assert asyncio.get_running_loop().time() - refused < 1.0, "without a stop it would be API_TIMEOUT"
