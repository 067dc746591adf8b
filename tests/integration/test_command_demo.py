"""The command with a journal, and the demo: their start, their output, and the files that stay."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import ThreadedBackend, environment, join_demo_room, run_wsaas, running_wsaas
from tests.support.journal import opened_journal, read_journal, write_journal
from tests.support.ports import free_port
from tests.support.waiting import TIMEOUT_S
from wsaas.cli import main as command
from wsaas.cli import ports
from wsaas.cli.main import main
from wsaas.delivery.journal import Entry
from wsaas.log import output

pytestmark = pytest.mark.usefixtures("_restored_process")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the user's state files, which does not exist yet."""
    folder = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


# A journal.


def test_a_journal_that_another_process_uses_is_status_1_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with opened_journal(path):
        done = run_wsaas(API_URI="localhost:8000/x", WS_HOSTNAME=f"127.0.0.1:{free_port()}", JOURNAL=str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"\S+ ERROR cannot use the journal: {path}: another process uses it\n", done.stderr)


def test_a_journal_that_cannot_be_used_is_status_1_in_this_process_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--api-uri", "x:1/", "--listen", "127.0.0.1:0", "--journal", str(tmp_path / "missing" / "journal")]
    assert main(flags, {}) == 1
    path = tmp_path / "missing" / "journal"
    assert re.fullmatch(
        rf"\S+ ERROR cannot use the journal: {path}: No such file or directory\n", capfd.readouterr().err
    )


def test_deletes_left_in_the_journal_are_exit_status_0_and_sent_at_the_next_start(
    backend: ThreadedBackend,
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    variables = {"API_URI": backend.uri, "JOURNAL": str(path)}
    with socket.socket() as nobody:
        # Bound but not listening: this reserves the backend's port and refuses connections.
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}/hook"
        silent = {**variables, "API_URI": address, "DRAIN_TIMEOUT": "300"}
        write_journal(path, Entry("a", "old/a", None, None, 1.0))
        with running_wsaas(**silent) as (process, port):
            assert get(f"http://127.0.0.1:{port}/readyz")[0] == 200
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert " ERROR " not in err
    assert [entry.id for entry in read_journal(path)] == ["a"]
    with running_wsaas(**variables) as (process, _):
        while backend.methods != ["DELETE"]:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert read_journal(path) == []


# State files.


def test_a_state_file_is_in_a_folder_of_its_own_that_only_its_user_can_enter(state: Path) -> None:
    expected = str(state / "wsaas" / "name")
    assert command.state_file("name") == expected
    assert command.state_file("name") == expected
    assert (state / "wsaas").stat().st_mode & 0o777 == 0o700
    assert not Path(expected).exists()


@pytest.mark.parametrize("variable", [None, ""])
def test_without_xdg_state_home_a_state_file_is_under_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable is None:
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_STATE_HOME", variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.state_file("name") == str(tmp_path / ".local" / "state" / "wsaas" / "name")


def test_where_no_folder_can_be_made_there_is_no_state_file(state: Path) -> None:
    state.touch()
    assert command.state_file("name") is None


def test_without_a_home_there_is_no_state_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert command.state_file("name") is None


# Ports.


def test_a_default_port_that_is_free_is_used() -> None:
    port = free_port()
    assert ports.free_port(port) == port


@pytest.mark.parametrize("listens", [True, False])
def test_another_port_is_used_where_the_default_one_is_taken(listens: bool) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if listens:
            taken.listen()
        port = taken.getsockname()[1]
        other = ports.free_port(port)
        assert other != port
        with socket.create_server(("127.0.0.1", other)):
            pass


# The demo.


def get(address: str) -> tuple[int, str]:
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310
        return answer.status, answer.read().decode()


def page_of(greeting: str) -> str:
    """Return the address of the page in a greeting."""
    found = re.fullmatch(
        r"\n  Open (http://localhost:\d+/) in two browser tabs"
        r"(?:, and http://\S+:\d+/console to look inside)?\. Ctrl-C stops everything\.\n\n",
        greeting,
    )
    assert found, greeting
    return found[1]


def gateway_of(page: str) -> int:
    """Return the port of the gateway to which a page connects."""
    status, text = get(page)
    assert status == 200
    assert text.startswith("<!doctype html>")
    found = re.fullmatch(r"localhost:(\d+)", json.loads(get(f"{page}config")[1])["gateway"])
    assert found
    return int(found[1])


