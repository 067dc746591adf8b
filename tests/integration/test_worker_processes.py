"""A supervisor and three workers, each in a process of its own."""
# ruff: noqa: ASYNC240 - tests may access files from the loop

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificate_authority import CertificateAuthority
from tests.support.clients import RawClient
from tests.support.command import ThreadedBackend, connect_client, read_to_end, run_wsaas
from tests.support.frames import TEXT, frame
from tests.support.ports import free_port
from tests.support.processes import MAX_CLIENTS, WORKERS, Client, WorkersNode, is_alive, workers
from tests.support.stage import Stage
from tests.support.waiting import TIMEOUT_S, wait_until, with_timeout
from wsaas.cli import workers as workers_command
from wsaas.cli.main import main
from wsaas.shared_counts import create
from wsaas.worker_place import PLACE_VARIABLE, WorkerPlace

DEATH_TIMEOUT_S = 2.0
"""Seconds after the end of a worker in which the backend gets the DELETEs of its clients."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_three_workers_serve_clients_and_rest_requests_on_one_port(stage: Stage, log: Path) -> None:
    async with workers(stage, log) as node:
        clients = await node.spread()
        assert [(await node.ask("GET", "/readyz")).status for _ in range(10)] == [200] * 10
        for client in clients:
            assert client.ws_uri == f"127.0.0.1:{node.process.port}/{client.name}"
            answer = await node.ask("PUT", f"/{client.name}", client.name.encode())
            assert answer.status == 200, answer
        for client in clients:
            assert await client.raw.frame() == (TEXT, client.name.encode())
            client.raw.send(frame(TEXT, b"hi"))
        await node.backend.wait(lambda: node.backend.count("PUT") == len(clients))
        assert await node.process.stop() == 0
        await node.deletes(clients)


async def test_the_deletes_of_a_killed_worker_come_at_once_and_the_others_notice_nothing(
    stage: Stage, log: Path
) -> None:
    async with workers(stage, log) as node:
        clients = await node.spread()
        lost = [client for client in clients if client.worker == clients[0].worker]
        others = [client for client in clients if client not in lost]
        loop = asyncio.get_running_loop()
        start = loop.time()
        await node.kill_worker_of(lost[0])
        await node.deletes(lost)
        assert loop.time() - start < DEATH_TIMEOUT_S
        assert {call.json["reason"] for call in node.backend.calls if call.method == "DELETE"} == {"gateway lost"}
        for client in others:
            client.raw.send(frame(TEXT, b"still here"))
        await node.backend.wait(lambda: node.backend.count("PUT") == len(others))
        for client in others:
            assert (await node.ask("PUT", f"/{client.name}", b"you too")).status == 200
            assert await client.raw.frame() == (TEXT, b"you too")
        for client in lost:
            assert (await node.ask("PUT", f"/{client.name}", b"gone")).status == 410
        newcomers = await node.spread()
        assert lost[0].worker not in {client.worker for client in newcomers}
        assert await node.process.stop() == 0
        await node.deletes([*clients, *newcomers])


async def test_sigterm_drains_all_workers(stage: Stage, log: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    async with workers(stage, log, xdg_runtime_dir=runtime) as node:
        clients = await node.spread()
        pids = node.pids()
        assert len([*runtime.iterdir()]) == 1
        node.program.terminate()
        for client in clients:
            assert await client.raw.closing() == (1001, "going away")
            client.raw.close()
        assert await node.program.wait() == 0
        await node.deletes(clients)
        assert not any(map(is_alive, pids))
        assert list(runtime.iterdir()) == []
        assert node.program.said().rstrip().endswith("INFO stopped")


async def test_a_signal_to_all_processes_is_one_stop(stage: Stage, log: Path) -> None:
    async with workers(stage, log) as node:
        clients = await node.spread()
        for pid in (*node.pids(), node.program.pid):
            os.kill(pid, signal.SIGTERM)
        for client in clients:
            assert await client.raw.closing() == (1001, "going away")
            client.raw.close()
        assert await node.program.wait() == 0
        await node.deletes(clients)


async def test_sigterm_to_one_worker_replaces_it(stage: Stage, log: Path) -> None:
    async with workers(stage, log) as node:
        clients = await node.spread()
        lost = [client for client in clients if client.worker == clients[0].worker]
        await_close = [asyncio.ensure_future(client.raw.closing()) for client in lost]
        killing = asyncio.ensure_future(node.kill_worker_of(lost[0], signal.SIGTERM))
        for close in await_close:
            assert await close == (1001, "going away")
        # The worker waits for its clients to close, and new clients get to the others meanwhile.
        for _ in range(10):
            clients.append(await node.connect())
        for client in lost:
            client.raw.close()
        await killing
        await node.deletes(lost)
        assert "ended with status 0: its successor starts at once" in node.program.said()
        assert await node.process.stop() == 0
        await node.deletes(clients)


async def test_sighup_reloads_the_certificate_in_all_workers(stage: Stage, log: Path, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    old = authority.issue("127.0.0.1")
    async with workers(stage, log, tls_cert=old["tls_cert"], tls_key=old["tls_key"]) as node:
        open_before = await node.spread(lambda: tls_client(node, authority))
        expected = certificate(old["tls_cert"])
        assert {shown_certificate(client) for client in open_before} == {expected}
        new = authority.issue("127.0.0.1")
        os.kill(node.program.pid, signal.SIGHUP)
        await wait_until(lambda: node.program.said().count("reloaded: TLS_CERT=") == WORKERS, "", node.program.said)
        reloaded = re.findall(r"INFO (worker \d): reloaded", node.program.said())
        assert sorted(reloaded) == ["worker 1", "worker 2", "worker 3"]
        clients = await node.spread(lambda: tls_client(node, authority))
        assert {client.worker for client in clients} == {client.worker for client in open_before}
        assert {shown_certificate(client) for client in clients} == {certificate(new["tls_cert"])} != {expected}
        # The connections from before are not affected.
        for client in open_before:
            client.raw.send(frame(TEXT, b"still here"))
        await node.backend.wait(lambda: node.backend.count("PUT") == len(open_before))


async def tls_client(node: WorkersNode, authority: CertificateAuthority) -> RawClient:
    """Return a client that has made a TLS handshake, without a session of an earlier one."""
    connecting = asyncio.open_connection("127.0.0.1", node.process.port, ssl=authority.client())
    raw = RawClient(*await with_timeout(connecting))
    node.process.stage.stack.callback(raw.close)
    return raw


def shown_certificate(client: Client) -> bytes:
    """Return the certificate that the worker of `client` has shown."""
    shown: bytes = client.raw.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return shown


def certificate(path: Path) -> bytes:
    """Return the first certificate in a file."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(path.read_text().partition(end)[0] + end)


