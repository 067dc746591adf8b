"""The command `wsaas check`: its output, its exit status, and what it does not print."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.support.command import ThreadedBackend, environment, run_wsaas
from tests.support.demo import serving
from tests.support.ports import free_port
from tests.support.stage import load_settings
from tests.support.waiting import TIMEOUT_S
from wsaas.cli import arguments, check
from wsaas.cli.command_options import CheckOptions
from wsaas.cli.main import main
from wsaas.demo.server import DemoServer

pytestmark = pytest.mark.usefixtures("_restored_process")


@pytest.fixture
def name() -> str:
    """Where the check listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def backend() -> Iterator[ThreadedBackend]:
    with ThreadedBackend() as server, serving(server):
        yield server


def test_a_line_for_each_check_and_status_0(
    backend: ThreadedBackend, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", backend.uri], {"WS_HOSTNAME": name}) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, *lines, last = out.splitlines()
    assert first == f"Checking http://{backend.uri} for WS_HOSTNAME={name}"
    assert {line[:6] for line in lines} == {"OK    ", "WARN  "}
    # This server of Python closes each connection, and this backend does not push.
    assert [line.partition(":")[0] for line in lines if line.startswith("WARN")] == ["WARN  push", "WARN  keep-alive"]
    assert last == f"{len(lines) - 2} OK, 2 WARN, 0 FAIL"


def test_a_failure_is_status_1_and_what_was_not_tried_is_said(name: str) -> None:
    done = run_wsaas("check", API_URI="127.0.0.1:9/hook?key=s3cret", WS_HOSTNAME=name)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"Checking http://127.0.0.1:9/hook?(hidden) for WS_HOSTNAME={name}",
        "OK    DNS: 127.0.0.1 is an address",
        "FAIL  TCP: connection refused (127.0.0.1:9); start it, or correct API_URI",
        "1 OK, 0 WARN, 1 FAIL; the other checks were not tried",
    ]


def test_json_is_one_document(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["check", "--json", "http://127.0.0.1:9/hook?key=s3cret", "--ws-hostname", name]
    assert main(flags, {}) == 1
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert 0 <= document.pop("seconds") < TIMEOUT_S
    assert document == {
        "api_uri": "http://127.0.0.1:9/hook?(hidden)",
        "ws_hostname": name,
        "status": "FAIL",
        "complete": False,
        "findings": [
            {"status": "OK", "check": "DNS", "message": "127.0.0.1 is an address", "advice": ""},
            {
                "status": "FAIL",
                "check": "TCP",
                "message": "connection refused (127.0.0.1:9)",
                "advice": "start it, or correct API_URI",
            },
        ],
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "wsaas: API_URI is not set"),
        (["localhost:x/"], "wsaas: API_URI='localhost:x/': expected host:port/path"),
        (["https://localhost/hook", "--api-tls-ca", "/missing"], "wsaas: API_TLS_CA='/missing': cannot be read"),
    ],
)
def test_an_invalid_setting_is_status_2(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *flags], {}) == 2
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colors_are_for_terminals(name: str, no_color: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "wsaas", "check", "127.0.0.1:9/hook", "--ws-hostname", name]
    try:
        with subprocess.Popen(command, env=environment(NO_COLOR=no_color), stdout=theirs) as process:
            assert process.wait(TIMEOUT_S) == 1
        text = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert ("\x1b[32mOK\x1b[0m    DNS: " in text, "\x1b[31mFAIL\x1b[0m  TCP: " in text) == (not no_color, not no_color)


def test_ctrl_c_ends_the_check_at_once(name: str) -> None:
    held = threading.Event()

    class Holding(ThreadedBackend):
        def finish_request(self, *_: object) -> None:
            held.wait(TIMEOUT_S)

    with Holding() as server, serving(server):
        command = [sys.executable, "-m", "wsaas", "check", server.uri, "--ws-hostname", name]
        with subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            while "TCP" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            held.set()
            _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (130, "")


def test_a_reader_that_ends_is_no_traceback(name: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "wsaas", "check", "127.0.0.1:9/hook", "--ws-hostname", name]
    with subprocess.Popen(command, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (1, "")


def test_the_demo_passes_with_a_token_that_is_never_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    server = DemoServer("127.0.0.1", 0, "localhost:8080")
    with serving(server):
        uri = f"127.0.0.1:{server.server_port}/websocket"
        flags = ["check", uri, "--path", "/echo?token=s3cret", "--header", "X-Key: k3y5"]
        assert main(flags, {"WS_HOSTNAME": name}) == 0
        server.traffic.close()
    out = capsys.readouterr().out
    assert "0 WARN, 0 FAIL" in out
    assert "s3cret" not in out
    assert "k3y5" not in out


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (BrokenPipeError(), 1)])
def test_an_end_from_outside_has_a_status_and_no_traceback(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    replaced: list[tuple[int, int]] = []
    discarding = SimpleNamespace(
        devnull=os.devnull, O_WRONLY=os.O_WRONLY, open=lambda *_: -1, dup2=lambda *each: replaced.append(each)
    )
    monkeypatch.setattr("wsaas.cli.check.os", discarding)
    monkeypatch.setattr("wsaas.cli.check.settings.load", fail)
    assert main(["check"], {}) == status
    assert len(replaced) == (status == 1)


def test_only_the_status_is_colored(capsys: pytest.CaptureFixture[str]) -> None:
    options = arguments.parse(["check"]).options
    assert isinstance(options, CheckOptions)
    report = check.make_report(load_settings(), options, shows=True, is_colored=True)
    report.ok("a", "b")
    report.warn("c", "d", "e")
    report.fail("f", "g", "")
    assert capsys.readouterr().out == (
        "\x1b[32mOK\x1b[0m    a: b\n\x1b[33mWARN\x1b[0m  c: d; e\n\x1b[31mFAIL\x1b[0m  f: g\n"
    )
