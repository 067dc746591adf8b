"""The service in deploy/systemd, started by a real systemd."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.sync.client import ClientConnection, connect

from tests.support.command import ThreadedBackend
from tests.systemd.machine import Machine, skip_unless_possible

pytestmark = pytest.mark.systemd
DROP_IN = "/etc/systemd/system/wsaas.service.d/test.conf"
TOKEN = "/etc/wsaas/control_token"
SOCKETS = ("wsaas.socket", "wsaas-control.socket")


@pytest.fixture(scope="module")
def backend() -> Iterator[ThreadedBackend]:
    made = ThreadedBackend()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(scope="module")
def machine(backend: ThreadedBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    skip_unless_possible()
    made = Machine(tmp_path_factory.mktemp("machine"))
    made.configure(API_URI=backend.uri, DRAIN_TIMEOUT=4000, CONTROL_TOKEN_FILE=TOKEN)
    made.put(TOKEN[1:], "first-token\n")
    made.put(DROP_IN[1:], "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=5s\n")
    try:
        made.boot()
        made.run("systemctl", "start", *SOCKETS)
        yield made
    finally:
        made.kill()


@pytest.fixture
def service(machine: Machine, backend: ThreadedBackend) -> Iterator[Machine]:
    """The service, which runs."""
    machine.run("systemctl", "start", *SOCKETS, "wsaas.service")
    backend.methods.clear()
    yield machine
    machine.run("systemctl", "stop", *SOCKETS, "wsaas.service")


def client(machine: Machine) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{machine.port}/", proxy=None)


def status(machine: Machine, token: str) -> int:
    """Return the status of a REST request."""
    url = f"http://127.0.0.1:{machine.control_port}/connections"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own URL
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_units_are_correct(machine: Machine) -> None:
    units = [f"/etc/systemd/system/{name}" for name in ("wsaas.service", *SOCKETS)]
    machine.run("systemd-analyze", "verify", "--man=no", *units)


def test_the_service_has_started_when_it_accepts_clients(service: Machine) -> None:
    assert service.show("ActiveState") == "active"
    assert service.show("StatusText").startswith("0 clients, listening on 127.0.0.1:")
    with client(service):
        service.wait(lambda: service.show("StatusText").startswith("1 client,"), "the status to be renewed")
    assert "journal" in service.run("ls", "/var/lib/wsaas")
    assert service.run("stat", "-c", "%U %a", "/var/lib/wsaas").split() == ["wsaas", "700"]
    line = service.journal("-u", "wsaas", "-o", "verbose", "-g", "listening on")
    assert "PRIORITY=6" in line
    assert "MESSAGE=2" in line


def test_several_sockets_may_be_for_clients(machine: Machine) -> None:
    drop_in = "/etc/systemd/system/wsaas.socket.d/address.conf"
    machine.write(
        drop_in, f"[Socket]\nListenStream=/run/wsaas.sock\nSocketMode=0660\nListenStream=@wsaas-{machine.port}\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", *SOCKETS, "wsaas.service")
    asked = ("curl", "--silent", "--fail-with-body", "http://localhost/")
    answers = [
        machine.run(*asked, "--unix-socket", "/run/wsaas.sock", ok=False),
        machine.run(*asked, "--abstract-unix-socket", f"wsaas-{machine.port}", ok=False),
    ]
    assert ["This address serves only WebSockets" in each for each in answers] == [True, True], answers
    with client(machine) as ws:
        ws.ping().wait(20)
    machine.run("systemctl", "stop", *SOCKETS, "wsaas.service")
    machine.run("rm", drop_in)
    machine.run("systemctl", "daemon-reload")


def test_a_client_starts_the_service(machine: Machine) -> None:
    machine.run("systemctl", "start", *SOCKETS)
    assert machine.show("ActiveState") == "inactive"
    with client(machine) as ws:
        ws.ping().wait(20)
    assert machine.show("ActiveState") == "active"
    machine.run("systemctl", "stop", *SOCKETS, "wsaas.service")


def test_reload_reads_the_files_again(service: Machine) -> None:
    process = service.show("MainPID")
    assert status(service, "first-token") == 200
    service.write(TOKEN, "second-token\n")
    service.run("systemctl", "reload", "wsaas.service")
    service.wait(lambda: status(service, "second-token") == 200, "the new token")
    assert status(service, "first-token") == 401
    service.wait(lambda: service.show("ActiveState") == "active", "the reload to end")
    service.write(TOKEN, "not a token\n")
    service.run("systemctl", "reload", "wsaas.service")
    service.wait(lambda: service.show("StatusText").endswith("see the log"), "the status of a failed reload")
    service.write(TOKEN, "first-token\n")
    service.run("systemctl", "reload", "wsaas.service")
    service.wait(lambda: status(service, "first-token") == 200, "the first token")
    assert service.show("MainPID") == process


def test_a_restart_refuses_nobody(service: Machine, backend: ThreadedBackend) -> None:
    with client(service) as old, client(service) as other:
        restart = threading.Thread(target=service.run, args=("systemctl", "restart", "wsaas.service"))
        restart.start()
        with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as closed:
            old.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        # The old process drains, or is gone, or the new one starts.
        with client(service) as new:
            new.ping().wait(20)
            assert status(service, "first-token") == 200
        with pytest.raises((ConnectionClosedOK, ConnectionClosedError)):
            other.recv(20)
        restart.join()
    assert service.show("Result") == "success"
    service.wait(lambda: backend.methods.count("DELETE") == 3, "the DELETEs")


def test_a_process_that_hangs_is_replaced(service: Machine, backend: ThreadedBackend) -> None:
    with client(service) as lost:
        process, before = service.show("MainPID"), int(service.show("NRestarts"))
        service.run("kill", "-STOP", process)
        with pytest.raises(ConnectionClosedError):
            lost.recv(20)
    service.wait(lambda: int(service.show("NRestarts")) == before + 1, "another start")
    service.wait(lambda: service.show("ActiveState") == "active", "the service to be active")
    assert service.show("MainPID") != process
    with client(service) as ws:
        ws.ping().wait(20)
    # The next process has read the journal.
    service.wait(lambda: backend.methods.count("DELETE") == 2, "the DELETEs")
    said = service.journal("-u", "wsaas")
    assert "Watchdog timeout" in said
    assert "Fatal Python error: Aborted" in said


def test_a_stop_delivers_everything(service: Machine, backend: ThreadedBackend) -> None:
    with client(service) as ws:
        service.run("systemctl", "stop", *SOCKETS, "wsaas.service")
        with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as closed:
            ws.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
    assert backend.methods == ["POST", "DELETE"]
    assert service.show("Result") == "success"
    assert service.show("ActiveState") == "inactive"
    with pytest.raises(ConnectionRefusedError):
        client(service)


def test_a_wrong_setting_is_not_tried_again(machine: Machine) -> None:
    machine.write(DROP_IN.replace("test", "wrong"), "[Service]\nEnvironment=WS_TIMEOUT=soon\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "wsaas.service", ok=False)
    assert machine.show("ActiveState") == "failed"
    assert machine.show("ExecMainStatus") == "2"
    assert "WS_TIMEOUT='soon': expected" in machine.journal("-u", "wsaas")
    machine.run("rm", DROP_IN.replace("test", "wrong"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", "stop", *SOCKETS)


@pytest.fixture
def workers(machine: Machine) -> Iterator[Machine]:
    """The service with two workers."""
    name = DROP_IN.replace("test", "workers")
    machine.write(name, "[Service]\nEnvironment=WORKERS=2\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", *SOCKETS, "wsaas.service")
    yield machine
    machine.run("systemctl", "stop", *SOCKETS, "wsaas.service")
    machine.run("rm", name)
    machine.run("systemctl", "daemon-reload")


def test_workers_share_the_sockets(workers: Machine) -> None:
    assert workers.show("StatusText").startswith("2 of 2 workers listen on 127.0.0.1:")
    with client(workers) as ws:
        ws.ping().wait(20)
        assert status(workers, "first-token") == 200
        workers.write(TOKEN, "third-token\n")
        workers.run("systemctl", "reload", "wsaas.service")
        workers.wait(lambda: status(workers, "third-token") == 200, "the new token")
        workers.wait(lambda: workers.show("ActiveState") == "active", "the reload to end")
        # Both workers have it now, whichever is asked.
        assert {status(workers, "third-token") for _ in range(20)} == {200}
        workers.write(TOKEN, "first-token\n")


def test_workers_drain_when_their_supervisor_is_killed(workers: Machine, backend: ThreadedBackend) -> None:
    process, deleted = workers.show("MainPID"), backend.methods.count("DELETE")
    with ExitStack() as stack:
        # A worker closes one after the other, for which it needs time.
        clients = [stack.enter_context(client(workers)) for _ in range(12)]
        workers.run("kill", "-KILL", process)
        for ws in clients:
            with pytest.raises((ConnectionClosedOK, ConnectionClosedError)) as closed:
                ws.recv(20)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
    workers.wait(lambda: workers.show("StatusText").startswith("2 of 2"), "the workers")
    assert workers.show("MainPID") != process
    assert backend.methods.count("DELETE") == deleted + 12


def test_a_supervisor_that_hangs_is_replaced_with_its_workers(workers: Machine) -> None:
    process, before = workers.show("MainPID"), int(workers.show("NRestarts"))
    workers.run("kill", "-STOP", process)
    workers.wait(lambda: int(workers.show("NRestarts")) == before + 1, "another start")
    workers.wait(lambda: workers.show("StatusText").startswith("2 of 2"), "the workers")
    assert workers.show("MainPID") != process
    with client(workers) as ws:
        ws.ping().wait(20)