async def test_the_workers_drain_and_leave_when_the_supervisor_is_killed(
    stage: Stage, log: Path, tmp_path: Path
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    async with workers(stage, log, xdg_runtime_dir=runtime) as node:
        clients = await node.spread()
        pids = node.pids()
        node.program.kill()
        for client in clients:
            assert await client.raw.closing() == (1001, "going away")
            client.raw.close()
        await node.deletes(clients)
        await wait_until(lambda: not any(map(is_alive, pids)), "the workers to leave")
        assert list(runtime.iterdir()) == []


async def test_a_journal_survives_a_kill_of_all_processes_and_fewer_workers(
    stage: Stage, log: Path, tmp_path: Path
) -> None:
    async with workers(stage, log, journal=tmp_path / "journal") as node:
        clients = await node.spread()
        pids = node.pids()
        # Stopped first, the supervisor does not start a successor.
        for pid in (node.program.pid, *pids):
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        node.program.kill()
        assert {path.name for path in tmp_path.glob("journal.?")} == {"journal.1", "journal.2", "journal.3"}
        await node.program.start("--workers=1")
        await node.deletes(clients)
        assert {path.name for path in tmp_path.glob("journal*")} <= {"journal", "journal-wal", "journal-shm"}
        assert await node.process.stop() == 0


async def test_clients_of_all_workers_share_a_unix_socket(stage: Stage, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "clients"
    control = free_port()
    options = {"listen": f"unix:{path}", "control_listen": f"127.0.0.1:{control}", "listen_mode": "600"}
    async with workers(stage, log, **options) as node:
        assert path.stat().st_mode & 0o777 == 0o600
        clients: list[Client] = []
        # The kernel wakes up all workers, and any of them takes the client.
        while len({client.worker for client in clients}) < WORKERS:
            assert len(clients) < MAX_CLIENTS
            raws = [RawClient(*await asyncio.open_unix_connection(path)) for _ in range(10)]
            for raw in raws:
                stage.stack.callback(raw.close)
            clients += await asyncio.gather(*map(node.connect, raws))
        client = clients[0]
        assert (await node.ask("PUT", f"/{client.name}", b"hello", control)).status == 200
        assert await client.raw.frame() == (TEXT, b"hello")
        assert await node.process.stop() == 0
        await node.deletes(clients)
    assert not path.exists()


async def test_each_ws_uri_names_the_port_of_its_worker(stage: Stage, log: Path) -> None:
    first = free_port()
    port = free_port()
    options = {
        "ws_hostname": "127.0.0.1:{port}",
        "listen": f"127.0.0.1:{port}",
        "control_listen": f"127.0.0.1:{first}-{first + WORKERS - 1}",
    }
    async with workers(stage, log, **options) as node:
        node.process.port = port
        clients = await node.spread()
        ports = {client.worker: client.port for client in clients}
        assert sorted(ports.values()) == [first, first + 1, first + 2]
        for client in clients:
            answer = await node.ask("PUT", f"/{client.name}", b"hello", ports[client.worker])
            assert answer.status == 200
            assert client.ws_uri == f"127.0.0.1:{ports[client.worker]}/{client.name}"
            assert await client.raw.frame() == (TEXT, b"hello")
        # A successor gets the same port.
        before = clients[0]
        await node.kill_worker_of(before)
        successors = [client for client in await node.spread() if client.worker not in ports]
        assert {client.ws_uri.partition("/")[0] for client in successors} == {before.ws_uri.partition("/")[0]}


async def test_workers_count_clients_together(stage: Stage, log: Path) -> None:
    async with workers(stage, log, max_connections=10) as node:
        clients = [await node.connect() for _ in range(10)]
        assert len({client.worker for client in clients}) > 1
        for _ in range(10):
            _, status = await node.process.try_upgrade()
            assert status == 503
        lost = [client for client in clients if client.worker == clients[0].worker]
        await node.kill_worker_of(lost[0])
        for _ in lost:
            await node.connect()
        _, status = await node.process.try_upgrade()
        assert status == 503


async def test_workers_count_the_connections_of_an_address_together(stage: Stage, log: Path) -> None:
    async with workers(stage, log, max_connections_per_address=10) as node:
        clients = [await node.connect() for _ in range(10)]
        assert len({client.worker for client in clients}) > 1
        for _ in range(10):
            _, status = await node.process.try_upgrade()
            assert status == 429


# The command.


def test_a_taken_port_is_status_1_and_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_wsaas(API_URI="localhost:8000/x", WS_HOSTNAME=address, WORKERS="2", XDG_RUNTIME_DIR=str(tmp_path))
    assert done.returncode == 1
    assert re.fullmatch(rf"\S+ ERROR cannot listen on {re.escape(address)}: Address already in use\n", done.stderr)


def test_a_file_that_cannot_be_used_is_status_2_and_one_line() -> None:
    done = run_wsaas("--workers=2", API_URI="localhost:8000/x", TLS_CERT="/nowhere/a", TLS_KEY="/nowhere/b")
    assert done.returncode == 2
    assert done.stderr == "wsaas: TLS_CERT='/nowhere/a': cannot be read: No such file or directory\n"


def test_a_journal_in_use_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "journal.2").mkdir()
    journal = str(tmp_path / "journal")
    done = run_wsaas(API_URI="localhost:8000/x", LISTEN="127.0.0.1:0", WORKERS="2", JOURNAL=journal)
    assert done.returncode == 1
    assert re.search(rf"ERROR worker 2: cannot use the journal: {journal}\.2: ", done.stderr)
    assert re.search(r"ERROR worker 2 \(process \d+\) ended with status 1 before all workers listened", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("_restored_process")
def test_the_supervisor_serves_until_a_signal(
    backend: ThreadedBackend, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    seen: list[bytes] = []
    started = threading.Event()
    report_start = workers_command.report_start

    def visit() -> None:
        assert started.wait(TIMEOUT_S)
        with connect_client(port) as client:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append(read_to_end(client))

    def report(*given: Any) -> None:
        report_start(*given)
        started.set()

    monkeypatch.setattr(workers_command, "report_start", report)
    thread = threading.Thread(target=visit)
    thread.start()
    flags = ["--ws-hostname", f"0.0.0.0:{port}", "--workers", "2"]
    assert main(flags, {"API_URI": backend.uri, "LOG_FORMAT": "json"}) == 0
    thread.join()
    assert b"going away" in seen[0]
    assert backend.methods == ["POST", "DELETE"]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {line.get("process") for line in lines} == {None, "worker 1", "worker 2"}
    (start_line,) = [line for line in lines if line.get("event") == "started"]
    assert f" listening on *:{port} for clients and REST requests; " in start_line["message"]
    assert (start_line["listen"], start_line["control_listen"]) == (f"*:{port}", f"*:{port}")
    assert (start_line["workers"], start_line["journal"], start_line["cluster"]) == (2, "none", "none")
    # Warnings about settings come once, not from each worker.
    assert len([line for line in lines if line["level"] == "WARN"]) == 2


@pytest.mark.usefixtures("_restored_process")
def test_the_supervisor_reports_a_file_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    variables = {"API_URI": "localhost:8000/x", "TLS_CERT": "/nowhere/a", "TLS_KEY": "/nowhere/b", "WORKERS": "2"}
    assert main([], variables) == 2
    assert capsys.readouterr().err == "wsaas: TLS_CERT='/nowhere/a': cannot be read: No such file or directory\n"


@pytest.mark.usefixtures("_restored_process")
def test_a_supervisor_whose_worker_cannot_start_reports_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "journal.2").mkdir()
    variables = {"API_URI": "x:1/", "LISTEN": "127.0.0.1:0", "WORKERS": "2", "JOURNAL": str(tmp_path / "journal")}
    assert main([], variables) == 1
    assert " listening on " not in capfd.readouterr().err


@pytest.mark.usefixtures("_restored_process")
def test_a_worker_serves_until_a_signal(
    backend: ThreadedBackend, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    ours, theirs = socket.socketpair()
    place = WorkerPlace(
        index=1,
        count=2,
        channel=theirs.detach(),
        folder=str(tmp_path),
        journal=str(tmp_path / "journal.2"),
        is_journal_kept=False,
        counts=create(2),
    )

    def supervise() -> None:
        with ours, ours.makefile("rw") as channel:
            prefix = json.loads(channel.readline())["worker"]
            for message in ({"peers": {prefix: 1}, "version": 1}, {"listen": True}):
                channel.write(json.dumps(message) + "\n")
                channel.flush()
                channel.readline()
            # Signals for the supervisor do nothing.
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGHUP)
            with connect_client(port) as client:
                os.kill(os.getpid(), signal.SIGTERM)
                assert b"going away" in read_to_end(client)
            channel.readline()

    thread = threading.Thread(target=supervise)
    thread.start()
    flags = ["--ws-hostname", f"127.0.0.1:{port}", "--workers=2", "--max-connections=9"]
    assert main(flags, {"API_URI": backend.uri, PLACE_VARIABLE: place.to_text()}) == 0
    thread.join()
    assert place.counts is not None
    os.close(place.counts)
    assert backend.methods == ["POST", "DELETE"]
    assert all(" INFO worker 2: " in line for line in capfd.readouterr().err.splitlines())