def test_the_demo_as_a_command(tmp_path: Path) -> None:
    state = tmp_path / "state"
    # Not the usual ports: another process of the tests might take one between the search for a free one and its use.
    flags = ["--ws-hostname", f"localhost:{free_port()}", "--port", str(free_port())]
    with subprocess.Popen(
        [sys.executable, "-m", "wsaas", "demo", *flags],
        env=environment(XDG_STATE_HOME=str(state), API_URI="ignored:1/", LOG_LEVEL="ignored"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            page = page_of("".join(process.stdout.readline() for _ in range(3)))
            port = gateway_of(page)
            assert get(f"http://localhost:{port}/readyz")[0] == 200
            with join_demo_room(port) as client:
                (journal,) = (state / "wsaas").glob("*.journal")
                assert journal.stat().st_mode & 0o777 == 0o600
                said = b""
                while b'"members": ["ada"]' not in said:
                    said += client.recv(4096)
                process.send_signal(signal.SIGINT)
                while b"going away" not in said:
                    said += client.recv(4096)
            _, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0, err
    assert " ERROR " not in err
    assert "Traceback" not in err
    assert err.rstrip().endswith("stopped")
    assert journal.name == f"demo-{port}.journal"
    assert read_journal(journal) == []
    # The backend is gone too.
    with socket.socket() as visitor:
        assert visitor.connect_ex(("127.0.0.1", int(page.rpartition(":")[2].rstrip("/")))) != 0


class Visit:
    """Calls `act` with the address of the page once a demo in this process has announced it, then sends SIGINT."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[str], object]) -> None:
        self.failures: list[BaseException] = []
        self.act = act
        self.thread: threading.Thread | None = None
        monkeypatch.setattr(output, "announce", self.announce)

    def announce(self, text: str) -> None:
        self.thread = threading.Thread(target=self.visit, args=(text,))
        self.thread.start()

    def visit(self, greeting: str) -> None:
        try:
            self.act(page_of(greeting + "\n"))
        except BaseException as failure:  # noqa: BLE001
            self.failures.append(failure)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    def end(self) -> None:
        assert self.thread is not None
        self.thread.join()
        assert self.failures == []


def set_default_ports(monkeypatch: pytest.MonkeyPatch, gateway: int, backend_port: int) -> None:
    monkeypatch.setattr(command, "DEMO_PORT", gateway)
    monkeypatch.setattr(command, "DEMO_BACKEND_PORT", backend_port)


def test_the_demo_runs_on_its_default_ports_where_they_are_free(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    gateway, page_port = free_port(), free_port()
    set_default_ports(monkeypatch, gateway, page_port)

    def act(page: str) -> None:
        assert page == f"http://localhost:{page_port}/"
        assert gateway_of(page) == gateway
        with join_demo_room(gateway):
            assert (state / "wsaas" / f"demo-{gateway}.journal").exists()

    visit = Visit(monkeypatch, act)
    assert main(["demo"], {"API_URI": "ignored:1/"}) == 0
    visit.end()


def test_the_demo_runs_on_other_ports_where_the_default_ones_are_taken(
    monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = {first.getsockname()[1], second.getsockname()[1]}
        set_default_ports(monkeypatch, *taken)
        seen: list[int] = []

        def act(page: str) -> None:
            seen.extend([int(page.rpartition(":")[2].rstrip("/")), gateway_of(page)])
            assert get(f"http://localhost:{seen[1]}/healthz")[0] == 200

        visit = Visit(monkeypatch, act)
        assert main(["demo"], {}) == 0
        visit.end()
    assert not set(seen) & taken
    assert len(set(seen)) == 2
    assert (state / "wsaas" / f"demo-{seen[1]}.journal").exists()


def test_the_demo_runs_without_a_journal_where_no_state_folder_can_be_made(
    monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    state.touch()
    set_default_ports(monkeypatch, free_port(), free_port())
    visit = Visit(monkeypatch, gateway_of)
    assert main(["demo"], {}) == 0
    visit.end()


def test_flags_apply_to_the_demo_too(monkeypatch: pytest.MonkeyPatch, state: Path, tmp_path: Path) -> None:
    set_default_ports(monkeypatch, free_port(), free_port())
    port = free_port()
    journal = tmp_path / "mine"

    def act(page: str) -> None:
        assert gateway_of(page) == port
        assert journal.exists()

    visit = Visit(monkeypatch, act)
    assert main(["demo", "--ws-hostname", f"localhost:{port}", "--journal", str(journal)], {}) == 0
    visit.end()
    assert list((state / "wsaas").iterdir()) == []


def test_the_demo_runs_with_several_workers(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    gateway = free_port()
    set_default_ports(monkeypatch, gateway, free_port())

    def act(page: str) -> None:
        assert gateway_of(page) == gateway
        with join_demo_room(gateway), join_demo_room(gateway):
            names = {path.name for path in (state / "wsaas").glob("*.journal.?")}
            assert names == {f"demo-{gateway}.journal.1", f"demo-{gateway}.journal.2"}

    visit = Visit(monkeypatch, act)
    assert main(["demo", "--workers", "2"], {"WORKERS": "9"}) == 0
    visit.end()


def test_a_backend_that_cannot_start_is_status_1_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], state: Path
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert main(["demo"], {}) == 1
    assert capfd.readouterr() == ("", "wsaas: the example backend did not start\n")
    assert not state.exists()


@pytest.mark.parametrize("name", sorted(command.REFUSED_BY_DEMO))
def test_a_flag_that_a_demo_cannot_honour_is_status_2_and_named(
    name: str, capfd: pytest.CaptureFixture[str], state: Path
) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert main(["demo", flag, "x"], {}) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"wsaas: the demo brings its own backend and page: it cannot be used with {flag}\n"
    assert not state.exists()


def test_a_demo_names_the_variables_that_it_ignores(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], state: Path
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    variables = {"LOG_LEVEL": "DEBUG", "API_URI": "x", "CONTROL_TOKEN_FILE": "/x", "WS_TIMEOUT": "", "PATH": "/bin"}
    assert main(["demo"], variables) == 1
    first, _ = capfd.readouterr().err.splitlines()
    assert first == "wsaas: the demo ignores the environment (API_URI, LOG_LEVEL, CONTROL_TOKEN_FILE): use flags"
    assert not state.exists()


def test_a_bad_flag_of_a_demo_is_status_2_and_leaves_no_backend_behind(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], state: Path
) -> None:
    port = free_port()
    set_default_ports(monkeypatch, free_port(), port)
    assert main(["demo", "--log-level", "LOUD"], {}) == 2
    assert re.fullmatch(r"wsaas: LOG_LEVEL='LOUD': expected .*\n", capfd.readouterr().err)
    with socket.socket() as visitor:
        assert visitor.connect_ex(("127.0.0.1", port)) != 0
    assert not state.exists()
